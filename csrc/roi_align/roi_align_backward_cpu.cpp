// RoIAlign on the CPU, backward: each bin's gradient goes back to the cells the bin was read from, with the same weights.
//
// Neighbouring RoIs give to the same cells. Rather than let many threads add to one cell, each cell belongs to one thread,
// which collects what reaches it, always in the same order: no atomics, and the same bits for any number of threads.
//
//   channels_last   a thread owns rows of the map. A list by row says which bins' rows reach it.
//   contiguous      a thread owns channels, BLOCK at a time, and sums them in a small map of its own where these few lie
//                   side by side; a row of bins is spread over its columns, and that is added to the rows it came from.
#include <algorithm>
#include <numeric>
#include <vector>

#include "checks.h"
#include "cpu.h"
#include "library.h"
#include "roi_align/taps.h"

namespace mrcnn {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr int64_t BLOCK = 8;  // channels that the contiguous loop takes together

// One row of bins of one RoI, as a row of the map sees it.
template <typename real_t>
struct Gift {
  int64_t k, p;
  real_t weight;
};

template <typename real_t>
struct GiftsByRow {
  std::vector<Gift<real_t>> gifts;
  std::vector<int64_t> starts;  // (images * height + 1,) of each row's gifts

  GiftsByRow(const TapTable<real_t>& taps, const VisitOrder& order, const Pooling& pooling)
      : starts(pooling.images * pooling.height + 2) {
    auto each = [&](auto visit) {
      for (const int64_t k : order.rois)
        for (int64_t p = 0; p < pooling.ph; p++)
          for (const auto& row : taps.rows(k, p)) visit(taps.image(k) * pooling.height + row.cell, k, p, row.weight);
    };
    each([&](int64_t row, int64_t, int64_t, real_t) { starts[row + 2]++; });
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    gifts.resize(starts.back());
    each([&](int64_t row, int64_t k, int64_t p, real_t weight) { gifts[starts[row + 1]++] = {k, p, weight}; });
    starts.pop_back();
  }
};

template <typename scalar_t>
struct Backward {
  using real_t = accumulate_t<scalar_t>;
  Pooling pooling;
  const scalar_t* grad;  // of what was pooled
  int64_t stride_k, stride_c, stride_p, stride_q;
  const TapTable<real_t>& taps;
  const VisitOrder& order;
  const GiftsByRow<real_t>* gifts;  // channels_last only
  scalar_t* output;  // the gradient of the features, in the asked layout

