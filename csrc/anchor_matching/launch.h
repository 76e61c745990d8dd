// What anchor_matching.cu offers to anchor_matching_cuda.cpp: matching on raw pointers.
#pragma once

#include <cstdint>

namespace mrcnn {

template <typename Real>
struct MatchProblem {
  const Real *anchors, *gt_boxes;  // (A, 4) and (G, 4), 16-byte aligned
  int64_t anchor_count, gt_count;
  Real high_threshold, low_threshold;
};

// matches (A,), ious (A,). best_of_gt: null, or (G,) zeros, for matches of low quality.
template <typename Real>
void launch_match_anchors(const MatchProblem<Real>&, int64_t* matches, Real* ious, Real* best_of_gt, void* stream);

}  // namespace mrcnn
