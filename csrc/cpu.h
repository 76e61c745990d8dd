// What the CPU kernels share: wider vectors where the processor has them, and the 16-bit number formats.
#pragma once

#include <cstdint>
#include <cstring>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

// A function so marked is compiled once for every x86-64, once for AVX2 and once for AVX-512; the loader takes the widest
// that the processor has. Its loops must be inlined into it (MRCNN_INLINE) to be widened with it. One binary serves all,
// and since sums are never reordered nor contracted into fused multiply-adds, all three give the same bits. Elsewhere
// (arm64 has its vectors from the start) the mark means nothing.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define MRCNN_WIDEST __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define MRCNN_WIDEST
#endif

#if defined(_MSC_VER)
#define MRCNN_INLINE __forceinline
#else
#define MRCNN_INLINE inline __attribute__((always_inline))
#endif

namespace mrcnn {

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
