// RoIAlign on the CPU, forward (Mask R-CNN, section 3).
//
// Which cells a bin reads, and with what weights, is the same for every channel (taps.h). Two layouts, two loops:
//
//   channels_last   the channels of a cell lie side by side: a bin is a weighted sum of a few rows of C numbers.
//                   A work item is one row of bins of one RoI.
//   contiguous      the columns of a channel lie side by side: first the rows a row of bins touches are summed to one row
//                   buffer, with vectors along x; then each bin sums a few numbers of the buffer.
//                   A work item is one channel of one RoI; channel by channel, so that its map stays in the cache.
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

template <typename scalar_t>
struct Forward {
  using real_t = accumulate_t<scalar_t>;
  Pooling pooling;
  const scalar_t* features;
  int64_t stride_n, stride_c, stride_y, stride_x;
  const TapTable<real_t>& taps;
  const VisitOrder& order;
  scalar_t* output;

  // The RoI and channel of a work item in the contiguous layout: image by image, and in each channel by channel.
  std::pair<int64_t, int64_t> roi_and_channel(int64_t item) const {
    const int64_t place = item / pooling.channels;  // would be in `order.rois`, were it roi by roi
    const auto end = std::upper_bound(order.starts.begin(), order.starts.end(), place);
    const int64_t rois_here = *end - *(end - 1), first = *(end - 1);
    const int64_t inside = item - first * pooling.channels;
    return {order.rois[first + inside % rois_here], inside / rois_here};
  }
};

// sum[c] = w0 cell0[c] + w1 cell1[c] + ..., over the channels of the given cells, and from there to `output`.
template <typename scalar_t, typename real_t>
MRCNN_INLINE void sum_cells(
    const scalar_t* const* cells, const real_t* weights, int64_t count, int64_t channels, real_t* __restrict sum,
    scalar_t* __restrict output) {
  for (int64_t c = 0; c < channels; c++) sum[c] = 0;
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {  // four at a time: `sum` is read and written a quarter as often
    const scalar_t *a = cells[i], *b = cells[i + 1], *d = cells[i + 2], *e = cells[i + 3];
    const real_t wa = weights[i], wb = weights[i + 1], wd = weights[i + 2], we = weights[i + 3];
    for (int64_t c = 0; c < channels; c++)
      sum[c] = sum[c] + wa * load(a + c) + wb * load(b + c) + wd * load(d + c) + we * load(e + c);
  }
  for (; i < count; i++)
    for (int64_t c = 0; c < channels; c++) sum[c] += weights[i] * load(cells[i] + c);
  for (int64_t c = 0; c < channels; c++) store(output + c, sum[c]);
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
      sum_cells(
          cells.data(), weights.data(), cells.size(), pooling.channels, sum.data(), output + q * pooling.channels);
    }
  }
}

// One channel of one RoI: `map` (H, W) -> `output` (ph, pw).
template <typename scalar_t, typename real_t>
MRCNN_INLINE void pool_plane(
    const Forward<scalar_t>& job, int64_t k, const scalar_t* map, real_t* __restrict buffer, scalar_t* output) {
  const Pooling& pooling = job.pooling;
  const auto [left, right] = job.taps.column_range(k);
  for (int64_t p = 0; p < pooling.ph; p++) {
    for (int64_t x = left; x < right; x++) buffer[x] = 0;
    for (const auto& row : job.taps.rows(k, p)) {
      const scalar_t* cells = map + row.cell * job.stride_y;
      for (int64_t x = left; x < right; x++) buffer[x] += row.weight * load(cells + x);
    }
    for (int64_t q = 0; q < pooling.pw; q++) {
      real_t sum = 0;
      for (const auto& column : job.taps.columns(k, q)) sum += column.weight * buffer[column.cell];
      store(output + p * pooling.pw + q, sum);
    }
  }
}

template <typename scalar_t>
MRCNN_INLINE void pool_contiguous(const Forward<scalar_t>& job, int64_t from, int64_t to) {
  using real_t = accumulate_t<scalar_t>;
  const Pooling& pooling = job.pooling;
  const int64_t bins = pooling.ph * pooling.pw;
  std::vector<real_t> buffer(pooling.width);
  for (int64_t item = from; item < to; item++) {
    const auto [k, c] = job.roi_and_channel(item);
    scalar_t* output = job.output + (k * pooling.channels + c) * bins;
    const int64_t image = job.taps.image(k);
    if (image < 0)
      for (int64_t i = 0; i < bins; i++) store(output + i, real_t(NAN));
    else
      pool_plane(job, k, job.features + image * job.stride_n + c * job.stride_c, buffer.data(), output);
  }
}

#define MRCNN_FORWARD(scalar_t)                                                                        \
  MRCNN_WIDEST void run_channels_last(const Forward<scalar_t>& job, int64_t from, int64_t to) {        \
    pool_channels_last(job, from, to);                                                                 \
  }                                                                                                    \
  MRCNN_WIDEST void run_contiguous(const Forward<scalar_t>& job, int64_t from, int64_t to) {           \
    pool_contiguous(job, from, to);                                                                    \
  }
MRCNN_FORWARD(float)
MRCNN_FORWARD(double)
MRCNN_FORWARD(Half)
MRCNN_FORWARD(BFloat16)

template <typename scalar_t>
void pool(const Tensor& features, const Tensor& rois, const Pooling& pooling, bool channels_last, Tensor& output) {
  using real_t = accumulate_t<scalar_t>;
  const TapTable<real_t> taps(rois.const_data_ptr<real_t>(), pooling);
  const VisitOrder order = visit_order(taps, pooling);
  const Forward<scalar_t> job{
      pooling, features.const_data_ptr<scalar_t>(), features.stride(0), features.stride(1), features.stride(2),
      features.stride(3), taps, order, output.mutable_data_ptr<scalar_t>()};
  if (channels_last)
    torch::stable::parallel_for(0, pooling.rois * pooling.ph, /*grain_size=*/16, [&](int64_t from, int64_t to) {
      run_channels_last(job, from, to);
    });
  else
    torch::stable::parallel_for(0, pooling.rois * pooling.channels, /*grain_size=*/64, [&](int64_t from, int64_t to) {
      run_contiguous(job, from, to);
    });
}

Tensor roi_align(
    const Tensor& features, const Tensor& rois, double spatial_scale, int64_t ph, int64_t pw, int64_t sampling_ratio,
    bool aligned) {
  check_pooling("features", features, rois, ph, pw);
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
