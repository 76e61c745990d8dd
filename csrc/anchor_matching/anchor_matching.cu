// Matching anchors to ground truth on the GPU (Faster R-CNN, section 3.1.2).
//
// Of the A x G table of IoUs only its row and column maxima are wanted, so it is never written down:
//
//                 anchors, one thread each ->
//    ground      .1  .0  .0  .7  .2 | .0   max of a column: the best IoU of an anchor, kept in the thread's registers
//    truths      .0  .0  .3  .0  .0 | .8
//    (shared     .0  .0  .0  .1  .0 | .0   max of a row: the best IoU of an object, one atomic per warp, and only
//     memory)                                 where some lane of the warp touches the object at all
//
// For matches of low quality the table is worked out a second time: an anchor that reaches its row's maximum is kept.
#include "anchor_matching/launch.h"
#include "iou.cuh"

namespace mrcnn {
namespace {

constexpr int threads = 256;
constexpr int gt_tile = 256;  // ground truths in shared memory at a time
constexpr int64_t background = -1, ignored = -2;

// IoUs are not negative, and then their bits, read as integers, are in the same order.
__device__ void atomic_max(float* address, float value) {
  atomicMax(reinterpret_cast<int*>(address), __float_as_int(value));
}
__device__ void atomic_max(double* address, double value) {
  atomicMax(reinterpret_cast<long long*>(address), __double_as_longlong(value));
}

template <typename Real>
__device__ Real warp_max(Real value) {
  for (int lanes = warpSize / 2; lanes > 0; lanes /= 2) value = max(value, __shfl_xor_sync(~0u, value, lanes));
  return value;
}

template <typename Real>
__device__ int load_tile(Box<Real>* tile, const MatchProblem<Real>& p, int64_t first) {
  const int count = static_cast<int>(min(p.gt_count - first, int64_t(gt_tile)));
  for (int g = threadIdx.x; g < count; g += blockDim.x)
    tile[g] = reinterpret_cast<const Box<Real>*>(p.gt_boxes)[first + g];
  return count;
}

// NaN (0 / 0, or a box that is not finite) counts as 0.
template <typename Real>
__device__ Real overlap(const Box<Real>& gt, const Box<Real>& anchor) {
  const Real value = iou(gt, anchor);
  return value > 0 ? value : Real(0);
}

template <typename Real>
__global__ void __launch_bounds__(threads)
    match_anchors_best(MatchProblem<Real> p, int64_t* __restrict__ matches, Real* __restrict__ ious, Real* best_of_gt) {
  __shared__ Box<Real> tile[gt_tile];
  const int64_t a = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool there = a < p.anchor_count;  // threads beyond the last anchor stay: the barriers are for all
  const Box<Real> anchor = there ? reinterpret_cast<const Box<Real>*>(p.anchors)[a] : Box<Real>{};
  Real best = 0;
  int64_t match = 0;
  for (int64_t first = 0; first < p.gt_count; first += gt_tile) {
    const int count = load_tile(tile, p, first);
    __syncthreads();
    for (int g = 0; g < count; ++g) {
      const Real value = there ? overlap(tile[g], anchor) : Real(0);
      if (value > best) {  // strictly: of equal ones the first wins
        best = value;
        match = first + g;
      }
      if (best_of_gt && __any_sync(~0u, value > 0)) {
        const Real warp_best = warp_max(value);
        if (threadIdx.x % warpSize == 0) atomic_max(&best_of_gt[first + g], warp_best);
      }
    }
    __syncthreads();  // nobody still reads the tile when the next is loaded
  }
  if (!there) return;
  if (best < p.high_threshold) match = ignored;
  if (best < p.low_threshold) match = background;
  matches[a] = p.gt_count > 0 ? match : background;
  ious[a] = best;
}

// Anchors that are the best some object has, however low their IoU: each keeps its own best object.
template <typename Real>
__global__ void __launch_bounds__(threads)
    match_anchors_low_quality(MatchProblem<Real> p, int64_t* __restrict__ matches, const Real* __restrict__ ious,
                              const Real* __restrict__ best_of_gt) {
  __shared__ Box<Real> tile[gt_tile];
  __shared__ Real tile_best[gt_tile];
  const int64_t a = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool there = a < p.anchor_count && ious[a] > 0;  // an object that no anchor touches claims none
  const Box<Real> anchor = there ? reinterpret_cast<const Box<Real>*>(p.anchors)[a] : Box<Real>{};
  const Real best = there ? ious[a] : Real(0);
  int64_t match = -1;
  bool claimed = false;
  for (int64_t first = 0; first < p.gt_count; first += gt_tile) {
    const int count = load_tile(tile, p, first);
    for (int g = threadIdx.x; g < count; g += blockDim.x) tile_best[g] = best_of_gt[first + g];
    __syncthreads();
    for (int g = 0; there && g < count; ++g) {
      const Real value = overlap(tile[g], anchor);
      if (value == best && match < 0) match = first + g;
      if (value > 0 && value == tile_best[g]) claimed = true;
    }
    __syncthreads();
  }
  if (claimed) matches[a] = match;
}

}  // namespace

template <typename Real>
void launch_match_anchors(const MatchProblem<Real>& p, int64_t* matches, Real* ious, Real* best_of_gt, void* stream) {
  const auto blocks = static_cast<unsigned>((p.anchor_count + threads - 1) / threads);
  if (blocks == 0) return;
  const auto s = static_cast<cudaStream_t>(stream);
  CUDA_LAUNCH((match_anchors_best<Real>), blocks, threads, 0, s, p, matches, ious, best_of_gt);
  if (best_of_gt && p.gt_count > 0)
    CUDA_LAUNCH((match_anchors_low_quality<Real>), blocks, threads, 0, s, p, matches, ious, best_of_gt);
}

template void launch_match_anchors(const MatchProblem<float>&, int64_t*, float*, float*, void*);
template void launch_match_anchors(const MatchProblem<double>&, int64_t*, double*, double*, void*);

}  // namespace mrcnn
