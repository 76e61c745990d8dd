// RoIAlign on the GPU (Mask R-CNN, section 3).
//
// A RoI is cut into ph x pw bins. In each bin lie grid_h x grid_w samples; each reads the map between four cells, and
// the bin is their mean. Rows and columns are independent: sample (i, j) weighs cell (y, x) with weight_i(y) *
// weight_j(x). So what we need of a RoI is, for each of its ph * grid_h sample rows and pw * grid_w sample columns, two
// cells and two weights: a `Tap`.
//
//        low      high            a sample row at 3.2 reads 0.8 of row 3 and 0.2 of row 4
//     ----3---o-----4----
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "cuda_on_cpu/cuda_on_cpu.h"
#include "roi_align/launch.h"

namespace mrcnn {
namespace {

// ---- the maths ---------------------------------------------------------------------------------------------

template <typename Real>
struct Tap {
  int64_t low, high;  // where the two cells lie, in elements from cell 0; low < 0: the sample is off the map
  Real low_weight, high_weight;
};

// One RoI along one axis, in cells of the map.
template <typename Real>
struct Axis {
  Real start, bin;  // where it begins, and how long a bin is
  int bins, grid;   // samples per bin
  int cells;
  int64_t stride;

  __device__ int64_t samples() const { return static_cast<int64_t>(bins) * grid; }

  __device__ Tap<Real> tap(int bin_index, int sample) const {
    Real at = start + bin_index * bin + (sample + Real(0.5)) * bin / grid;
    if (!(at >= -1 && at <= cells)) return {-1, -1, 0, 0};
    at = min(max(at, Real(0)), Real(cells - 1));
    const int low = min(static_cast<int>(at), cells - 1);  // float32 has no number for cell 2^24 + 1
    const int high = min(low + 1, cells - 1);
    return {low * stride, high * stride, 1 - (at - low), at - low};
  }
};

template <typename Real>
__device__ Axis<Real> make_axis(Real from, Real to, int bins, int cells, int64_t stride, const PoolProblem& p) {
  const Real scale = static_cast<Real>(p.scale), half_pixel = p.aligned ? Real(0.5) : Real(0);
  const Real start = from * scale - half_pixel;
  Real length = to * scale - half_pixel - start;
  if (!p.aligned) length = max(length, Real(1));
  const Real bin = length / bins;
  const int adaptive = bin > 0 ? static_cast<int>(min(ceil(bin), Real(most_samples))) : 0;
  return {start, bin, bins, cells == 0 ? 0 : p.sampling_ratio > 0 ? p.sampling_ratio : adaptive, cells, stride};
}

template <typename Real>
struct Roi {
  int64_t index, image;  // image < 0: not a RoI (no such image, or a coordinate that is not finite)
  Axis<Real> y, x;

