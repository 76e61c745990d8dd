// RoIAlign on the CPU, forward (Mask R-CNN, section 3).
//
// Which cells a bin reads, and with what weights, is the same for every channel (taps.h). Two layouts, two loops:
//
//   channels_last   the channels of a cell lie side by side: a bin is a weighted sum of a few rows of C numbers.
//                   A work item is one row of bins of one RoI.
//   contiguous      the columns of a channel lie side by side. The rows that a row of bins touches are summed to one, with
//                   vectors along x; the sums of BLOCK channels are laid side by side, by column; then a bin is a weighted
//                   sum of a few columns, with vectors along channels. A work item is BLOCK channels of one RoI.
#include <algorithm>
#include <cmath>
#include <vector>

#include "checks.h"
#include "cpu.h"
#include "library.h"
#include "roi_align/taps.h"

namespace mrcnn {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr int64_t BLOCK = 16;  // channels that the contiguous loop takes together

template <typename scalar_t>
struct Forward {
  using real_t = accumulate_t<scalar_t>;
  Pooling pooling;
  const scalar_t* features;
  int64_t stride_n, stride_c, stride_y, stride_x;
  const TapTable<real_t>& taps;
  const VisitOrder& order;
  scalar_t* output;

  int64_t blocks() const { return (pooling.channels + BLOCK - 1) / BLOCK; }

