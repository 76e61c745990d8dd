// Lets Python launch the kernels, and call the host functions, of a source it has had compiled.
// mrcnn/lab/cuda/program.py writes the `extern "C"` lines that use these.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "cuda_on_cpu/cuda_on_cpu.h"

#ifdef __CUDACC__  // the same calls for a GPU
namespace cuda_on_cpu {
template <class... P, class... A>
void launch(const char* name, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(P...), A... arguments) {
  kernel<<<grid, block, shared_bytes>>>(arguments...);
  check_launch(cudaGetLastError(), name);
}
}  // namespace cuda_on_cpu
#endif

namespace cuda_on_cpu::python {

// One letter per parameter, as in Python's struct module; P is a pointer, with the bytes of what it points to, and
// anything else its size in bytes.
template <class T>
std::string code() {
  if constexpr (std::is_pointer_v<T>) {
    if constexpr (std::is_void_v<std::remove_pointer_t<T>>) return "P1";
    else return "P" + std::to_string(sizeof(std::remove_pointer_t<T>));
  }
  if (std::is_same_v<T, bool>) return "?";
  if (std::is_same_v<T, float>) return "f";
  if (std::is_same_v<T, double>) return "d";
  const char* integers = std::is_signed_v<T> ? "bhiq" : "BHIQ";  // of 1, 2, 4 and 8 bytes
  if (std::is_integral_v<T>) return std::string(1, integers[sizeof(T) / 2 - sizeof(T) / 8]);
  return std::to_string(sizeof(T)) + "s";
}

template <class... P>
const char* signature(void (*)(P...)) {
  static const std::string codes = ((code<P>() + " ") + ... + std::string());
  return codes.c_str();
}

template <class F>
const char* message_of(F&& f) {  // nullptr when all went well
  static std::string message;
  try {
    f();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

template <class... P, size_t... I>
void call(void (*function)(P...), void** arguments, std::index_sequence<I...>) {
  function(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
}

template <class... P, size_t... I>
void launch(const char* name, void (*kernel)(P...), const unsigned* shape, size_t shared_bytes, void** arguments,
            std::index_sequence<I...>) {
  const dim3 grid(shape[0], shape[1], shape[2]), block(shape[3], shape[4], shape[5]);
  cuda_on_cpu::launch(name, grid, block, shared_bytes, kernel, *static_cast<std::remove_const_t<P>*>(arguments[I])...);
}

// shape: grid and block of a kernel, or null for a host function.
template <class... P>
const char* enter(const char* name, void (*function)(P...), const unsigned* shape, size_t shared_bytes,
                  void** arguments) {
  return message_of([&] {
    if (shape)
      launch(name, function, shape, shared_bytes, arguments, std::index_sequence_for<P...>());
    else
      call(function, arguments, std::index_sequence_for<P...>());
  });
}

}  // namespace cuda_on_cpu::python
