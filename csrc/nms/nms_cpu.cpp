// Non-maximum suppression on the CPU.
//
// The greedy rule is serial: whether a box is kept depends on all better ones. What can be done in parallel is the work
// that a kept box causes, its comparison with every box after it. So, with boxes sorted by falling score:
//
//   block:     0..255   | 256..511 | 512 ............ N-1
//              resolve  |--------- kept ones of the block against all later boxes, LANES at a time, on all cores
//                         resolve |--------- ...
//
// Coordinates lie in one array each, so that a vector of lanes is one load; there is no N x N table.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "checks.h"
#include "cpu.h"
#include "library.h"
#include "nms/sorted.h"
#include "nms/threshold.h"

namespace mrcnn {
namespace {

constexpr int64_t LANES = 64;  // boxes compared at once: a few vectors, whatever their width
constexpr int64_t BLOCK = 256;  // boxes resolved one after the other before all the rest is looked at
constexpr int64_t GRAIN = 16;  // chunks of LANES that are worth a thread of their own: some fifty microseconds' work

template <typename scalar_t>
struct SortedBoxes {
  std::vector<scalar_t> x1, y1, x2, y2, area;
  std::vector<scalar_t> share;  // of the area, see `suppress`
  std::vector<uint8_t> dropped;
  scalar_t threshold;

  SortedBoxes(const scalar_t* boxes, const int64_t* order, int64_t n, scalar_t threshold) : threshold(threshold) {
    for (auto* column : {&x1, &y1, &x2, &y2, &area, &share}) column->resize(n);
    dropped.resize(n);
    constexpr scalar_t rounding = 16 * std::numeric_limits<scalar_t>::epsilon();
    for (int64_t i = 0; i < n; i++) {
      const scalar_t* box = boxes + 4 * order[i];
      x1[i] = box[0], y1[i] = box[1], x2[i] = box[2], y2[i] = box[3];
      area[i] = (x2[i] - x1[i]) * (y2[i] - y1[i]);
      share[i] = area[i] * (threshold / (1 + threshold)) - std::abs(area[i]) * rounding;
    }
  }
};

// Drop those of the boxes j..j+count-1, at most LANES, whose IoU with box i is above the threshold t.
//
// A division is slow, and few pairs overlap much. inter / (area_i + area_j - inter) > t only where inter is above
// t / (1 + t) * (area_i + area_j): a sum of two numbers known beforehand, made a little smaller so that no rounding hides
// a pair. Only where that holds for some lane is the division done. (It holds for t >= 0; below, nothing is ruled out.)
template <typename scalar_t>
MRCNN_INLINE void suppress(SortedBoxes<scalar_t>& boxes, int64_t i, int64_t j, int64_t count) {
  using mask_t = std::conditional_t<sizeof(scalar_t) == 4, int32_t, int64_t>;  // as wide, so that it vectorises
  const scalar_t x1 = boxes.x1[i], y1 = boxes.y1[i], x2 = boxes.x2[i], y2 = boxes.y2[i], area = boxes.area[i];
  const scalar_t *x1s = &boxes.x1[j], *y1s = &boxes.y1[j], *x2s = &boxes.x2[j], *y2s = &boxes.y2[j];
  const scalar_t *areas = &boxes.area[j], *shares = &boxes.share[j];
  const scalar_t share = boxes.share[i];
  auto width = [&](int64_t lane) {
    return std::max(std::min(x2, x2s[lane]) - std::max(x1, x1s[lane]), scalar_t(0));
  };
  auto height = [&](int64_t lane) { return std::min(y2, y2s[lane]) - std::max(y1, y1s[lane]); };
  mask_t close = boxes.threshold < 0 ? mask_t(-1) : mask_t(0);
  for (int64_t lane = 0; lane < count; lane++)  // a height below 0 makes the product too small, not too large
    close |= width(lane) * height(lane) >= share + shares[lane] ? mask_t(-1) : mask_t(0);
  if (!close) return;
  for (int64_t lane = 0; lane < count; lane++) {
    const scalar_t inter = width(lane) * std::max(height(lane), scalar_t(0));
    boxes.dropped[j + lane] |= inter / (area + areas[lane] - inter) > boxes.threshold;
  }
}

template <typename scalar_t>
MRCNN_INLINE void suppress_chunks(
    SortedBoxes<scalar_t>& boxes, const std::vector<int64_t>& kept, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j += LANES)
    for (const int64_t i : kept)
      if (j + LANES <= end) suppress(boxes, i, j, LANES);  // a loop of known length
      else suppress(boxes, i, j, end - j);
}

// Where each group begins among the sorted boxes, and where the last one ends.
std::vector<int64_t> group_starts(const SortedInput& input) {
  const int64_t n = input.order.numel();
  std::vector<int64_t> starts{0};
  if (input.groups) {
    const int64_t* group = input.groups->const_data_ptr<int64_t>();
    for (int64_t i = 1; i < n; i++)
      if (group[i] != group[i - 1]) starts.push_back(i);
  }
  starts.push_back(n);
  return starts;
}

// The boxes begin..end-1, one group, by falling score: sets `dropped` of each.
template <typename scalar_t>
void suppress_group(SortedBoxes<scalar_t>& boxes, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; block += BLOCK) {
    const int64_t block_end = std::min(block + BLOCK, end);
    std::vector<int64_t> kept;
    for (int64_t i = block; i < block_end; i++) {
      if (boxes.dropped[i]) continue;
      kept.push_back(i);
      run_widest<suppress_chunks<scalar_t>>(boxes, std::vector{i}, i + 1, block_end);
    }
    const int64_t chunks = (end - block_end + LANES - 1) / LANES;
    torch::stable::parallel_for(0, chunks, GRAIN, [&](int64_t from, int64_t to) {
      run_widest<suppress_chunks<scalar_t>>(
          boxes, kept, block_end + from * LANES, std::min(block_end + to * LANES, end));
    });
  }
}

