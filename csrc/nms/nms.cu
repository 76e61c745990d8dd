// Non-maximum suppression on the GPU (Faster R-CNN, section 3.2).
//
// The greedy rule is serial: a box is kept when no better kept box overlaps it. Here it is done strip by strip, 2048
// boxes at a time, in memory that does not grow with N^2:
//
//             boxes, best first
//    strip   |=====|-----------------------------|     1. compare: which boxes of the strip overlap which, as bits
//                                                      2. resolve: which of them are kept
//    later         |.....x......xx......x........|     3. suppress: drop the later boxes that a kept one overlaps
//    strip         |=====|-----------------------|     and the same again
//
// Everything stays on the device, and the number of launches is known beforehand: no waiting.
#include "iou.cuh"
#include "nms/launch.h"

namespace mrcnn {
namespace {

constexpr int word_bits = 32;
constexpr int strip_words = nms_strip / word_bits;

template <typename Real>
__device__ bool suppresses(const NmsProblem<Real>& p, const Box<Real>& better, int64_t better_group,
                           const Box<Real>& box, int64_t group) {
  return better_group == group && iou(better, box) > p.threshold;
}

template <typename Real>
__device__ Box<Real> box_at(const NmsProblem<Real>& p, int64_t i) {
  return reinterpret_cast<const Box<Real>*>(p.boxes)[i];
}

template <typename Real>
__device__ int64_t group_at(const NmsProblem<Real>& p, int64_t i) {
  return p.groups ? p.groups[i] : 0;
}

// ---- 1. compare --------------------------------------------------------------------------------------------
//
//                   box i of the strip ->                A thread makes one word: which of 32 better boxes overlap its
//    word 0          x x x x x x x x x x x x             box i. Neighbouring threads have neighbouring boxes, so they
//    (better 0-31)                                       write neighbouring words, and all read the same 32 boxes.
//    word 1                  x x x x x x x x             A box has no better ones below the diagonal: nothing is
//    (better 32-63)                                      written there, nor read.

constexpr int compare_threads = 128;
static_assert(nms_strip % compare_threads == 0, "the last block of a strip ends with it");

template <typename Real>
__global__ void __launch_bounds__(compare_threads, 4)
    nms_compare(NmsProblem<Real> p, int64_t strip, unsigned* __restrict__ overlaps) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, word = blockIdx.y;
  if (strip + i >= p.n || word > i / word_bits) return;
  const Box<Real> box = box_at(p, strip + i);
  const int64_t group = group_at(p, strip + i);
  unsigned bits = 0;
  for (int b = 0; b < word_bits && word * word_bits + b < i; ++b) {
    const int64_t better = strip + word * word_bits + b;
    if (suppresses(p, box_at(p, better), group_at(p, better), box, group)) bits |= 1u << b;
  }
  overlaps[word * nms_strip + i] = bits;
}

// ---- 2. resolve --------------------------------------------------------------------------------------------
//
// The greedy answer is the only set with: a box is in it when no better box in it overlaps it. It is found as a fixed
// point: begin with all boxes, and let all of them ask at once whether a better one still in the set overlaps them.
// After round r the first r boxes are right for good, and so are all whose chain of "dropped by one that was dropped
// by ..." is at most r long; real boxes take a handful of rounds, the worst case as many as the greedy loop has steps.
//
//    one block; thread t asks for boxes t and t + 1024; a warp's 32 answers are one word, made by a ballot

constexpr int resolve_threads = 1024;
constexpr int boxes_per_thread = nms_strip / resolve_threads;

__global__ void __launch_bounds__(resolve_threads)
    nms_resolve(int64_t n, int64_t strip, const unsigned* __restrict__ overlaps, unsigned* __restrict__ dropped,
               int64_t* __restrict__ survivors, int* __restrict__ survivor_count) {
  __shared__ unsigned kept[strip_words];
  const int lane = threadIdx.x % warpSize;
  const int64_t count = min(n - strip, int64_t(nms_strip));

  unsigned alive[boxes_per_thread];  // the word of each of this thread's boxes: not dropped by an earlier strip
  for (int r = 0; r < boxes_per_thread; ++r) {
    const int i = r * resolve_threads + threadIdx.x, word = i / word_bits;
    const bool there = i < count && !(dropped[(strip + i) / word_bits] >> lane & 1);
    alive[r] = __ballot_sync(~0u, there);
    if (lane == 0) kept[word] = alive[r];
  }
  __syncthreads();

  bool changed = true;
  while (__syncthreads_or(changed)) {
    unsigned next[boxes_per_thread];
    for (int r = 0; r < boxes_per_thread; ++r) {
      const int i = r * resolve_threads + threadIdx.x;
      bool keep = alive[r] >> lane & 1;
      for (int word = 0; keep && word <= i / word_bits; ++word)
        keep = (overlaps[word * nms_strip + i] & kept[word]) == 0;
      next[r] = __ballot_sync(~0u, keep);
    }
    __syncthreads();  // all have read the old set
    changed = false;
    for (int r = 0; r < boxes_per_thread; ++r) {
      const int word = (r * resolve_threads + threadIdx.x) / word_bits;
      if (lane == 0 && kept[word] != next[r]) {
        kept[word] = next[r];
        changed = true;
      }
    }
  }

  for (int r = 0; r < boxes_per_thread; ++r) {
    const int i = r * resolve_threads + threadIdx.x;
    int before = __popc(kept[i / word_bits] & ((1u << lane) - 1));
    for (int word = 0; word < i / word_bits; ++word) before += __popc(kept[word]);
    const bool keep = kept[i / word_bits] >> lane & 1;
    if (keep) survivors[before] = strip + i;
    if (i == nms_strip - 1) *survivor_count = before + keep;
    if (lane == 0 && i < count) dropped[(strip + i) / word_bits] = ~kept[i / word_bits];
  }
}

// ---- 3. suppress -------------------------------------------------------------------------------------------
//
//                     later boxes ->
//    survivors   |  block (0,0) | block (1,0) | ...      A thread has one later box, and compares it with 128
//    0-127       |              |             |          survivors that its block has put into shared memory. A
//    survivors   |  block (0,1) | block (1,1) | ...      warp's 32 answers are one word, added with one atomic.
//    128-255

constexpr int suppress_threads = 256;
constexpr int suppress_survivors = 128;

template <typename Real>
__global__ void __launch_bounds__(suppress_threads)
    nms_suppress(NmsProblem<Real> p, int64_t strip, const int64_t* __restrict__ survivors,
               const int* __restrict__ survivor_count, unsigned* dropped) {
  __shared__ Box<Real> better[suppress_survivors];
  __shared__ int64_t better_group[suppress_survivors];
  const int first = blockIdx.y * suppress_survivors, count = min(*survivor_count - first, suppress_survivors);
  const int64_t later = strip + nms_strip, block_first = later + int64_t(blockIdx.x) * suppress_threads;
  if (count <= 0 || group_at(p, block_first) > group_at(p, later - 1)) return;  // the whole block: no group in common

  for (int s = threadIdx.x; s < count; s += blockDim.x) {
    better[s] = box_at(p, survivors[first + s]);
    better_group[s] = group_at(p, survivors[first + s]);
  }
  __syncthreads();

  const int64_t i = block_first + threadIdx.x;
  const int lane = threadIdx.x % warpSize;
  unsigned word = 0;  // read as an atomic: other blocks may be adding to it
  if (lane == 0 && i < p.n) word = atomicOr(&dropped[i / word_bits], 0u);
  bool drop = __shfl_sync(~0u, word, 0) >> lane & 1;
  if (i < p.n && !drop) {
    const Box<Real> box = box_at(p, i);
    const int64_t group = group_at(p, i);
    for (int s = 0; s < count && !drop; ++s) drop = suppresses(p, better[s], better_group[s], box, group);
  }
  const unsigned drops = __ballot_sync(~0u, drop);
  if (lane == 0 && drops & ~word) atomicOr(&dropped[i / word_bits], drops);
}

// ---- the answer, by falling score over all groups ----------------------------------------------------------

constexpr int collect_threads = 256;

__global__ void __launch_bounds__(collect_threads)
    nms_collect(const unsigned* __restrict__ dropped, const int64_t* __restrict__ order,
                const int64_t* __restrict__ rank, int64_t n, bool* __restrict__ kept, int64_t* __restrict__ rows) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t to = rank ? rank[i] : i;
  kept[to] = !(dropped[i / word_bits] >> i % word_bits & 1);
  rows[to] = order[i];
}

