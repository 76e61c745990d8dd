// Matching anchors to ground truth on the CPU, without the anchors x objects table of IoUs.
//
// Anchors are taken in chunks of LANES, their coordinates laid out one array each. For every chunk and object that touch
// at all, one vector loop finds the IoUs and updates each anchor's best object. Anchors come in raster order, so a chunk
// covers a small part of the picture and most objects do not touch it: those pairs cost one comparison of boxes per chunk.
//
// Low-quality matches need each object's best IoU over all anchors, known only after that pass, which also notes in which
// chunk it was first reached and in which last. Only between those is there anything left to claim.
#include <algorithm>
#include <limits>
#include <mutex>
#include <vector>

#include "checks.h"
#include "cpu.h"
#include "library.h"

namespace mrcnn {
namespace {

constexpr int64_t LANES = 128;  // anchors per chunk

// The best IoU that an object has with any anchor, and the first and the last chunk with an anchor that reaches it.
template <typename scalar_t>
struct Best {
  scalar_t iou = 0;
  int64_t first = 0, last = -1;

  MRCNN_INLINE void meet(const Best& other) {
    if (other.iou > iou) {
      *this = other;
    } else if (other.iou == iou && iou > 0) {
      first = std::min(first, other.first);
      last = std::max(last, other.last);
    }
  }
};

template <typename scalar_t>
struct Problem {
  const scalar_t* anchors;  // (A, 4)
  int64_t num_anchors;
  const scalar_t* gt_boxes;  // (G, 4)
  int64_t num_gt;
  scalar_t high_threshold, low_threshold;
  std::vector<Best<scalar_t>> best_of_gt;  // (G,)
  int64_t* matches;  // (A,)
  scalar_t* iou;  // (A,)
};

// start with values[0] with values[1] ... A compiler may not reorder such a chain, and so not vectorise it; WIDTH
// chains side by side it can.
template <typename scalar_t, typename Pick>
MRCNN_INLINE scalar_t reduce(const scalar_t (&values)[LANES], scalar_t start, Pick pick) {
  constexpr int64_t WIDTH = 16;
  scalar_t best[WIDTH];
  for (int64_t i = 0; i < WIDTH; i++) best[i] = start;
  for (int64_t begin = 0; begin < LANES; begin += WIDTH)
    for (int64_t i = 0; i < WIDTH; i++) best[i] = pick(best[i], values[begin + i]);
  scalar_t result = best[0];
  for (int64_t i = 1; i < WIDTH; i++) result = pick(result, best[i]);
  return result;
}

// As many anchors as one vector loop takes, and a box around them all.
template <typename scalar_t>
struct Chunk {
  scalar_t x1[LANES], y1[LANES], x2[LANES], y2[LANES], area[LANES];
  scalar_t left, top, right, bottom;

  // Anchors begin..begin+LANES-1; beyond the last, points at infinity, which touch nothing.
  MRCNN_INLINE Chunk(const Problem<scalar_t>& problem, int64_t begin) {
    constexpr scalar_t infinity = std::numeric_limits<scalar_t>::infinity();
    const int64_t count = std::min(LANES, problem.num_anchors - begin);
    const scalar_t* anchor = problem.anchors + 4 * begin;
    if (count == LANES) unpack(anchor, LANES);  // a loop of known length
    else unpack(anchor, count);
    for (int64_t lane = count; lane < LANES; lane++) {
      x1[lane] = y1[lane] = infinity;
      x2[lane] = y2[lane] = -infinity;
    }
    for (int64_t lane = 0; lane < LANES; lane++) area[lane] = (x2[lane] - x1[lane]) * (y2[lane] - y1[lane]);
    // A NaN, which is neither smaller nor larger, is passed over: it is the matter of its own anchor only.
    auto smaller = [](scalar_t so_far, scalar_t value) { return value < so_far ? value : so_far; };
    auto larger = [](scalar_t so_far, scalar_t value) { return value > so_far ? value : so_far; };
    left = reduce(x1, infinity, smaller), top = reduce(y1, infinity, smaller);
    right = reduce(x2, -infinity, larger), bottom = reduce(y2, -infinity, larger);
  }