template <typename scalar_t>
Tensor nms_sorted(const SortedInput& input, double iou_threshold) {
  const int64_t n = input.order.numel();
  const int64_t* order = input.order.const_data_ptr<int64_t>();
  const int64_t* rank = input.rank ? input.rank->const_data_ptr<int64_t>() : nullptr;
  SortedBoxes<scalar_t> boxes(input.boxes.const_data_ptr<scalar_t>(), order, n, round_down<scalar_t>(iou_threshold));
  const std::vector<int64_t> starts = group_starts(input);
  // One group: its inner loop is spread over the cores. Several: each is one core's work.
  torch::stable::parallel_for(0, starts.size() - 1, 1, [&](int64_t from, int64_t to) {
    for (int64_t g = from; g < to; g++) suppress_group(boxes, starts[g], starts[g + 1]);
  });

  std::vector<int64_t> kept_row(n, -1);  // by rank of score over all groups
  for (int64_t i = 0; i < n; i++)
    if (!boxes.dropped[i]) kept_row[rank ? rank[i] : i] = order[i];
  kept_row.erase(std::remove(kept_row.begin(), kept_row.end(), -1), kept_row.end());
  const int64_t kept = kept_row.size();
  Tensor result = torch::stable::new_empty(input.order, {&kept, 1});
  std::copy(kept_row.begin(), kept_row.end(), result.mutable_data_ptr<int64_t>());
  return result;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold, const std::optional<Tensor>& groups) {
  const SortedInput input = sort_input(boxes, scores, groups);
  return boxes.scalar_type() == ScalarType::Double ? nms_sorted<double>(input, iou_threshold)
                                                   : nms_sorted<float>(input, iou_threshold);
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, CPU, m) { m.impl("nms", TORCH_BOX(&mrcnn::nms)); }