unsigned blocks_for(int64_t items, int64_t each) { return static_cast<unsigned>((items + each - 1) / each); }

}  // namespace

// ---- launches ----------------------------------------------------------------------------------------------

template <typename Real>
void launch_nms(const NmsProblem<Real>& p, const NmsWorkspace& w, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  for (int64_t strip = 0; strip < p.n; strip += nms_strip) {
    const int64_t count = p.n - strip < nms_strip ? p.n - strip : nms_strip, later = p.n - strip - count;
    const dim3 compare(blocks_for(count, compare_threads), blocks_for(count, word_bits));
    CUDA_LAUNCH((nms_compare<Real>), compare, compare_threads, 0, s, p, strip, w.overlaps);
    CUDA_LAUNCH(
        nms_resolve, 1, resolve_threads, 0, s, p.n, strip, w.overlaps, w.dropped, w.survivors, w.survivor_count);
    if (later == 0) break;
    const dim3 suppress(blocks_for(later, suppress_threads), blocks_for(nms_strip, suppress_survivors));
    CUDA_LAUNCH(
        (nms_suppress<Real>), suppress, suppress_threads, 0, s, p, strip, w.survivors, w.survivor_count, w.dropped);
  }
}

template void launch_nms(const NmsProblem<float>&, const NmsWorkspace&, void*);
template void launch_nms(const NmsProblem<double>&, const NmsWorkspace&, void*);

void launch_nms_collect(const unsigned* dropped, const int64_t* order, const int64_t* rank, int64_t n, bool* kept,
                        int64_t* rows, void* stream) {
  if (n == 0) return;
  const auto s = static_cast<cudaStream_t>(stream);
  CUDA_LAUNCH(nms_collect, blocks_for(n, collect_threads), collect_threads, 0, s, dropped, order, rank, n, kept, rows);
}

}  // namespace mrcnn
