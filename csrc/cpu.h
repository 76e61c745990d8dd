// What the CPU kernels share: wider vectors where the processor has them, the 16-bit number formats, and large pages.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#if defined(_MSC_VER)
#define MRCNN_INLINE __forceinline
#else
#define MRCNN_INLINE inline __attribute__((always_inline))
#endif

#if defined(__x86_64__) && defined(__GNUC__)  // gcc and clang
#define MRCNN_X86_VECTORS
#endif

namespace mrcnn {

// How wide the kernels' vectors may be, in bits. 128 is what every x86-64 and every arm64 has; cpu.cpp sets more.
inline std::atomic<int> vector_bits{128};

// A kernel is compiled once for any processor and, on x86-64, again for AVX2 and for AVX-512. run_widest<kernel>(...)
// calls the copy that vector_bits allows. For its loops to be widened, all that holds them must be MRCNN_INLINE. Sums
// are never reordered, nor contracted into fused multiply-adds (-ffp-contract=off), so all copies give the same bits.
#if defined(MRCNN_X86_VECTORS)
template <auto kernel, typename... Arguments>
__attribute__((target("avx2"))) void run_avx2(Arguments&... arguments) {
  kernel(arguments...);
}
template <auto kernel, typename... Arguments>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void run_avx512(Arguments&... arguments) {
  kernel(arguments...);
}
#endif

template <auto kernel, typename... Arguments>
void run_widest(Arguments&&... arguments) {
#if defined(MRCNN_X86_VECTORS)
  const int bits = vector_bits.load(std::memory_order_relaxed);
  if (bits == 512) return run_avx512<kernel>(arguments...);
  if (bits == 256) return run_avx2<kernel>(arguments...);
#endif
  kernel(arguments...);
}

// Fresh memory comes from the system page by page, each at its first touch. With pages of 4 KB that takes a third of the
// time of pooling, so ask for pages of 2 MB, where the system has them, for a result that is going to be filled.
template <typename scalar_t>
void prefer_large_pages(scalar_t* result, int64_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 2 << 20;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(result) + page - 1) / page * page;
  const uintptr_t last = reinterpret_cast<uintptr_t>(result + count) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// The type sums are kept in.
template <typename scalar_t>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <typename scalar_t>
using accumulate_t = typename Accumulate<scalar_t>::type;

template <typename to_t, typename from_t>
MRCNN_INLINE to_t bits_of(from_t value) {
  static_assert(sizeof(to_t) == sizeof(from_t));
  to_t result;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

// Conversions written as integer arithmetic without branches, which compilers turn into vector code on any processor.
MRCNN_INLINE float load(const float* at) { return *at; }
MRCNN_INLINE double load(const double* at) { return *at; }

MRCNN_INLINE float load(const torch::headeronly::BFloat16* at) {
  return bits_of<float>(uint32_t(at->x) << 16);
}

MRCNN_INLINE float load(const torch::headeronly::Half* at) {
  const uint32_t magnitude = uint32_t(at->x & 0x7fff) << 13;
  // The exponent is biased by 15 there, by 127 here: a multiplication by 2^112, which also makes subnormals normal.
  const uint32_t scaled = bits_of<uint32_t>(bits_of<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000 : 0;  // infinity and NaN
  return bits_of<float>(scaled | special | uint32_t(at->x & 0x8000) << 16);
}

MRCNN_INLINE void store(float* at, float value) { *at = value; }
MRCNN_INLINE void store(double* at, double value) { *at = value; }

// Round to nearest, ties to even.
MRCNN_INLINE void store(torch::headeronly::BFloat16* at, float value) {
  const uint32_t bits = bits_of<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  at->x = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);  // a NaN stays one
}

MRCNN_INLINE void store(torch::headeronly::Half* at, float value) {
  const uint32_t bits = bits_of<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffff;
  // Normal results: move the exponent's bias from 127 to 15 and drop 13 bits. Too large becomes infinity by itself.
  const uint32_t normal = (magnitude + 0xc8000fff + ((magnitude >> 13) & 1)) >> 13;
  // Subnormal results: adding 0.5 puts their unit, 2^-24, in the last place of a float, and so rounds to it.
  const uint32_t subnormal = bits_of<uint32_t>(bits_of<float>(magnitude) + 0.5f) - 0x3f000000;
  uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  result = magnitude >= 0x47800000 ? (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00) : result;
  at->x = uint16_t(result | (bits >> 16 & 0x8000));
}

}  // namespace mrcnn