  MRCNN_INLINE void unpack(const scalar_t* anchor, int64_t count) {
    for (int64_t lane = 0; lane < count; lane++) {
      x1[lane] = anchor[4 * lane], y1[lane] = anchor[4 * lane + 1];
      x2[lane] = anchor[4 * lane + 2], y2[lane] = anchor[4 * lane + 3];
    }
  }

  MRCNN_INLINE bool touches(const scalar_t* gt) const {
    return gt[0] < right && gt[2] > left && gt[1] < bottom && gt[3] > top;
  }

  // The IoU of one anchor with one object, NaN (no area, or infinite) as 0.
  MRCNN_INLINE scalar_t iou(int64_t lane, const scalar_t* gt, scalar_t gt_area) const {
    const scalar_t width = std::max(std::min(gt[2], x2[lane]) - std::max(gt[0], x1[lane]), scalar_t(0));
    const scalar_t height = std::max(std::min(gt[3], y2[lane]) - std::max(gt[1], y1[lane]), scalar_t(0));
    const scalar_t inter = width * height;
    const scalar_t ratio = inter / (gt_area + area[lane] - inter);
    return ratio > 0 ? ratio : scalar_t(0);
  }
};

template <typename scalar_t>
MRCNN_INLINE scalar_t area_of(const scalar_t* box) {
  return (box[2] - box[0]) * (box[3] - box[1]);
}

// First pass over chunks from..to-1: every anchor's best IoU and match, and the best that each object saw here.
template <typename scalar_t>
MRCNN_INLINE void find_best(
    Problem<scalar_t>& problem, int64_t from, int64_t to, std::vector<Best<scalar_t>>& best_of_gt) {
  using index_t = std::conditional_t<sizeof(scalar_t) == 4, int32_t, int64_t>;  // as wide as a coordinate
  // Without objects no threshold is reached.
  const scalar_t unreached = std::numeric_limits<scalar_t>::infinity();
  const scalar_t high = problem.num_gt ? problem.high_threshold : unreached;
  const scalar_t low = problem.num_gt ? problem.low_threshold : unreached;
  for (int64_t begin = from * LANES; begin < std::min(to * LANES, problem.num_anchors); begin += LANES) {
    const Chunk<scalar_t> chunk(problem, begin);
    scalar_t best[LANES] = {};
    index_t match[LANES] = {};
    for (int64_t g = 0; g < problem.num_gt; g++) {
      const scalar_t* gt = problem.gt_boxes + 4 * g;
      if (!chunk.touches(gt)) continue;
      const scalar_t gt_area = area_of(gt);
      // Numbers that are not negative are ordered as their bits are, and a maximum of integers can be vectorised.
      index_t best_here = 0;
      for (int64_t lane = 0; lane < LANES; lane++) {
        const scalar_t iou = chunk.iou(lane, gt, gt_area);
        // Bits rather than a branch, of which a compiler may make a store under a mask: slow on many a processor.
        const index_t wins = iou > best[lane] ? index_t(-1) : index_t(0);  // > : the first object wins a tie
        match[lane] = (index_t(g) & wins) | (match[lane] & ~wins);
        best[lane] = std::max(best[lane], iou);
        best_here = std::max(best_here, bits_of<index_t>(iou));
      }
      const int64_t here = begin / LANES;
      best_of_gt[g].meet({bits_of<scalar_t>(best_here), here, here});
    }
    const int64_t count = std::min(LANES, problem.num_anchors - begin);
    for (int64_t lane = 0; lane < LANES; lane++) {
      const index_t unmatched = best[lane] < low ? -1 : -2;
      match[lane] = best[lane] >= high ? match[lane] : unmatched;
    }
    std::copy(best, best + count, problem.iou + begin);
    std::copy(match, match + count, problem.matches + begin);
  }
}

// The object that an anchor overlaps most.
template <typename scalar_t>
MRCNN_INLINE int64_t arg_max(const Problem<scalar_t>& problem, const Chunk<scalar_t>& chunk, int64_t lane) {
  scalar_t best = 0;
  int64_t match = 0;
  for (int64_t g = 0; g < problem.num_gt; g++) {
    const scalar_t* gt = problem.gt_boxes + 4 * g;
    const scalar_t iou = chunk.iou(lane, gt, area_of(gt));
    if (iou > best) best = iou, match = g;
  }
  return match;
}

// Second pass: anchors that reach the object's best IoU are matched after all, to the object best for *them*.
template <typename scalar_t>
void claim_best(Problem<scalar_t>& problem, int64_t g) {
  const Best<scalar_t>& best = problem.best_of_gt[g];
  const scalar_t* gt = problem.gt_boxes + 4 * g;
  for (int64_t begin = best.first * LANES; begin <= best.last * LANES; begin += LANES) {
    const Chunk<scalar_t> chunk(problem, begin);
    if (!chunk.touches(gt)) continue;
    for (int64_t lane = 0; lane < std::min(LANES, problem.num_anchors - begin); lane++)
      if (problem.matches[begin + lane] < 0 && chunk.iou(lane, gt, area_of(gt)) == best.iou)
        problem.matches[begin + lane] = arg_max(problem, chunk, lane);
  }
}

template <typename scalar_t>
void match(Problem<scalar_t> problem, bool allow_low_quality_matches) {
  const int64_t chunks = (problem.num_anchors + LANES - 1) / LANES;
  problem.best_of_gt.resize(problem.num_gt);
  std::mutex merging;  // the best comes out the same in whatever order threads bring theirs
  torch::stable::parallel_for(0, chunks, /*grain_size=*/16, [&](int64_t from, int64_t to) {
    std::vector<Best<scalar_t>> best_here(problem.num_gt);
    run_widest<find_best<scalar_t>>(problem, from, to, best_here);
    const std::lock_guard<std::mutex> lock(merging);
    for (int64_t g = 0; g < problem.num_gt; g++) problem.best_of_gt[g].meet(best_here[g]);
  });
  if (!allow_low_quality_matches) return;
  // One object after the other: two may claim the same anchor, and few chunks are looked at.
  for (int64_t g = 0; g < problem.num_gt; g++) claim_best(problem, g);
}

std::tuple<Tensor, Tensor> match_anchors(
    const Tensor& anchors_in, const Tensor& gt_boxes_in, double high_threshold, double low_threshold,
    bool allow_low_quality_matches) {
  check_boxes("anchors", anchors_in, 4);
  check_boxes("gt_boxes", gt_boxes_in, 4);
  STD_TORCH_CHECK(anchors_in.scalar_type() == gt_boxes_in.scalar_type(), "gt_boxes must be of the dtype of anchors");
  check_same_device("gt_boxes", gt_boxes_in, "anchors", anchors_in);
  const Tensor anchors = torch::stable::contiguous(anchors_in), gt_boxes = torch::stable::contiguous(gt_boxes_in);
  const int64_t n = anchors.size(0);
  Tensor matches = torch::stable::new_empty(anchors, {&n, 1}, ScalarType::Long);
  Tensor iou = torch::stable::new_empty(anchors, {&n, 1});
  auto run = [&](auto zero) {
    using scalar_t = decltype(zero);
    match<scalar_t>(
        {anchors.const_data_ptr<scalar_t>(), n, gt_boxes.const_data_ptr<scalar_t>(), gt_boxes.size(0),
         static_cast<scalar_t>(high_threshold), static_cast<scalar_t>(low_threshold), {},
         matches.mutable_data_ptr<int64_t>(), iou.mutable_data_ptr<scalar_t>()},
        allow_low_quality_matches);
  };
  anchors.scalar_type() == ScalarType::Double ? run(double()) : run(float());
  return {matches, iou};
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, CPU, m) { m.impl("match_anchors", TORCH_BOX(&mrcnn::match_anchors)); }
