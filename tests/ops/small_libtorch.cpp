// What our kernels need of libtorch, in little: for processors whose libtorch is not at hand, and for sanitizers, which
// see all of a program made so, its threads too.
//
// The kernels speak PyTorch's stable ABI, a few C functions. Those that they call are here, over the simplest of
// tensors; any other stays unresolved (the linker is told so), and is never reached. The program runs one op:
//
//   kernels OP OUTPUTS < arguments > results      the form of both is that of small_libtorch.py
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

using torch::headeronly::ScalarType;
using Shape = std::vector<int64_t>;

struct AtenTensorOpaque {
  std::shared_ptr<std::vector<char>> memory;
  int32_t dtype;
  Shape sizes, strides;
};

struct StableListOpaque {
  std::vector<StableIValue> items;
};

namespace small_libtorch {

using torch::stable::Tensor;
using torch::stable::detail::from, torch::stable::detail::to;

using Kernel = void (*)(StableIValue*, uint64_t, uint64_t);
std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

int64_t count(const Shape& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t(1), std::multiplies<>());
}

int64_t bytes_per_number(int32_t dtype) {
  switch (static_cast<ScalarType>(dtype)) {
    case ScalarType::Half:
    case ScalarType::BFloat16: return 2;
    case ScalarType::Bool: return 1;
    case ScalarType::Int:
    case ScalarType::Float: return 4;
    default: return 8;  // float64 and int64
  }
}

Shape strides_of(const Shape& sizes, bool channels_last) {
  Shape order(sizes.size()), strides(sizes.size());  // of dimensions, from the innermost
  for (size_t i = 0; i < order.size(); i++) order[i] = order.size() - 1 - i;
  if (channels_last) order = {1, 3, 2, 0};
  int64_t stride = 1;
  for (const int64_t dimension : order) {
    strides[dimension] = stride;
    stride *= sizes[dimension];
  }
  return strides;
}

Tensor make(const Shape& sizes, int32_t dtype, bool channels_last = false) {
  auto memory = std::make_shared<std::vector<char>>(count(sizes) * bytes_per_number(dtype));
  return Tensor(new AtenTensorOpaque{memory, dtype, sizes, strides_of(sizes, channels_last)});
}

// Copies element by element, whatever the strides.
Tensor laid_out(const Tensor& source, bool channels_last) {
  const AtenTensorOpaque& of = *source.get();
  Tensor result = make(of.sizes, of.dtype, channels_last);
  const int64_t bytes = bytes_per_number(of.dtype);
  for (int64_t i = 0; i < count(of.sizes); i++) {
    int64_t rest = i, there = 0, here = 0;
    for (int64_t d = of.sizes.size() - 1; d >= 0; d--) {
      there += rest % of.sizes[d] * of.strides[d], here += rest % of.sizes[d] * result.get()->strides[d];
      rest /= of.sizes[d];
    }
    std::copy_n(of.memory->data() + there * bytes, bytes, result.get()->memory->data() + here * bytes);
  }
  return result;
}

// Rows of equal size; a NaN counts as the largest, as in torch.sort.
template <typename value_t>
void sort_into(const Tensor& values, bool descending, Tensor& sorted, Tensor& rows) {
  const value_t* value = values.const_data_ptr<value_t>();
  int64_t* row = rows.mutable_data_ptr<int64_t>();
  std::iota(row, row + values.numel(), 0);
  auto less = [](value_t a, value_t b) { return b != b ? a == a : a < b; };
  std::stable_sort(row, row + values.numel(), [&](int64_t a, int64_t b) {
    return descending ? less(value[b], value[a]) : less(value[a], value[b]);
  });
  for (int64_t i = 0; i < values.numel(); i++) sorted.mutable_data_ptr<value_t>()[i] = value[row[i]];
}

void sort(StableIValue* stack) {
  const Tensor values = to<Tensor>(stack[0]);
  Tensor sorted = make(values.get()->sizes, values.get()->dtype);
  Tensor rows = make(values.get()->sizes, int32_t(ScalarType::Long));
  to<std::optional<bool>>(stack[1]);
  const bool descending = to<bool>(stack[3]);
  switch (values.scalar_type()) {
    case ScalarType::Float: sort_into<float>(values, descending, sorted, rows); break;
    case ScalarType::Double: sort_into<double>(values, descending, sorted, rows); break;
    default: sort_into<int64_t>(values, descending, sorted, rows);
  }
  stack[0] = from(sorted), stack[1] = from(rows);
}

void select_rows(StableIValue* stack) {
  const Tensor values = to<Tensor>(stack[0]), rows = to<Tensor>(stack[2]);
  Shape sizes = values.get()->sizes;
  sizes[0] = rows.numel();
  Tensor result = make(sizes, values.get()->dtype);
  const int64_t bytes = bytes_per_number(values.get()->dtype) * values.numel() / values.get()->sizes[0];
  for (int64_t i = 0; i < rows.numel(); i++)
    std::copy_n(
        values.get()->memory->data() + rows.const_data_ptr<int64_t>()[i] * bytes, bytes,
        result.get()->memory->data() + i * bytes);
  stack[0] = from(result);
}