  __device__ Real samples_per_bin() const { return max(Real(y.grid) * x.grid, Real(1)); }
};

template <typename Real>
__device__ Roi<Real> read_roi(const Real* rois, int64_t index, const PoolProblem& p) {
  const Real* roi = rois + 5 * index;  // image, x1, y1, x2, y2
  const Map &map = p.features, &pooled = p.pooled;
  bool valid = roi[0] >= 0 && roi[0] < p.images && roi[0] == floor(roi[0]);
  for (int i = 1; i < 5; ++i) valid = valid && roi[i] - roi[i] == 0;  // infinity - infinity is NaN
  return {index, valid ? static_cast<int64_t>(roi[0]) : -1,
          make_axis(roi[2], roi[4], pooled.height, map.height, map.stride_y, p),
          make_axis(roi[1], roi[3], pooled.width, map.width, map.stride_x, p)};
}

// ---- forward -----------------------------------------------------------------------------------------------
//
// A block takes one RoI and 64 of its channels. First its threads work out the taps, once, into shared memory; then
// each computes output after output:
//
//    channels_last   thread 0 1 2 3 ... -> channels 0-3, 4-7, 8-11, ... of bin 0, then of bin 1, ...
//                    a warp reads 32 neighbouring pieces of 16 bytes of each cell: coalesced
//    contiguous      thread 0 1 2 3 ... -> bins 0, 1, 2, ... of channel 0, then of channel 1, ...
//                    a warp reads cells a bin apart and writes neighbouring outputs

constexpr int threads = 256;
constexpr int channels_per_block = 64;
constexpr int table_size = 128;  // taps per axis; a RoI with more samples than that works the rest out as it goes
constexpr int64_t max_blocks = 1 << 20;

// Blocks that a multiprocessor shall hold at once, at least: the fewer, the more registers ptxas may give a thread.
template <typename T>
constexpr int resident = sizeof(T) == 8 ? 2 : 3;

template <typename Real>
__device__ void fill_table(Tap<Real>* table, const Axis<Real>& axis) {
  const int64_t count = min(axis.samples(), int64_t(table_size));
  for (int i = threadIdx.x; i < count; i += blockDim.x) table[i] = axis.tap(i / axis.grid, i % axis.grid);
}

template <typename Real>
__device__ Tap<Real> look_up(const Tap<Real>* table, const Axis<Real>& axis, int bin, int sample) {
  const int64_t i = static_cast<int64_t>(bin) * axis.grid + sample;
  return i < table_size ? table[i] : axis.tap(bin, sample);
}

// The n-th output of a block: which bin, and which channel.
struct Output {
  int bin_y, bin_x;
  int64_t channel;
};

template <int Vec, bool ChannelsLast>
__device__ Output nth_output(int n, int64_t first_channel, const Map& pooled) {
  constexpr int vectors = channels_per_block / Vec;
  const int bins = pooled.height * pooled.width;
  const int bin = ChannelsLast ? n / vectors : n % bins;
  const int vector = ChannelsLast ? n % vectors : n / bins;
  return {bin / pooled.width, bin % pooled.width, first_channel + vector * Vec};
}

template <typename T, int Vec>
struct alignas(sizeof(T) * Vec) Vector {  // read and written in one piece
  T values[Vec];
};

template <typename T, int Vec, typename Real>
__device__ void add_cell(Real (&sum)[Vec], const T* cell, Real weight) {
  const Vector<T, Vec> read = *reinterpret_cast<const Vector<T, Vec>*>(cell);
  for (int v = 0; v < Vec; ++v) sum[v] += weight * static_cast<Real>(read.values[v]);
}

template <typename T, int Vec, bool ChannelsLast>
__global__ void __launch_bounds__(threads, resident<T>)
    roi_align_forward(const T* __restrict__ features, const typename Sums<T>::Type* __restrict__ rois,
                      T* __restrict__ out, PoolProblem p) {
  using Real = typename Sums<T>::Type;
  __shared__ Tap<Real> y_table[table_size], x_table[table_size];
  const int64_t chunks = (p.features.channels + channels_per_block - 1) / channels_per_block;
  const int outputs = p.pooled.height * p.pooled.width * (channels_per_block / Vec);

  for (int64_t item = blockIdx.x; item < p.rois * chunks; item += gridDim.x) {
    const Roi<Real> roi = read_roi(rois, item / chunks, p);
    fill_table(y_table, roi.y);
    fill_table(x_table, roi.x);
    __syncthreads();
    for (int n = threadIdx.x; n < outputs; n += blockDim.x) {
      const Output o = nth_output<Vec, ChannelsLast>(n, item % chunks * channels_per_block, p.pooled);
      if (o.channel >= p.features.channels) continue;
      const T* channel = features + max(roi.image, int64_t(0)) * p.features.stride_n + o.channel * p.features.stride_c;
      Real sum[Vec] = {};
      for (int i = 0; roi.image >= 0 && i < roi.y.grid; ++i) {  // without an image, which may be none at all: NaN
        const Tap<Real> y = look_up(y_table, roi.y, o.bin_y, i);
        if (y.low < 0) continue;
        for (int j = 0; j < roi.x.grid; ++j) {
          const Tap<Real> x = look_up(x_table, roi.x, o.bin_x, j);
          if (x.low < 0) continue;
          add_cell<T, Vec>(sum, channel + y.low + x.low, y.low_weight * x.low_weight);
          add_cell<T, Vec>(sum, channel + y.low + x.high, y.low_weight * x.high_weight);
          add_cell<T, Vec>(sum, channel + y.high + x.low, y.high_weight * x.low_weight);
          add_cell<T, Vec>(sum, channel + y.high + x.high, y.high_weight * x.high_weight);
        }
      }
      Vector<T, Vec> mean;
      for (int v = 0; v < Vec; ++v)
        mean.values[v] = static_cast<T>(roi.image < 0 ? Real(NAN) : sum[v] / roi.samples_per_bin());
      T* to = out + roi.index * p.pooled.stride_n + o.channel * p.pooled.stride_c + o.bin_y * p.pooled.stride_y +
              o.bin_x * p.pooled.stride_x;
      *reinterpret_cast<Vector<T, Vec>*>(to) = mean;
    }
    __syncthreads();  // nobody still reads the table when the next RoI overwrites it
  }
}

// ---- backward, scattering ----------------------------------------------------------------------------------
//
// The same threads as in the forward pass; each adds its output's gradient to the cells the output was read from. Many
// outputs read one cell, so the additions are atomic; their order, and with it the last bits, differs from run to run.

template <typename T, bool ChannelsLast>
__global__ void __launch_bounds__(threads, resident<T>)
    roi_align_backward_scatter(const T* __restrict__ grad, const typename Sums<T>::Type* __restrict__ rois,
                               typename Sums<T>::Type* grad_features, PoolProblem p) {
  using Real = typename Sums<T>::Type;
  __shared__ Tap<Real> y_table[table_size], x_table[table_size];
  const int64_t chunks = (p.features.channels + channels_per_block - 1) / channels_per_block;
  const int outputs = p.pooled.height * p.pooled.width * channels_per_block;

  for (int64_t item = blockIdx.x; item < p.rois * chunks; item += gridDim.x) {
    const Roi<Real> roi = read_roi(rois, item / chunks, p);
    fill_table(y_table, roi.y);
    fill_table(x_table, roi.x);
    __syncthreads();
    for (int n = threadIdx.x; n < outputs && roi.image >= 0; n += blockDim.x) {
      const Output o = nth_output<1, ChannelsLast>(n, item % chunks * channels_per_block, p.pooled);
      if (o.channel >= p.features.channels) continue;
      const T from = grad[roi.index * p.pooled.stride_n + o.channel * p.pooled.stride_c + o.bin_y * p.pooled.stride_y +
                          o.bin_x * p.pooled.stride_x];
      const Real each = static_cast<Real>(from) / roi.samples_per_bin();
      Real* channel = grad_features + roi.image * p.features.stride_n + o.channel * p.features.stride_c;
      for (int i = 0; i < roi.y.grid; ++i) {
        const Tap<Real> y = look_up(y_table, roi.y, o.bin_y, i);
        if (y.low < 0) continue;
        for (int j = 0; j < roi.x.grid; ++j) {
          const Tap<Real> x = look_up(x_table, roi.x, o.bin_x, j);
          if (x.low < 0) continue;
          atomicAdd(channel + y.low + x.low, each * y.low_weight * x.low_weight);
          atomicAdd(channel + y.low + x.high, each * y.low_weight * x.high_weight);
          atomicAdd(channel + y.high + x.low, each * y.high_weight * x.low_weight);
          atomicAdd(channel + y.high + x.high, each * y.high_weight * x.high_weight);
        }
      }
    }
    __syncthreads();
  }
}

// ---- backward, gathering -----------------------------------------------------------------------------------
//
// The other way round: each thread owns one cell, and looks for the samples that read it. Nobody else writes there, and
// the order of its sum is always the same: RoI by RoI, sample row by sample row.
//
//    block:   16 x 16 cells, 8 channels       256 RoIs at a time: which of them touch these cells? Those are packed,
//    thread:  1 cell, 8 channels                 in order, into shared memory; then every thread goes through them:
//
//    RoI     0 1 2 3 4 5 6 7 ...                 touched: a ballot per warp, and where a RoI goes is the number of
//    touches . x . . x x . . ...  ->  1 4 5      touching RoIs before it

constexpr int tile = 16;
constexpr int gather_channels = 8;
static_assert(tile * tile == threads, "one thread per cell");

// Whether some sample may read a cell of [first, last]. A sample reads cells less than one away from it; the rest of
// `reach` is for rounding, which grows with the coordinates.
template <typename Real>
__device__ bool touches(const Axis<Real>& axis, int first, int last) {
  const Real reach = Real(1.0625) + axis.cells * Real(1e-6), end = axis.start + axis.bin * axis.bins;
  return axis.grid > 0 && min(axis.start, end) <= last + reach && max(axis.start, end) >= first - reach;
}

// The samples that may read `cell`: first, and one past the last.
template <typename Real>
__device__ void samples_near(const Axis<Real>& axis, int cell, int64_t& first, int64_t& last) {
  const Real reach = Real(1.0625) + axis.cells * Real(1e-6), step = axis.bin / axis.grid;
  const Real count = static_cast<Real>(axis.samples());
  first = 0;
  last = axis.samples();
  if (!(step > 0)) return;  // a RoI without length, or turned around: any
  first = static_cast<int64_t>(min(max((cell - reach - axis.start) / step - 1, Real(0)), count));
  last = min(static_cast<int64_t>(min(max((cell + reach - axis.start) / step + 2, Real(0)), count)), last);
}

// How much of sample `i` is read from `cell`.
template <typename Real>
__device__ Real weight_on(const Axis<Real>& axis, int64_t i, int cell) {
  const Tap<Real> tap = axis.tap(static_cast<int>(i / axis.grid), static_cast<int>(i % axis.grid));
  const int64_t at = cell * axis.stride;
  return (tap.low == at ? tap.low_weight : Real(0)) + (tap.high == at ? tap.high_weight : Real(0));
}

// Appends this thread's RoI, if `wanted`, to `list`, in the threads' order; returns how many the block appended.
template <typename Real>
__device__ int pack_in_order(Roi<Real>* list, const Roi<Real>& roi, bool wanted) {
  __shared__ int warp_counts[threads / 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned ballot = __ballot_sync(~0u, wanted);
  if (lane == 0) warp_counts[warp] = __popc(ballot);
  __syncthreads();  // also: everyone is done with the previous list
  int before = __popc(ballot & ((1u << lane) - 1)), total = 0;
  for (int w = 0; w < threads / 32; ++w) {
    if (w < warp) before += warp_counts[w];
    total += warp_counts[w];
  }
  if (wanted) list[before] = roi;
  __syncthreads();
  return total;
}

template <typename T, typename Real>
__device__ void gather_roi(Real (&sum)[gather_channels], const T* grad, const Roi<Real>& roi, int y, int x,
                           int64_t first_channel, const PoolProblem& p) {
  int64_t y_first, y_last, x_first, x_last;
  samples_near(roi.y, y, y_first, y_last);
  samples_near(roi.x, x, x_first, x_last);
  const T* channel = grad + roi.index * p.pooled.stride_n + first_channel * p.pooled.stride_c;
  for (int64_t i = y_first; i < y_last; ++i) {
    const Real y_weight = weight_on(roi.y, i, y) / roi.samples_per_bin();
    if (y_weight == 0) continue;
    for (int64_t j = x_first; j < x_last; ++j) {
      const Real weight = y_weight * weight_on(roi.x, j, x);
      if (weight == 0) continue;
      const T* bin = channel + i / roi.y.grid * p.pooled.stride_y + j / roi.x.grid * p.pooled.stride_x;
      for (int c = 0; c < gather_channels; ++c)
        if (first_channel + c < p.features.channels)
          sum[c] += weight * static_cast<Real>(bin[c * p.pooled.stride_c]);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(threads, 2)
    roi_align_backward_gather(const T* __restrict__ grad, const typename Sums<T>::Type* __restrict__ rois,
                              T* __restrict__ grad_features, PoolProblem p) {
  using Real = typename Sums<T>::Type;
  __shared__ Roi<Real> list[threads];
  const Map& map = p.features;
  const int64_t tiles_y = (map.height + tile - 1) / tile, tiles_x = (map.width + tile - 1) / tile;
  const int64_t chunks = (map.channels + gather_channels - 1) / gather_channels;

  for (int64_t item = blockIdx.x; item < p.images * chunks * tiles_y * tiles_x; item += gridDim.x) {
    const int top = item / tiles_x % tiles_y * tile, left = item % tiles_x * tile;
    const int64_t first_channel = item / tiles_x / tiles_y % chunks * gather_channels;
    const int64_t image = item / tiles_x / tiles_y / chunks;
    const int y = top + threadIdx.x / tile, x = left + threadIdx.x % tile;
    Real sum[gather_channels] = {};
    for (int64_t first = 0; first < p.rois; first += threads) {
      const int64_t index = min(first + threadIdx.x, p.rois - 1);
      const Roi<Real> roi = read_roi(rois, index, p);
      const bool wanted = first + threadIdx.x < p.rois && roi.image == image &&
                          touches(roi.y, top, top + tile - 1) && touches(roi.x, left, left + tile - 1);
      const int count = pack_in_order(list, roi, wanted);
      for (int i = 0; i < count; ++i) gather_roi(sum, grad, list[i], y, x, first_channel, p);
    }
    T* to = grad_features + image * map.stride_n + first_channel * map.stride_c + y * map.stride_y + x * map.stride_x;
    for (int c = 0; c < gather_channels; ++c)
      if (y < map.height && x < map.width && first_channel + c < map.channels)
        to[c * map.stride_c] = static_cast<T>(sum[c]);
  }
}

// ---- launches ----------------------------------------------------------------------------------------------

// Blocks for `items`, at least one each as far as the grid goes; a block takes several when there are more.
unsigned blocks_for(int64_t items) { return static_cast<unsigned>(items < max_blocks ? items : max_blocks); }

int64_t chunks_of(int64_t channels, int each) { return (channels + each - 1) / each; }

// Whether channels can be read and written `size` at a time, in pieces of 16 bytes.
bool in_vectors_of(int size, int bytes, const void* features, const void* out, const PoolProblem& p) {
  const Map &map = p.features, &pooled = p.pooled;
  for (int64_t step : {map.channels, map.stride_n, map.stride_y, map.stride_x, pooled.stride_n, pooled.stride_y,
                       pooled.stride_x})
    if (step % size != 0) return false;
  const auto address = reinterpret_cast<uintptr_t>(features) | reinterpret_cast<uintptr_t>(out);
  return address % (size * bytes) == 0;
}

bool channels_side_by_side(const PoolProblem& p) { return p.features.stride_c == 1 && p.pooled.stride_c == 1; }

}  // namespace

template <typename T>
void launch_roi_align(const T* features, const typename Sums<T>::Type* rois, T* pooled, const PoolProblem& p,
                      void* stream) {
  const unsigned blocks = blocks_for(p.rois * chunks_of(p.features.channels, channels_per_block));
  if (blocks == 0) return;
  const auto s = static_cast<cudaStream_t>(stream);
  constexpr int vec = 16 / sizeof(T);
  if (channels_side_by_side(p) && in_vectors_of(vec, sizeof(T), features, pooled, p))
    CUDA_LAUNCH((roi_align_forward<T, vec, true>), blocks, threads, 0, s, features, rois, pooled, p);
  else if (channels_side_by_side(p))
    CUDA_LAUNCH((roi_align_forward<T, 1, true>), blocks, threads, 0, s, features, rois, pooled, p);
  else
    CUDA_LAUNCH((roi_align_forward<T, 1, false>), blocks, threads, 0, s, features, rois, pooled, p);
}

template <typename T>
void launch_roi_align_scatter(const T* grad, const typename Sums<T>::Type* rois,
                              typename Sums<T>::Type* grad_features, const PoolProblem& p, void* stream) {
  const unsigned blocks = blocks_for(p.rois * chunks_of(p.features.channels, channels_per_block));
  if (blocks == 0) return;
  const auto s = static_cast<cudaStream_t>(stream);
  if (channels_side_by_side(p))
    CUDA_LAUNCH((roi_align_backward_scatter<T, true>), blocks, threads, 0, s, grad, rois, grad_features, p);
  else
    CUDA_LAUNCH((roi_align_backward_scatter<T, false>), blocks, threads, 0, s, grad, rois, grad_features, p);
}

template <typename T>
void launch_roi_align_gather(const T* grad, const typename Sums<T>::Type* rois, T* grad_features, const PoolProblem& p,
                             void* stream) {
  const int64_t tiles = chunks_of(p.features.height, tile) * chunks_of(p.features.width, tile);
  const unsigned blocks = blocks_for(p.images * chunks_of(p.features.channels, gather_channels) * tiles);
  if (blocks == 0) return;
  CUDA_LAUNCH((roi_align_backward_gather<T>), blocks, threads, 0, static_cast<cudaStream_t>(stream), grad, rois,
              grad_features, p);
}

#define MRCNN_FOR(T)                                                                                             \
  template void launch_roi_align(const T*, const Sums<T>::Type*, T*, const PoolProblem&, void*);                     \
  template void launch_roi_align_scatter(const T*, const Sums<T>::Type*, Sums<T>::Type*, const PoolProblem&, void*); \
  template void launch_roi_align_gather(const T*, const Sums<T>::Type*, T*, const PoolProblem&, void*);
MRCNN_FOR(float)
MRCNN_FOR(double)
MRCNN_FOR(c10::Half)
MRCNN_FOR(c10::BFloat16)

}  // namespace mrcnn
