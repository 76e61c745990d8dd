// CUDA's keywords and the device functions that our kernels and lessons use, for a host compiler.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "scheduler.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static  // one block runs at a time, so a block's memory may be the library's
#define __restrict__ __restrict
#define __forceinline__ inline
using cudaStream_t = void*;
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(cuda_on_cpu::dynamic_shared())

// ---- launch ------------------------------------------------------------------------------------------------

namespace cuda_on_cpu {

template <class... Parameters, class... Arguments>
void launch(const char* name, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, {static_cast<Arguments&&>(arguments)...}};
  run({name, grid, block, shared_bytes,
       [](void* at) { std::apply(static_cast<Call*>(at)->kernel, static_cast<Call*>(at)->arguments); }, &call});
}

// An access that the compiler does not report: atomics tell the trace of themselves.
#ifdef CUDA_ON_CPU_TRACED
void trace_atomic(const void* address, int bytes, const void* where);
#define CUDA_ON_CPU_ATOMIC __attribute__((noinline, no_sanitize("thread")))
#define CUDA_ON_CPU_TELL(address) \
  cuda_on_cpu::trace_atomic(address, sizeof(*address), __builtin_return_address(0))
#else
#define CUDA_ON_CPU_ATOMIC inline
#define CUDA_ON_CPU_TELL(address)
#endif

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8, "warp functions take at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
using Same = std::common_type_t<T>;  // lets a literal 1 be added to any type

}  // namespace cuda_on_cpu

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), cuda_on_cpu::launch(#kernel, grid, block, shared_bytes, kernel, ##__VA_ARGS__))

// ---- barriers: `line` is the caller's, so that a message can tell which one --------------------------------

inline void __syncthreads(int line = __builtin_LINE()) { cuda_on_cpu::block_barrier(false, line); }
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
  return cuda_on_cpu::block_barrier(predicate, line).nonzero;
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
  return cuda_on_cpu::block_barrier(predicate, line).nonzero > 0;
}
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
  const cuda_on_cpu::Count count = cuda_on_cpu::block_barrier(predicate, line);
  return count.nonzero == count.threads;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- warp functions ----------------------------------------------------------------------------------------

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  cuda_on_cpu::warp_exchange(mask, 0, 0, line);
}
inline unsigned __activemask() { return cuda_on_cpu::unfinished_lanes(); }
inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return cuda_on_cpu::warp_exchange(mask, predicate != 0, 0, line).nonzero;
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, !predicate, line) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return cuda_on_cpu::warp_exchange(mask, cuda_on_cpu::to_bits(value), 0, line).equal;
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* all, int line = __builtin_LINE()) {
  const cuda_on_cpu::Exchange got = cuda_on_cpu::warp_exchange(mask, cuda_on_cpu::to_bits(value), 0, line);
  *all = got.equal == got.lanes;
  return *all ? got.equal : 0;
}

// Lanes are read within their segment of `width`; a source outside it gives back one's own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, int line = __builtin_LINE()) {
  const int segment = cuda_on_cpu::lane() & ~(width - 1);
  const int from = segment | (source & (width - 1));
  return cuda_on_cpu::from_bits<T>(cuda_on_cpu::warp_exchange(mask, cuda_on_cpu::to_bits(value), from, line).value);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, int line = __builtin_LINE()) {
  const int in_segment = cuda_on_cpu::lane() & (width - 1);
  return __shfl_sync(mask, value, in_segment - int(delta) < 0 ? in_segment : in_segment - delta, width, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, int line = __builtin_LINE()) {
  const int in_segment = cuda_on_cpu::lane() & (width - 1);
  return __shfl_sync(mask, value, in_segment + int(delta) >= width ? in_segment : in_segment + delta, width, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize, int line = __builtin_LINE()) {
  const int in_segment = cuda_on_cpu::lane() & (width - 1);
  return __shfl_sync(mask, value, (in_segment ^ lanes) >= width ? in_segment : in_segment ^ lanes, width, line);
}

// ---- atomics: a thread is never interrupted between two waits, so plain code will do -----------------------

namespace cuda_on_cpu {
template <class T, class... Types>
constexpr bool one_of = (std::is_same_v<T, Types> || ...);
}  // namespace cuda_on_cpu

// The types that CUDA has the function for: what nvcc would refuse is refused here too.
#define CUDA_ON_CPU_DEFINE_ATOMIC(name, expression, ...)                      \
  template <class T>                                                          \
  CUDA_ON_CPU_ATOMIC T name(T* address, cuda_on_cpu::Same<T> value) {         \
    static_assert(cuda_on_cpu::one_of<T, __VA_ARGS__>,                        \
                  "CUDA has " #name " for these types only: " #__VA_ARGS__);  \
    CUDA_ON_CPU_TELL(address);                                                \
    const T old = *address;                                                   \
    *address = expression;                                                    \
    return old;                                                               \
  }
CUDA_ON_CPU_DEFINE_ATOMIC(atomicAdd, old + value, int, unsigned, unsigned long long, float, double)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicSub, old - value, int, unsigned)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicMin, value < old ? value : old, int, unsigned, long long, unsigned long long)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicMax, old < value ? value : old, int, unsigned, long long, unsigned long long)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicAnd, old & value, int, unsigned, unsigned long long)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicOr, old | value, int, unsigned, unsigned long long)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicXor, old ^ value, int, unsigned, unsigned long long)
CUDA_ON_CPU_DEFINE_ATOMIC(atomicExch, value, int, unsigned, unsigned long long, float)

template <class T>
CUDA_ON_CPU_ATOMIC T atomicCAS(T* address, cuda_on_cpu::Same<T> expected, cuda_on_cpu::Same<T> value) {
  static_assert(cuda_on_cpu::one_of<T, unsigned short, int, unsigned, unsigned long long>,
                "CUDA has atomicCAS for these types only: unsigned short, int, unsigned, unsigned long long");
  CUDA_ON_CPU_TELL(address);
  const T old = *address;
  if (cuda_on_cpu::to_bits(old) == cuda_on_cpu::to_bits<T>(expected)) *address = value;
  return old;
}

// ---- loads, bits, arithmetic -------------------------------------------------------------------------------

#define __ldg(address) (*(address))  // a macro, so that the trace sees the kernel's own line

inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
inline int __clzll(long long bits) { return bits ? __builtin_clzll(bits) : 64; }
inline int __float_as_int(float value) { return cuda_on_cpu::from_bits<int>(cuda_on_cpu::to_bits(value)); }
inline float __int_as_float(int bits) { return cuda_on_cpu::from_bits<float>(cuda_on_cpu::to_bits(bits)); }
inline long long __double_as_longlong(double value) { return static_cast<long long>(cuda_on_cpu::to_bits(value)); }
inline double __longlong_as_double(long long bits) { return cuda_on_cpu::from_bits<double>(bits); }

template <class T>
inline T min(T a, cuda_on_cpu::Same<T> b) {
  return b < a ? b : a;
}
template <class T>
inline T max(T a, cuda_on_cpu::Same<T> b) {
  return a < b ? b : a;
}

#define CUDA_ON_CPU_DEFINE_VECTOR(type, name)            \
  struct alignas(2 * sizeof(type)) name##2 {             \
    type x, y;                                           \
  };                                                     \
  struct alignas(sizeof(type) == 8 ? 16 : 4 * sizeof(type)) name##4 { \
    type x, y, z, w;                                     \
  };                                                     \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }    \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
CUDA_ON_CPU_DEFINE_VECTOR(float, float)
CUDA_ON_CPU_DEFINE_VECTOR(double, double)
CUDA_ON_CPU_DEFINE_VECTOR(int, int)