void contiguous(StableIValue* stack) {
  stack[0] = from(laid_out(to<Tensor>(stack[0]), to<int32_t>(stack[1]) == aoti_torch_memory_format_channels_last()));
}

void empty(StableIValue* stack) {
  const auto dtype = to<std::optional<int32_t>>(stack[1]), format = to<std::optional<int32_t>>(stack[5]);
  to<std::optional<int64_t>>(stack[3]);
  stack[0] = from(make(to<Shape>(stack[0]), *dtype, format == aoti_torch_memory_format_channels_last()));
}

void new_empty(StableIValue* stack) {
  const Tensor like = to<Tensor>(stack[0]);
  const auto dtype = to<std::optional<int32_t>>(stack[2]);
  stack[0] = from(make(to<Shape>(stack[1]), dtype.value_or(like.get()->dtype)));
}

// What the emulated CUDA kernels ask for beside these.

void zero(StableIValue* stack) {
  const Tensor tensor = to<Tensor>(stack[0]);
  std::fill(tensor.get()->memory->begin(), tensor.get()->memory->end(), 0);
  stack[0] = from(tensor);
}

void clone(StableIValue* stack) {
  const Tensor source = to<Tensor>(stack[0]);
  to<std::optional<int32_t>>(stack[1]);
  stack[0] = from(laid_out(source, false));
}

void masked_select(StableIValue* stack) {  // of int64, without strides
  const Tensor values = to<Tensor>(stack[0]), chosen = to<Tensor>(stack[1]);
  Shape kept;
  for (int64_t i = 0; i < values.numel(); i++)
    if (chosen.const_data_ptr<bool>()[i]) kept.push_back(values.const_data_ptr<int64_t>()[i]);
  Tensor result = make({int64_t(kept.size())}, int32_t(ScalarType::Long));
  std::copy(kept.begin(), kept.end(), result.mutable_data_ptr<int64_t>());
  stack[0] = from(result);
}

template <typename value_t>
void round_into(Tensor& rounded, const Tensor& exact) {
  std::copy_n(exact.const_data_ptr<float>(), exact.numel(), rounded.mutable_data_ptr<value_t>());
}

void copy(StableIValue* stack) {  // of float32 into half precision, in the same layout
  Tensor rounded = to<Tensor>(stack[0]);
  const Tensor exact = to<Tensor>(stack[1]);
  if (rounded.get()->strides != exact.get()->strides) std::abort();
  if (rounded.scalar_type() == ScalarType::Half) round_into<torch::headeronly::Half>(rounded, exact);
  else round_into<torch::headeronly::BFloat16>(rounded, exact);
  stack[0] = from(rounded);
}

// ---- arguments and results ---------------------------------------------------------------------------------

template <typename T>
std::vector<T> read(int64_t how_many) {
  std::vector<T> values(how_many);
  if (std::fread(values.data(), sizeof(T), how_many, stdin) != size_t(how_many)) std::abort();
  return values;
}

template <typename T>
void write(const std::vector<T>& values) {
  std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

Tensor read_tensor() {
  const Shape head = read<int64_t>(3);  // dtype, dimensions, bytes
  const Shape sizes = read<int64_t>(head[1]), strides = read<int64_t>(head[1]);
  auto memory = std::make_shared<std::vector<char>>(read<char>(head[2]));
  return Tensor(new AtenTensorOpaque{memory, int32_t(head[0]), sizes, strides});
}

void write_tensor(const Tensor& tensor) {
  const AtenTensorOpaque& all = *tensor.get();
  write(Shape{all.dtype, int64_t(all.sizes.size()), int64_t(all.memory->size())});
  write(all.sizes), write(all.strides), write(*all.memory);
}

StableIValue read_argument() {
  switch (read<char>(1)[0]) {
    case 't': return from(read_tensor());
    case 'o': return from(std::optional<Tensor>(read_tensor()));
    case 'd': return from(read<double>(1)[0]);
    default: return from(read<int64_t>(1)[0]);  // bool too; and 0 for an optional that is not there
  }
}

void run(const char* op, uint64_t results) {
  const uint64_t arguments = read<int64_t>(1)[0];
  std::vector<StableIValue> stack(std::max(arguments, results));
  for (uint64_t i = 0; i < arguments; i++) stack[i] = read_argument();
  kernels().at(op)(stack.data(), arguments, results);
  for (uint64_t i = 0; i < results; i++) write_tensor(to<Tensor>(stack[i]));
}

}  // namespace small_libtorch

int main(int, char** words) { small_libtorch::run(words[1], std::atoi(words[2])); }

// ---- the C functions ---------------------------------------------------------------------------------------

using namespace small_libtorch;

