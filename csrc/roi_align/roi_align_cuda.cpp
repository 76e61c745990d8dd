// RoIAlign on CUDA tensors: checks, allocations, and the kernels of roi_align.cu.
#include "checks.h"
#include "cuda_stream.h"
#include "library.h"
#include "roi_align/launch.h"

namespace mrcnn {
namespace {

Map map_of(const Tensor& tensor) {
  return {tensor.size(1),   static_cast<int>(tensor.size(2)), static_cast<int>(tensor.size(3)),
          tensor.stride(0), tensor.stride(1),                 tensor.stride(2),
          tensor.stride(3)};
}

// A map's sides are counted in 32 bits, positions in memory in 64.
void check_sides(int64_t height, int64_t width) {
  for (int64_t side : {height, width})
    STD_TORCH_CHECK(side < 1 << 30, "maps must have sides below 2^30; got ", side);
}

// A sampling_ratio that has been checked, in 32 bits: any number below 1 means the same.
int narrow(int64_t sampling_ratio) { return sampling_ratio < 1 ? 0 : static_cast<int>(sampling_ratio); }

template <typename T>
Tensor forward(const Tensor& features, const Tensor& rois, Tensor pooled, const PoolProblem& pooling, void* stream) {
  launch_roi_align(
      features.const_data_ptr<T>(), rois.const_data_ptr<typename Sums<T>::Type>(), pooled.mutable_data_ptr<T>(),
      pooling, stream);
  return pooled;
}

Tensor roi_align(
    const Tensor& features, const Tensor& rois, double spatial_scale, int64_t ph, int64_t pw, int64_t sampling_ratio,
    bool aligned) {
  check_pooling("features", features, rois, ph, pw, sampling_ratio);
  check_sides(features.size(2), features.size(3));
  const OnDeviceOf device(features);
  const Tensor out = empty_map(features, rois.size(0), features.size(1), ph, pw, is_channels_last(features));
  const PoolProblem pooling{map_of(features), map_of(out), features.size(0),       rois.size(0), spatial_scale,
                        narrow(sampling_ratio), aligned};
  switch (features.scalar_type()) {
    case ScalarType::Double: return forward<double>(features, rois, out, pooling, device.stream());
    case ScalarType::Half: return forward<c10::Half>(features, rois, out, pooling, device.stream());
    case ScalarType::BFloat16: return forward<c10::BFloat16>(features, rois, out, pooling, device.stream());
    default: return forward<float>(features, rois, out, pooling, device.stream());
  }
}

template <typename T>
Tensor gather(const Tensor& grad, const Tensor& rois, Tensor result, const PoolProblem& pooling, void* stream) {
  launch_roi_align_gather(
      grad.const_data_ptr<T>(), rois.const_data_ptr<typename Sums<T>::Type>(), result.mutable_data_ptr<T>(), pooling,
      stream);
  return result;
}

// Sums of half precision are kept in float32 until they are complete.
template <typename T>
Tensor scatter(const Tensor& grad, const Tensor& rois, Tensor result, const PoolProblem& pooling, void* stream) {
  using Real = typename Sums<T>::Type;
  const bool in_place = sizeof(Real) == sizeof(T);
  Tensor sums = in_place ? result
                         : torch::stable::empty(
                               result.sizes(), ScalarType::Float, std::nullopt, result.device(), std::nullopt,
                               is_channels_last(result) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  torch::stable::zero_(sums);
  launch_roi_align_scatter(
      grad.const_data_ptr<T>(), rois.const_data_ptr<Real>(), sums.mutable_data_ptr<Real>(), pooling, stream);
  if (!in_place) torch::stable::copy_(result, sums);
  return result;
}

template <typename T>
Tensor backward(
    const Tensor& grad, const Tensor& rois, const Tensor& result, const PoolProblem& pooling, bool deterministic,
    void* stream) {
  return (deterministic ? gather<T> : scatter<T>)(grad, rois, result, pooling, stream);
}

Tensor roi_align_backward(
    const Tensor& grad, const Tensor& rois, double spatial_scale, int64_t ph, int64_t pw, int64_t batch,
    int64_t channels, int64_t height, int64_t width, int64_t sampling_ratio, bool aligned, bool channels_last,
    bool deterministic) {
  check_pooled_grad(grad, rois, channels, ph, pw, sampling_ratio);
  check_sides(height, width);
  const OnDeviceOf device(grad);
  const Tensor out = empty_map(grad, batch, channels, height, width, channels_last);
  const PoolProblem pooling{map_of(out), map_of(grad), batch, rois.size(0), spatial_scale,
                        narrow(sampling_ratio), aligned};
  switch (grad.scalar_type()) {
    case ScalarType::Double: return backward<double>(grad, rois, out, pooling, deterministic, device.stream());
    case ScalarType::Half: return backward<c10::Half>(grad, rois, out, pooling, deterministic, device.stream());
    case ScalarType::BFloat16: return backward<c10::BFloat16>(grad, rois, out, pooling, deterministic, device.stream());
    default: return backward<float>(grad, rois, out, pooling, deterministic, device.stream());
  }
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, MRCNN_CUDA_KEY, m) {
  m.impl("roi_align", TORCH_BOX(&mrcnn::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&mrcnn::roi_align_backward));
}
