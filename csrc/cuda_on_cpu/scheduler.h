// What runs a kernel on the CPU: one fiber per thread of the current block, all on one OS thread.
#pragma once

#include <cstddef>
#include <cstdint>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// The built-in variables, always those of the running thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_on_cpu {

enum class Order { ascending, descending, shuffled };  // of blocks, warps and threads

struct Kernel {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
  void (*run_thread)(void* arguments);
  void* arguments;
};

// Runs every thread of every block. Throws std::runtime_error when the launch is invalid or the threads get stuck.
void run(const Kernel& kernel);

void* dynamic_shared();

// Wait for all threads of the block; `line` tells two barriers apart.
struct Count {
  int nonzero, threads;
};
Count block_barrier(bool predicate, int line);

// Wait for the lanes of `mask`; each brings a value and gets that of lane `source`, and what the others brought.
struct Exchange {
  uint64_t value;     // brought by lane `source`, or one's own where that lane is not in `mask`
  unsigned lanes;     // those that met: `mask` without the lanes that have ended
  unsigned nonzero;   // of these, those whose value is not zero
  unsigned equal;     // of these, those whose value is one's own
};
Exchange warp_exchange(unsigned mask, uint64_t value, int source, int line);

int lane();
unsigned unfinished_lanes();

// The running thread ends here, and with it the launch, which throws this message.
[[noreturn]] void fail(const char* message);

// What a traced run listens to (trace.cpp); a plain run leaves them empty.
struct Listener {
  void (*launch_begins)(const Kernel&);
  void (*block_begins)();
  void (*block_ends)();
  void (*thread_waits)(bool in_warp, int line);               // the running thread, at a barrier or in a warp function
  void (*block_synced)(int line);                             // all threads have reached a __syncthreads
  void (*warp_synced)(int warp, unsigned lanes, int line);    // these lanes have met
};
extern Listener listener;

// Where the running thread is: numbers that count up along x, then y, then z.
struct Place {
  int64_t block;
  int thread;  // -1: no thread runs
};
Place place();
bool on_a_stack(uintptr_t address);  // a thread's own memory

}  // namespace cuda_on_cpu
