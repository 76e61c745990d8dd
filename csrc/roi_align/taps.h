// The geometry of RoIAlign on the CPU, worked out once per RoI and then used for every channel.
//
// A bin is the mean of grid_h x grid_w bilinear samples. Rows and columns are independent: the weight of cell (y, x) in a
// bin is weight(y) * weight(x), where weight(y) sums what each sample row gives to row y, divided by how many there are.
// So a bin is described by the few rows it touches and the few columns, a `Tap` each; with two samples a cell apart,
//
//     sample rows      3.2        4.2               taps of the bin     row   3    4    5
//     read rows     3 (.8) 4 (.2)  4 (.8) 5 (.2)                     weight  .4   .5   .1
//
// three rows and three columns, 9 cells to read, where four samples of four cells each would read 16.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <torch/csrc/stable/ops.h>

#include "roi_align/limits.h"

namespace mrcnn {

struct Pooling {
  int64_t images, channels, height, width;  // the feature map
  int64_t rois, ph, pw;
  double spatial_scale;
  int64_t sampling_ratio;
  bool aligned;
};

template <typename real_t>
struct Tap {
  int64_t cell;  // which row, or column
  real_t weight;
};

template <typename real_t>
struct Taps {  // of one bin along one axis
  const Tap<real_t>*first, *last;
  const Tap<real_t>* begin() const { return first; }
  const Tap<real_t>* end() const { return last; }
  int64_t size() const { return last - first; }
  const Tap<real_t>& operator[](int64_t i) const { return first[i]; }
};

// The taps of many RoIs, one after the other: ph bins of rows, then pw bins of columns for each.
template <typename real_t>
class TapTable {
 public:
  TapTable(const real_t* rois, const Pooling& pooling);

  // The image of RoI k; -1 when its row in `rois` means nothing (see csrc/README.md).
  int64_t image(int64_t k) const { return images_[k]; }
  Taps<real_t> rows(int64_t k, int64_t p) const { return bin(k, p); }
  Taps<real_t> columns(int64_t k, int64_t q) const { return bin(k, pooling_.ph + q); }
  // The columns from the first to the last that any bin touches: [first, second).
  std::pair<int64_t, int64_t> column_range(int64_t k) const { return ranges_[k]; }

 private:
  // RoIs are worked out BLOCK at a time, so that this too is shared among the cores.
  static constexpr int64_t BLOCK = 64;
  struct Block {
    std::vector<Tap<real_t>> taps;
    std::vector<int64_t> starts{0};  // of each bin in `taps`
  };

  Taps<real_t> bin(int64_t k, int64_t i) const {
    const Block& block = blocks_[k / BLOCK];
    const int64_t* start = &block.starts[(k % BLOCK) * (pooling_.ph + pooling_.pw) + i];
    return {block.taps.data() + start[0], block.taps.data() + start[1]};
  }
  void add_roi(Block& block, int64_t k, const real_t* roi);
  void add_axis(Block& block, real_t from, real_t to, int64_t bins, int64_t cells) const;
  static void add_bin(Block& block, real_t start, real_t length, int64_t grid, int64_t cells);

  Pooling pooling_;
  std::vector<int64_t> images_;
  std::vector<std::pair<int64_t, int64_t>> ranges_;
  std::vector<Block> blocks_;
};

template <typename real_t>
TapTable<real_t>::TapTable(const real_t* rois, const Pooling& pooling)
    : pooling_(pooling), images_(pooling.rois), ranges_(pooling.rois), blocks_((pooling.rois + BLOCK - 1) / BLOCK) {
  torch::stable::parallel_for(0, blocks_.size(), /*grain_size=*/8, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; b++)
      for (int64_t k = b * BLOCK; k < std::min((b + 1) * BLOCK, pooling.rois); k++) add_roi(blocks_[b], k, rois + 5 * k);
  });
}

template <typename real_t>
void TapTable<real_t>::add_roi(Block& block, int64_t k, const real_t* roi) {
  const bool is_image = roi[0] >= 0 && roi[0] < pooling_.images && roi[0] == std::floor(roi[0]);
  const bool valid = is_image && std::all_of(roi + 1, roi + 5, [](real_t x) { return std::isfinite(x); });
  images_[k] = valid ? static_cast<int64_t>(roi[0]) : -1;
  if (!valid) {
    block.starts.resize(block.starts.size() + pooling_.ph + pooling_.pw, block.taps.size());
    return;
  }
  add_axis(block, roi[2], roi[4], pooling_.ph, pooling_.height);
  const size_t first_column = block.taps.size();
  add_axis(block, roi[1], roi[3], pooling_.pw, pooling_.width);
  int64_t left = pooling_.width, right = 0;
  for (size_t i = first_column; i < block.taps.size(); i++) {
    left = std::min(left, block.taps[i].cell);
    right = std::max(right, block.taps[i].cell + 1);
  }
  ranges_[k] = {left, std::max(left, right)};
}

