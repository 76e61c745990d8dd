// Matching anchors to ground truth on CUDA tensors: checks, allocations, and the kernels of anchor_matching.cu.
#include "anchor_matching/launch.h"
#include "checks.h"
#include "cuda_stream.h"
#include "library.h"

namespace mrcnn {
namespace {

Tensor new_vector(const Tensor& like, int64_t size, ScalarType type) {
  return torch::stable::new_empty(like, {&size, 1}, type);
}

template <typename Real>
std::tuple<Tensor, Tensor> match(
    const Tensor& anchors, const Tensor& gt_boxes, double high_threshold, double low_threshold, bool low_quality) {
  const OnDeviceOf device(anchors);
  const int64_t anchor_count = anchors.size(0), gt_count = gt_boxes.size(0);
  const Tensor matches = new_vector(anchors, anchor_count, ScalarType::Long);
  const Tensor ious = new_vector(anchors, anchor_count, anchors.scalar_type());
  Tensor best_of_gt = new_vector(anchors, low_quality ? gt_count : 0, anchors.scalar_type());
  torch::stable::zero_(best_of_gt);
  const MatchProblem<Real> problem{
      anchors.const_data_ptr<Real>(),    gt_boxes.const_data_ptr<Real>(), anchor_count, gt_count,
      static_cast<Real>(high_threshold), static_cast<Real>(low_threshold)};
  launch_match_anchors(
      problem, matches.mutable_data_ptr<int64_t>(), ious.mutable_data_ptr<Real>(),
      low_quality ? best_of_gt.mutable_data_ptr<Real>() : nullptr, device.stream());
  return {matches, ious};
}

// Boxes are read 16 bytes at a time: a view that begins elsewhere is copied.
Tensor aligned(const Tensor& boxes) {
  return reinterpret_cast<uintptr_t>(boxes.const_data_ptr()) % 16 == 0 ? boxes : torch::stable::clone(boxes);
}

std::tuple<Tensor, Tensor> match_anchors(
    const Tensor& anchors, const Tensor& gt_boxes, double high_threshold, double low_threshold, bool low_quality) {
  check_boxes("anchors", anchors, 4);
  check_boxes("gt_boxes", gt_boxes, 4);
  check_same_device("gt_boxes", gt_boxes, "anchors", anchors);
  STD_TORCH_CHECK(
      anchors.scalar_type() == gt_boxes.scalar_type() && anchors.is_contiguous() && gt_boxes.is_contiguous(),
      "anchors and gt_boxes must be contiguous and of one dtype");
  return (anchors.scalar_type() == ScalarType::Double ? match<double> : match<float>)(
      aligned(anchors), aligned(gt_boxes), high_threshold, low_threshold, low_quality);
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, MRCNN_CUDA_KEY, m) {
  m.impl("match_anchors", TORCH_BOX(&mrcnn::match_anchors));
}
