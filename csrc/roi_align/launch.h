// What roi_align.cu offers to roi_align_cuda.cpp: RoIAlign on raw pointers.
#pragma once

#include <cstdint>

#include "roi_align/limits.h"

namespace mrcnn {

template <typename T>
struct Sums {  // in what sums of T are kept, and in what coordinates come
  using Type = float;
};
template <>
struct Sums<double> {
  using Type = double;
};

// A map (N or K, C, H or ph, W or pw); strides in elements, so that any layout will do.
struct Map {
  int64_t channels;
  int height, width;
  int64_t stride_n, stride_c, stride_y, stride_x;
};

struct PoolProblem {
  Map features;  // or their gradient
  Map pooled;    // or its gradient
  int64_t images, rois;
  double scale;
  int sampling_ratio;  // at most most_samples
  bool aligned;
};

template <typename T>
void launch_roi_align(const T* features, const typename Sums<T>::Type* rois, T* pooled, const PoolProblem&,
                      void* stream);

// Adds to `grad_features`, which begins as zeros; in any order.
template <typename T>
void launch_roi_align_scatter(const T* grad_pooled, const typename Sums<T>::Type* rois,
                              typename Sums<T>::Type* grad_features, const PoolProblem&, void* stream);

// Writes `grad_features`, the same bits every time.
template <typename T>
void launch_roi_align_gather(const T* grad_pooled, const typename Sums<T>::Type* rois, T* grad_features,
                             const PoolProblem&, void* stream);

}  // namespace mrcnn
