// What every kernel asks of its input before it touches memory, on any device. The Python face has already told the user
// in a sentence what is wrong with shapes and values; these keep a direct call of torch.ops.mrcnn from crashing.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "roi_align/limits.h"

namespace mrcnn {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// channels_last: the channels of a cell lie side by side, and the tensor is not plainly contiguous as well (a map of one
// cell is both). mrcnn/ops/pooling.py has the same rule for the shapes it promises torch.compile.
inline bool is_channels_last(const Tensor& features) {
  return features.stride(1) == 1 && !features.is_contiguous();
}

inline bool is_floating(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
      type == ScalarType::BFloat16;
}

// Sums of float16 and bfloat16 are kept in float32.
inline ScalarType accumulate_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_boxes(const char* name, const Tensor& boxes, int64_t columns) {
  STD_TORCH_CHECK(
      boxes.dim() == 2 && boxes.size(1) == columns, name, " must have shape (K, ", columns, "); got ", boxes.dim(),
      " dimensions, the last of size ", boxes.dim() ? boxes.size(boxes.dim() - 1) : 0);
  STD_TORCH_CHECK(
      boxes.scalar_type() == ScalarType::Float || boxes.scalar_type() == ScalarType::Double,
      name, " must be float32 or float64; got ", torch::headeronly::toString(boxes.scalar_type()));
}

inline void check_same_device(const char* name, const Tensor& tensor, const char* other_name, const Tensor& other) {
  STD_TORCH_CHECK(tensor.device() == other.device(), name, " must be on the device of ", other_name);
}

// features is what is pooled (forward) or the gradient of what was pooled (backward): both have four dimensions.
inline void check_pooling(
    const char* name, const Tensor& features, const Tensor& rois, int64_t ph, int64_t pw, int64_t sampling_ratio) {
  STD_TORCH_CHECK(features.dim() == 4, name, " must have four dimensions; got ", features.dim());
  STD_TORCH_CHECK(
      is_floating(features.scalar_type()), name, " must be of a floating dtype; got ",
      torch::headeronly::toString(features.scalar_type()));
  check_boxes("rois", rois, 5);
  STD_TORCH_CHECK(
      rois.scalar_type() == accumulate_type(features.scalar_type()),
      "rois must be float64 when ", name, " is float64, else float32");
  STD_TORCH_CHECK(rois.is_contiguous(), "rois must be contiguous");
  check_same_device("rois", rois, name, features);
  STD_TORCH_CHECK(ph > 0 && pw > 0, "pooled_height and pooled_width must be at least 1; got ", ph, " and ", pw);
  STD_TORCH_CHECK(
      ph <= most_bins / pw, "pooled_height x pooled_width must be at most ", most_bins, "; got ", ph, " x ", pw);
  STD_TORCH_CHECK(
      sampling_ratio <= most_samples, "sampling_ratio must be at most ", most_samples, "; got ", sampling_ratio);
}

inline void check_pooled_grad(
    const Tensor& grad, const Tensor& rois, int64_t channels, int64_t ph, int64_t pw, int64_t sampling_ratio) {
  check_pooling("grad", grad, rois, ph, pw, sampling_ratio);
  STD_TORCH_CHECK(
      grad.size(0) == rois.size(0) && grad.size(1) == channels && grad.size(2) == ph && grad.size(3) == pw,
      "grad must have shape (K, channels, pooled_height, pooled_width), with as many as there are rois");
}

// An uninitialised tensor like `like`, in the asked shape and layout.
inline Tensor empty_map(
    const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last) {
  const int64_t shape[] = {n, c, h, w};
  return torch::stable::empty(
      {shape, 4}, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
      channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

}  // namespace mrcnn
