// The schemas, and nothing else: each op's kernels register themselves beside their own code.
//
// What a kernel may rely on (its own checks in csrc/checks.h enforce it, mrcnn/ops/ arranges it):
//   roi_align            features any strides, any floating dtype; rois (K, 5) contiguous, of float32, or float64 when
//                        features are float64. The output is channels_last when features are (see checks.h).
//   roi_align_backward   grad any strides; rois as above; channels_last is the layout the gradient shall have;
//                        deterministic asks for the same bits every time (the CPU kernel always gives them).
//   nms                  boxes (N, 4), scores (N,) float32 or float64, groups (N,) int64, none of them sorted;
//                        returns rows by falling score, the lower row first among equal scores.
//   match_anchors        anchors (A, 4), gt_boxes (G, 4), both float32 or both float64;
//                        returns matches int64 (A,) and the best IoU (A,) in the boxes' dtype.
#include "library.h"

STABLE_TORCH_LIBRARY(MRCNN_LIBRARY, m) {
  m.def(
      "roi_align(Tensor features, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
      "int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
      "SymInt batch, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned, "
      "bool channels_last, bool deterministic) -> Tensor");
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold, Tensor? groups=None) -> Tensor");
  m.def(
      "match_anchors(Tensor anchors, Tensor gt_boxes, float high_threshold, float low_threshold, "
      "bool allow_low_quality_matches) -> (Tensor, Tensor)");
}
