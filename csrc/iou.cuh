// Intersection over union on the GPU, rounded as everywhere else: nvcc would fuse a multiply and an add into one
// rounding, but leaves __fmul_rn alone.
#pragma once

#include "cuda_on_cpu/cuda_on_cpu.h"

namespace mrcnn {

__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }

template <typename Real>
struct alignas(16) Box {  // read 16 bytes at a time
  Real x1, y1, x2, y2;

  __device__ Real area() const { return times(x2 - x1, y2 - y1); }
};

template <typename Real>
__device__ inline Real iou(const Box<Real>& a, const Box<Real>& b) {
  const Real width = max(min(a.x2, b.x2) - max(a.x1, b.x1), Real(0));
  const Real height = max(min(a.y2, b.y2) - max(a.y1, b.y1), Real(0));
  const Real inter = times(width, height);
  return inter / (a.area() + b.area() - inter);
}

}  // namespace mrcnn