extern "C" {

#define NUMBER(name, value) \
  int32_t aoti_torch_##name() { return int32_t(value); }
NUMBER(dtype_uint8, ScalarType::Byte)
NUMBER(dtype_int8, ScalarType::Char)
NUMBER(dtype_int16, ScalarType::Short)
NUMBER(dtype_int32, ScalarType::Int)
NUMBER(dtype_int64, ScalarType::Long)
NUMBER(dtype_float16, ScalarType::Half)
NUMBER(dtype_float32, ScalarType::Float)
NUMBER(dtype_float64, ScalarType::Double)
NUMBER(dtype_complex32, ScalarType::ComplexHalf)
NUMBER(dtype_complex64, ScalarType::ComplexFloat)
NUMBER(dtype_complex128, ScalarType::ComplexDouble)
NUMBER(dtype_bool, ScalarType::Bool)
NUMBER(dtype_bfloat16, ScalarType::BFloat16)
NUMBER(device_type_cpu, 0)
NUMBER(memory_format_contiguous_format, 0)
NUMBER(memory_format_channels_last, 2)

uint64_t aoti_torch_abi_version() { return TORCH_ABI_VERSION; }

// Registration: only the kernels are kept.
AOTITorchError aoti_torch_library_init_def(const char*, const char*, uint32_t, TorchLibraryHandle*) { return 0; }
AOTITorchError aoti_torch_library_init_fragment(const char*, const char*, uint32_t, TorchLibraryHandle*) { return 0; }
AOTITorchError aoti_torch_library_init_impl(const char*, const char*, const char*, uint32_t, TorchLibraryHandle*) {
  return 0;
}
AOTITorchError aoti_torch_library_def(TorchLibraryHandle, const char*) { return 0; }
AOTITorchError aoti_torch_delete_library_object(TorchLibraryHandle) { return 0; }
AOTITorchError torch_library_impl(TorchLibraryHandle, const char* name, Kernel kernel, uint64_t) {
  kernels()[name] = kernel;
  return 0;
}

#define GET(name, type, expression)                                           \
  AOTITorchError aoti_torch_get_##name(AtenTensorHandle tensor, type* result) { \
    *result = expression;                                                     \
    return 0;                                                                 \
  }
GET(dtype, int32_t, tensor->dtype)
GET(dim, int64_t, tensor->sizes.size())
GET(numel, int64_t, count(tensor->sizes))
GET(device_type, int32_t, 0)
GET(device_index, int32_t, 0)
AOTITorchError aoti_torch_get_size(AtenTensorHandle tensor, int64_t d, int64_t* result) {
  *result = tensor->sizes[d];
  return 0;
}
AOTITorchError aoti_torch_get_stride(AtenTensorHandle tensor, int64_t d, int64_t* result) {
  *result = tensor->strides[d];
  return 0;
}
AOTITorchError aoti_torch_is_contiguous(AtenTensorHandle tensor, bool* result) {
  const Shape plain = strides_of(tensor->sizes, false);
  *result = true;
  for (size_t d = 0; d < plain.size(); d++) *result &= tensor->sizes[d] == 1 || tensor->strides[d] == plain[d];
  return 0;
}
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle tensor, const void** result) {
  *result = tensor->memory->data();
  return 0;
}
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle tensor, void** result) {
  *result = tensor->memory->data();
  return 0;
}
AOTITorchError aoti_torch_new_tensor_handle(AtenTensorHandle tensor, AtenTensorHandle* result) {
  *result = new AtenTensorOpaque(*tensor);
  return 0;
}
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle tensor) {
  delete tensor;
  return 0;
}

AOTITorchError torch_new_list_reserve_size(size_t, StableListHandle* result) {
  *result = new StableListOpaque;
  return 0;
}
AOTITorchError torch_list_push_back(StableListHandle list, StableIValue item) {
  list->items.push_back(item);
  return 0;
}
AOTITorchError torch_list_size(StableListHandle list, size_t* result) {
  *result = list->items.size();
  return 0;
}
AOTITorchError torch_list_get_item(StableListHandle list, size_t i, StableIValue* result) {
  *result = list->items[i];
  return 0;
}
AOTITorchError torch_delete_list(StableListHandle list) {
  delete list;
  return 0;
}

// Three threads, each with its stretch.
AOTITorchError torch_get_num_threads(uint32_t* result) {
  *result = 3;
  return 0;
}
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain, ParallelFunc call, void* context) {
  const int64_t stretch = std::max(grain, (end - begin + 2) / 3);
  std::vector<std::thread> threads;
  for (; begin < end; begin += stretch) threads.emplace_back(call, begin, std::min(begin + stretch, end), context);
  for (std::thread& thread : threads) thread.join();
  return 0;
}

AOTITorchError torch_call_dispatcher(const char* name, const char*, StableIValue* stack, uint64_t) {
  const std::map<std::string, void (*)(StableIValue*)> operators{
      {"aten::sort", sort},       {"aten::index_select", select_rows}, {"aten::contiguous", contiguous},
      {"aten::empty", empty},     {"aten::new_empty", new_empty},      {"aten::zero_", zero},
      {"aten::clone", clone},     {"aten::copy_", copy},               {"aten::masked_select", masked_select},
  };
  operators.at(name)(stack);
  return 0;
}

}  // extern "C"
