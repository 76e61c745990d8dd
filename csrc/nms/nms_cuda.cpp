// Non-maximum suppression on CUDA tensors: sorting, workspace, and the kernels of nms.cu.
#include "cuda_stream.h"
#include "library.h"
#include "nms/launch.h"
#include "nms/sorted.h"
#include "nms/threshold.h"

namespace mrcnn {
namespace {

Tensor empty_like_of(const Tensor& like, int64_t size, ScalarType type) {
  return torch::stable::new_empty(like, {&size, 1}, type);
}

// The entries of `rows` whose `kept` is true. How many there are decides the result's shape: the one wait of this op.
Tensor masked_select(const Tensor& rows, const Tensor& kept) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(rows), torch::stable::detail::from(kept)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::masked_select", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

template <typename Real>
Tensor nms_sorted(const SortedInput& input, double iou_threshold, void* stream) {
  const int64_t n = input.order.numel();
  const Tensor boxes = select_rows(input.boxes, input.order);
  const int64_t* groups = input.groups ? input.groups->const_data_ptr<int64_t>() : nullptr;
  const NmsProblem<Real> problem{boxes.const_data_ptr<Real>(), groups, n, round_down<Real>(iou_threshold)};

  Tensor dropped = empty_like_of(input.order, (n + 31) / 32, ScalarType::Int);
  torch::stable::zero_(dropped);
  const Tensor overlaps = empty_like_of(input.order, nms_strip / 32 * nms_strip, ScalarType::Int);
  const Tensor survivors = empty_like_of(input.order, nms_strip, ScalarType::Long);
  const Tensor survivor_count = empty_like_of(input.order, 1, ScalarType::Int);
  auto* dropped_words = static_cast<unsigned*>(dropped.mutable_data_ptr());
  launch_nms(problem,
             {dropped_words, static_cast<unsigned*>(overlaps.mutable_data_ptr()), survivors.mutable_data_ptr<int64_t>(),
              survivor_count.mutable_data_ptr<int32_t>()},
             stream);

  const Tensor kept = empty_like_of(input.order, n, ScalarType::Bool);
  const Tensor rows = empty_like_of(input.order, n, ScalarType::Long);
  launch_nms_collect(dropped_words, input.order.const_data_ptr<int64_t>(),
                     input.rank ? input.rank->const_data_ptr<int64_t>() : nullptr, n, kept.mutable_data_ptr<bool>(),
                     rows.mutable_data_ptr<int64_t>(), stream);
  return masked_select(rows, kept);
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold, const std::optional<Tensor>& groups) {
  const OnDeviceOf device(boxes);
  const SortedInput input = sort_input(boxes, scores, groups);
  return boxes.scalar_type() == ScalarType::Double ? nms_sorted<double>(input, iou_threshold, device.stream())
                                                   : nms_sorted<float>(input, iou_threshold, device.stream());
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, MRCNN_CUDA_KEY, m) { m.impl("nms", TORCH_BOX(&mrcnn::nms)); }