  int64_t blocks() const { return (pooling.channels + BLOCK - 1) / BLOCK; }
};

// Rows from..to-1 of all images together.
template <typename scalar_t>
MRCNN_INLINE void collect_channels_last(const Backward<scalar_t>& job, int64_t from, int64_t to) {
  using real_t = accumulate_t<scalar_t>;
  const Pooling& pooling = job.pooling;
  const int64_t channels = pooling.channels, row_size = pooling.width * channels;
  std::vector<real_t> buffer(std::is_same_v<scalar_t, real_t> ? 0 : row_size);
  for (int64_t row = from; row < to; row++) {
    scalar_t* output = job.output + row * row_size;
    real_t* sums;  // the output itself, if it has the type for it
    if constexpr (std::is_same_v<scalar_t, real_t>) sums = output;
    else sums = buffer.data();
    std::fill(sums, sums + row_size, real_t(0));
    for (int64_t i = job.gifts->starts[row]; i < job.gifts->starts[row + 1]; i++) {
      const Gift<real_t>& gift = job.gifts->gifts[i];
      const scalar_t* bins = job.grad + gift.k * job.stride_k + gift.p * job.stride_p;
      for (int64_t q = 0; q < pooling.pw; q++)
        for (const auto& column : job.taps.columns(gift.k, q)) {
          const real_t weight = gift.weight * column.weight;
          const scalar_t* bin = bins + q * job.stride_q;
          real_t* __restrict cell = sums + column.cell * channels;
          for (int64_t c = 0; c < channels; c++) cell[c] += weight * load(bin + c);
        }
    }
    if constexpr (!std::is_same_v<scalar_t, real_t>)
      for (int64_t i = 0; i < row_size; i++) store(output + i, sums[i]);
  }
}

// What one row of bins gives, of a few channels at once: `columns` (right - left, BLOCK).
template <typename scalar_t, typename real_t>
MRCNN_INLINE void spread_bins(
    const Backward<scalar_t>& job, int64_t k, int64_t count, const scalar_t* bins, int64_t left, int64_t right,
    real_t* __restrict columns) {
  std::fill(columns, columns + (right - left) * BLOCK, real_t(0));
  for (int64_t q = 0; q < job.pooling.pw; q++) {
    real_t grad[BLOCK] = {};
    for (int64_t c = 0; c < count; c++) grad[c] = load(bins + c * job.stride_c + q * job.stride_q);
    for (const auto& column : job.taps.columns(k, q)) {
      real_t* cells = columns + (column.cell - left) * BLOCK;
      for (int64_t c = 0; c < BLOCK; c++) cells[c] += column.weight * grad[c];
    }
  }
}

// Blocks of channels from..to-1 of all images together.
template <typename scalar_t>
MRCNN_INLINE void collect_contiguous(const Backward<scalar_t>& job, int64_t from, int64_t to) {
  using real_t = accumulate_t<scalar_t>;
  const Pooling& pooling = job.pooling;
  const int64_t size = pooling.height * pooling.width;
  std::vector<real_t> sums(size * BLOCK), columns(pooling.width * BLOCK);  // (H, W, BLOCK), (W, BLOCK)
  for (int64_t block = from; block < to; block++) {
    const int64_t image = block / job.blocks(), channel = block % job.blocks() * BLOCK;
    const int64_t count = std::min(BLOCK, pooling.channels - channel);
    std::fill(sums.begin(), sums.end(), real_t(0));
    const auto [first, last] = job.order.of_image(image);
    for (int64_t i = first; i < last; i++) {
      const int64_t k = job.order.rois[i];
      const auto [left, right] = job.taps.column_range(k);
      for (int64_t p = 0; p < pooling.ph; p++) {
        const scalar_t* bins = job.grad + k * job.stride_k + channel * job.stride_c + p * job.stride_p;
        const real_t* __restrict gift = columns.data();
        spread_bins(job, k, count, bins, left, right, columns.data());
        for (const auto& row : job.taps.rows(k, p)) {
          real_t* __restrict cells = &sums[(row.cell * pooling.width + left) * BLOCK];
          for (int64_t x = 0; x < (right - left) * BLOCK; x++) cells[x] += row.weight * gift[x];
        }
      }
    }
    scalar_t* output = job.output + (image * pooling.channels + channel) * size;  // (count, H, W)
    for (int64_t c = 0; c < count; c++)
      for (int64_t i = 0; i < size; i++) store(output + c * size + i, sums[i * BLOCK + c]);
  }
}

// Cut the rows into one stretch per thread, of about equal work: objects, and so RoIs, crowd in some rows.
template <typename real_t>
std::vector<int64_t> share_rows(const GiftsByRow<real_t>& gifts, const Pooling& pooling) {
  const int64_t rows = pooling.images * pooling.height, threads = torch::stable::get_num_threads();
  auto work_before = [&](int64_t row) { return row * pooling.width + gifts.starts[row] * 3 * pooling.pw; };
  std::vector<int64_t> bounds{0};
  for (int64_t row = 0; row < rows; row++)
    if (work_before(row) * threads >= work_before(rows) * static_cast<int64_t>(bounds.size())) bounds.push_back(row);
  bounds.push_back(rows);
  return bounds;
}

template <typename scalar_t>
void collect(const Tensor& grad_in, const Tensor& rois, const Pooling& pooling, bool channels_last, Tensor& output) {
  using real_t = accumulate_t<scalar_t>;
  // Each layout reads the gradient along its own inner axis.
  const bool readable = channels_last ? grad_in.stride(1) == 1 : grad_in.is_contiguous();
  const auto format = channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  const Tensor grad = readable ? grad_in : torch::stable::contiguous(grad_in, format);
  const TapTable<real_t> taps(rois.const_data_ptr<real_t>(), pooling);
  const VisitOrder order = visit_order(taps, pooling);
  prefer_large_pages(output.mutable_data_ptr<scalar_t>(), output.numel());
  Backward<scalar_t> job{
      pooling, grad.const_data_ptr<scalar_t>(), grad.stride(0), grad.stride(1), grad.stride(2), grad.stride(3),
      taps, order, nullptr, output.mutable_data_ptr<scalar_t>()};
  if (!channels_last) {
    torch::stable::parallel_for(0, pooling.images * job.blocks(), /*grain_size=*/1, [&](int64_t from, int64_t to) {
      run_widest<collect_contiguous<scalar_t>>(job, from, to);
    });
    return;
  }
  const GiftsByRow<real_t> gifts(taps, order, pooling);
  job.gifts = &gifts;
  const std::vector<int64_t> bounds = share_rows(gifts, pooling);
  torch::stable::parallel_for(0, bounds.size() - 1, /*grain_size=*/1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) run_widest<collect_channels_last<scalar_t>>(job, bounds[i], bounds[i + 1]);
  });
}

Tensor roi_align_backward(
    const Tensor& grad, const Tensor& rois, double spatial_scale, int64_t ph, int64_t pw, int64_t batch,
    int64_t channels, int64_t height, int64_t width, int64_t sampling_ratio, bool aligned, bool channels_last,
    bool /*deterministic: always*/) {
  check_pooled_grad(grad, rois, channels, ph, pw, sampling_ratio);
  const Pooling pooling{batch, channels, height, width, rois.size(0), ph, pw, spatial_scale, sampling_ratio, aligned};
  Tensor output = empty_map(grad, batch, channels, height, width, channels_last);
  switch (grad.scalar_type()) {
    case ScalarType::Float: collect<float>(grad, rois, pooling, channels_last, output); break;
    case ScalarType::Double: collect<double>(grad, rois, pooling, channels_last, output); break;
    case ScalarType::Half: collect<Half>(grad, rois, pooling, channels_last, output); break;
    default: collect<BFloat16>(grad, rois, pooling, channels_last, output);
  }
  return output;
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, CPU, m) {
  m.impl("roi_align_backward", TORCH_BOX(&mrcnn::roi_align_backward));
}