  // The RoI and block of channels of a work item in the contiguous layout: image by image, in each block by block.
  std::pair<int64_t, int64_t> roi_and_block(int64_t item) const {
    const int64_t place = item / blocks();  // would be in `order.rois`, were it roi by roi
    const auto end = std::upper_bound(order.starts.begin(), order.starts.end(), place);
    const int64_t rois_here = *end - *(end - 1), first = *(end - 1);
    const int64_t inside = item - first * blocks();
    return {order.rois[first + inside % rois_here], inside / rois_here};
  }
};

// sum[i] (+)= w0 from0[i] + w1 from1[i] + ..., COUNT of them at once, so that `sum` is read and written less often.
template <int COUNT, bool ADD, typename scalar_t, typename real_t>
MRCNN_INLINE void add_weighted(
    const scalar_t* const* from, const real_t* weights, int64_t length, real_t* __restrict sum) {
  for (int64_t i = 0; i < length; i++) {
    real_t total = ADD ? sum[i] : real_t(0);
    for (int n = 0; n < COUNT; n++) total += weights[n] * load(from[n] + i);
    sum[i] = total;
  }
}

// sum[i] = w0 from0[i] + w1 from1[i] + ..., `count` of them.
template <typename scalar_t, typename real_t>
MRCNN_INLINE void weighted_sum(
    const scalar_t* const* from, const real_t* weights, int64_t count, int64_t length, real_t* __restrict sum) {
  switch (std::min<int64_t>(count, 4)) {
    case 0: std::fill(sum, sum + length, real_t(0)); return;
    case 1: add_weighted<1, false>(from, weights, length, sum); return;
    case 2: add_weighted<2, false>(from, weights, length, sum); return;
    case 3: add_weighted<3, false>(from, weights, length, sum); return;
    default: add_weighted<4, false>(from, weights, length, sum);
  }
  int64_t done = 4;
  for (; done + 4 <= count; done += 4) add_weighted<4, true>(from + done, weights + done, length, sum);
  for (; done < count; done++) add_weighted<1, true>(from + done, weights + done, length, sum);
}

template <typename scalar_t>
MRCNN_INLINE void pool_channels_last(const Forward<scalar_t>& job, int64_t from, int64_t to) {
  using real_t = accumulate_t<scalar_t>;
  const Pooling& pooling = job.pooling;
  std::vector<const scalar_t*> cells;
  std::vector<real_t> weights, sum(pooling.channels);
  for (int64_t item = from; item < to; item++) {
    const int64_t k = job.order.rois[item / pooling.ph], p = item % pooling.ph;
    scalar_t* output = job.output + (k * pooling.ph + p) * pooling.pw * pooling.channels;
    const int64_t image = job.taps.image(k);
    if (image < 0) {
      for (int64_t i = 0; i < pooling.pw * pooling.channels; i++) store(output + i, real_t(NAN));
      continue;
    }
    const scalar_t* map = job.features + image * job.stride_n;
    for (int64_t q = 0; q < pooling.pw; q++) {
      cells.clear(), weights.clear();
      for (const auto& row : job.taps.rows(k, p))
        for (const auto& column : job.taps.columns(k, q)) {
          cells.push_back(map + row.cell * job.stride_y + column.cell * job.stride_x);
          weights.push_back(row.weight * column.weight);
        }
      weighted_sum(cells.data(), weights.data(), cells.size(), pooling.channels, sum.data());
      for (int64_t c = 0; c < pooling.channels; c++) store(output + q * pooling.channels + c, sum[c]);
    }
  }
}

// Scratch memory of one thread.
template <typename scalar_t, typename real_t>
struct Scratch {
  std::vector<const scalar_t*> rows;
  std::vector<real_t> weights, row_sum, columns;
};

// A few channels of one RoI: `map` (count, H, W) -> `output` (count, ph, pw).
template <typename scalar_t, typename real_t>
MRCNN_INLINE void pool_block(
    const Forward<scalar_t>& job, int64_t k, int64_t count, const scalar_t* map, scalar_t* output,
    Scratch<scalar_t, real_t>& scratch) {
  const Pooling& pooling = job.pooling;
  const auto [left, right] = job.taps.column_range(k);
  real_t *row_sum = scratch.row_sum.data(), *columns = scratch.columns.data();
  for (int64_t p = 0; p < pooling.ph; p++) {
    scratch.rows.clear(), scratch.weights.clear();
    for (const auto& row : job.taps.rows(k, p)) {
      scratch.rows.push_back(map + row.cell * job.stride_y + left);
      scratch.weights.push_back(row.weight);
    }
    for (int64_t c = 0; c < count; c++) {  // sum rows along x, and lay the channels of each column side by side
      weighted_sum(scratch.rows.data(), scratch.weights.data(), scratch.rows.size(), right - left, row_sum);
      for (int64_t x = 0; x < right - left; x++) columns[x * BLOCK + c] = row_sum[x];
      for (auto& row : scratch.rows) row += job.stride_c;
    }
    for (int64_t q = 0; q < pooling.pw; q++) {
      real_t sum[BLOCK] = {};
      for (const auto& column : job.taps.columns(k, q)) {
        const real_t* cells = columns + (column.cell - left) * BLOCK;
        for (int64_t c = 0; c < BLOCK; c++) sum[c] += column.weight * cells[c];
      }
      for (int64_t c = 0; c < count; c++) store(output + (c * pooling.ph + p) * pooling.pw + q, sum[c]);
    }
  }
}

template <typename scalar_t>
MRCNN_INLINE void pool_contiguous(const Forward<scalar_t>& job, int64_t from, int64_t to) {
  using real_t = accumulate_t<scalar_t>;
  const Pooling& pooling = job.pooling;
  const int64_t bins = pooling.ph * pooling.pw;
  Scratch<scalar_t, real_t> scratch;
  scratch.row_sum.resize(pooling.width), scratch.columns.resize(pooling.width * BLOCK);
  for (int64_t item = from; item < to; item++) {
    const auto [k, block] = job.roi_and_block(item);
    const int64_t channel = block * BLOCK, count = std::min(BLOCK, pooling.channels - channel);
    scalar_t* output = job.output + (k * pooling.channels + channel) * bins;
    const int64_t image = job.taps.image(k);
    if (image < 0)
      for (int64_t i = 0; i < count * bins; i++) store(output + i, real_t(NAN));
    else
      pool_block(job, k, count, job.features + image * job.stride_n + channel * job.stride_c, output, scratch);
  }
}

template <typename scalar_t>
void pool(const Tensor& features, const Tensor& rois, const Pooling& pooling, bool channels_last, Tensor& output) {
  using real_t = accumulate_t<scalar_t>;
  const TapTable<real_t> taps(rois.const_data_ptr<real_t>(), pooling);
  const VisitOrder order = visit_order(taps, pooling);
  prefer_large_pages(output.mutable_data_ptr<scalar_t>(), output.numel());
  const Forward<scalar_t> job{
      pooling, features.const_data_ptr<scalar_t>(), features.stride(0), features.stride(1), features.stride(2),
      features.stride(3), taps, order, output.mutable_data_ptr<scalar_t>()};
  if (channels_last)
    torch::stable::parallel_for(0, pooling.rois * pooling.ph, /*grain_size=*/16, [&](int64_t from, int64_t to) {
      run_widest<pool_channels_last<scalar_t>>(job, from, to);
    });
  else
    torch::stable::parallel_for(0, pooling.rois * job.blocks(), /*grain_size=*/8, [&](int64_t from, int64_t to) {
      run_widest<pool_contiguous<scalar_t>>(job, from, to);
    });
}

Tensor roi_align(
    const Tensor& features, const Tensor& rois, double spatial_scale, int64_t ph, int64_t pw, int64_t sampling_ratio,
    bool aligned) {
  check_pooling("features", features, rois, ph, pw, sampling_ratio);
  const bool channels_last = is_channels_last(features);
  // The contiguous loop reads along x.
  const Tensor map = channels_last || features.stride(3) == 1 ? features : torch::stable::contiguous(features);
  const Pooling pooling{map.size(0),  map.size(1), map.size(2),   map.size(3),    rois.size(0), ph,
                        pw,           spatial_scale, sampling_ratio, aligned};
  Tensor output = empty_map(features, pooling.rois, pooling.channels, ph, pw, channels_last);
  switch (features.scalar_type()) {
    case ScalarType::Float: pool<float>(map, rois, pooling, channels_last, output); break;
    case ScalarType::Double: pool<double>(map, rois, pooling, channels_last, output); break;
    case ScalarType::Half: pool<Half>(map, rois, pooling, channels_last, output); break;
    default: pool<BFloat16>(map, rois, pooling, channels_last, output);
  }
  return output;
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, CPU, m) { m.impl("roi_align", TORCH_BOX(&mrcnn::roi_align)); }
