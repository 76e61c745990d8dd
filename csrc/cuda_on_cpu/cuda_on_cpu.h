// The one header that a .cu file of ours includes: CUDA itself under nvcc, its likeness on the CPU under any other
// compiler. Everything but the two macros below is ordinary CUDA.
//
//   CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
//       kernel<<<grid, block, shared_bytes, stream>>>(arguments...), and an exception naming the kernel if that failed.
//       Put a template's name in brackets: CUDA_LAUNCH((scale<float, 4>), ...).
//   DYNAMIC_SHARED(type, name)
//       extern __shared__ type name[];
#pragma once

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

inline void check_launch(cudaError_t error, const char* kernel) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("launching ") + kernel + ": " + cudaGetErrorString(error));
}

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)    \
  do {                                                                 \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__); \
    check_launch(cudaGetLastError(), #kernel);                         \
  } while (0)

#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]

#else
#include "device.h"
#endif