// One RoI along one axis, `from` and `to` in pixels; `cells` is how many the map has.
template <typename real_t>
void TapTable<real_t>::add_axis(Block& block, real_t from, real_t to, int64_t bins, int64_t cells) const {
  const real_t scale = static_cast<real_t>(pooling_.spatial_scale);
  const real_t half_pixel = pooling_.aligned ? real_t(0.5) : real_t(0);
  const real_t start = from * scale - half_pixel;
  real_t length = to * scale - half_pixel - start;
  if (!pooling_.aligned) length = std::max(length, real_t(1));  // the older convention: at least one cell
  const real_t bin = length / bins;
  const int64_t grid = pooling_.sampling_ratio > 0 ? pooling_.sampling_ratio
      : bin > 0 ? static_cast<int64_t>(std::min(std::ceil(bin), real_t(most_samples)))
                : 0;
  for (int64_t b = 0; b < bins; b++) {
    if (cells > 0) add_bin(block, start + b * bin, bin, grid, cells);
    block.starts.push_back(block.taps.size());
  }
}

// The taps of `grid` samples, evenly spaced over a bin.
template <typename real_t>
void TapTable<real_t>::add_bin(Block& block, real_t start, real_t length, int64_t grid, int64_t cells) {
  const size_t begin = block.taps.size();
  auto add = [&](int64_t cell, real_t weight) {
    const size_t last = block.taps.size();
    for (size_t i = last; i > begin && i + 3 > last; i--)  // the sample before read this cell or its neighbour
      if (block.taps[i - 1].cell == cell) {
        block.taps[i - 1].weight += weight;
        return;
      }
    block.taps.push_back({cell, weight});
  };
  for (int64_t i = 0; i < grid; i++) {
    real_t at = start + (i + real_t(0.5)) * length / grid;
    if (!(at >= -1 && at <= cells)) continue;  // more than a cell off the map, or not a number: counts as zero
    at = std::min(std::max(at, real_t(0)), real_t(cells - 1));
    const int64_t low = std::min(static_cast<int64_t>(at), cells - 1);  // float32 has no number for cell 2^24 + 1
    const real_t fraction = at - low;
    add(low, 1 - fraction);
    add(std::min(low + 1, cells - 1), fraction);
  }
  for (size_t i = begin; i < block.taps.size(); i++) block.taps[i].weight /= grid;
}

// In which order to visit the RoIs: image by image, and in each from top to bottom in bands, so that what one RoI read is
// still in the cache when its neighbours come.
struct VisitOrder {
  std::vector<int64_t> rois;  // (K,)
  std::vector<int64_t> starts;  // where in `rois` those of image -1 (meaningless ones), 0, 1, ... begin, and the end

  // The RoIs of one image, as a range of `rois`.
  std::pair<int64_t, int64_t> of_image(int64_t image) const { return {starts[image + 1], starts[image + 2]}; }
};

template <typename real_t>
VisitOrder visit_order(const TapTable<real_t>& taps, const Pooling& pooling) {
  constexpr int64_t BAND = 16;  // rows
  std::vector<std::array<int64_t, 4>> keys(pooling.rois);  // image, band, column, RoI
  VisitOrder order{std::vector<int64_t>(pooling.rois), std::vector<int64_t>(pooling.images + 3)};
  for (int64_t k = 0; k < pooling.rois; k++) {
    const Taps<real_t> middle = taps.rows(k, pooling.ph / 2);
    keys[k] = {taps.image(k), middle.size() ? middle[0].cell / BAND : 0, taps.column_range(k).first, k};
    order.starts[taps.image(k) + 2]++;
  }
  std::sort(keys.begin(), keys.end());
  for (int64_t k = 0; k < pooling.rois; k++) order.rois[k] = keys[k][3];
  std::partial_sum(order.starts.begin(), order.starts.end(), order.starts.begin());
  return order;
}

}  // namespace mrcnn
