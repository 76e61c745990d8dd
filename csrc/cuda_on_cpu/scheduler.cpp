#undef _FORTIFY_SOURCE  // its longjmp refuses to change stacks
#include "scheduler.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_on_cpu {

Listener listener;

namespace {

enum class State { ready, at_barrier, in_warp, done };

struct Thread {
  State state;
  int fiber;  // -1: has not begun
  int line;   // of the barrier or warp function it waits in
  bool predicate;
  unsigned mask;
  int source;
  uint64_t value;
  Exchange got;
};

// A fiber is a stack and the registers to go on with. It is entered once through ucontext and from then on by
// setjmp and longjmp, which, unlike swapcontext, make no system call (measured: 13 ns against 177 ns a switch).
struct Fiber {
  jmp_buf registers;
  bool alive = false;  // has a thread's frames on its stack, or waits in `fiber_main` for another thread
};

constexpr size_t stack_bytes = 128 << 10, max_threads = 1024, max_shared_bytes = 48 << 10;

std::mutex one_launch_at_a_time;
const Kernel* kernel;
int64_t block_number;
int thread_count, running_fiber;
int current = -1;  // the running thread, or -1
Count barrier_count;
Thread* const threads = new Thread[max_threads];
Fiber* const fibers = new Fiber[max_threads];
std::vector<int> idle_fibers;
char* stacks;  // max_threads of them, side by side, made of memory only where touched
jmp_buf scheduler;
std::string failure;
char* const shared_bytes = new char[max_shared_bytes];

Order order = Order::ascending;
uint64_t seed;
std::mt19937_64 dice;

std::string text(const uint3& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

uint3 unflatten(int64_t i, const dim3& shape) {
  return {unsigned(i % shape.x), unsigned(i / shape.x % shape.y), unsigned(i / shape.x / shape.y)};
}

std::string where(int thread) { return "thread " + text(unflatten(thread, kernel->block)); }

// ---- fibers ------------------------------------------------------------------------------------------------

void to_scheduler() {
  current = -1;
  if (!_setjmp(fibers[running_fiber].registers)) _longjmp(scheduler, 1);
}

void fiber_main() {
  for (;;) {  // one thread after another, as long as none of them waits
    kernel->run_thread(kernel->arguments);
    threads[current].state = State::done;
    idle_fibers.push_back(running_fiber);
    to_scheduler();
  }
}

void enter_new_fiber(int i) {
  static ucontext_t context;  // only its stack and its entry count
  getcontext(&context);
  context.uc_stack.ss_sp = stacks + i * stack_bytes;
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  fibers[i].alive = true;
  setcontext(&context);
}

// The running thread stops here until the scheduler lets it go on.
void wait(State state, int line) {
  threads[current].state = state;
  threads[current].line = line;
  if (listener.thread_waits) listener.thread_waits(state == State::in_warp, line);
  to_scheduler();
}

// Let a thread go on until it waits or ends.
void resume(int thread) {
  current = thread;
  threadIdx = unflatten(thread, kernel->block);
  if (threads[thread].fiber < 0) {
    threads[thread].fiber = idle_fibers.back();
    idle_fibers.pop_back();
  }
  running_fiber = threads[thread].fiber;
  if (_setjmp(scheduler)) return;
  if (fibers[running_fiber].alive) _longjmp(fibers[running_fiber].registers, 1);
  enter_new_fiber(running_fiber);
}

void forget_fibers() {  // at the start, and when a launch was given up: threads are left where they stand
  idle_fibers.resize(max_threads);
  std::iota(idle_fibers.rbegin(), idle_fibers.rend(), 0);
  for (size_t i = 0; i < max_threads; ++i) fibers[i].alive = false;
}

// ---- the order of things -----------------------------------------------------------------------------------

// 0 .. count-1 in the chosen order.
std::vector<int>& arrange(std::vector<int>& numbers, int count) {
  numbers.resize(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  if (order == Order::descending) std::iota(numbers.rbegin(), numbers.rend(), 0);
  if (order == Order::shuffled)
    for (int i = count - 1; i > 0; --i) std::swap(numbers[i], numbers[dice() % (i + 1)]);
  return numbers;
}

// The i-th block to run. Shuffled: i * stride + start modulo their number, which needs no list of a million blocks.
int64_t arranged_block(int64_t i, int64_t count) {
  static int64_t stride, start;
  if (order == Order::ascending) return i;
  if (order == Order::descending) return count - 1 - i;
  if (i == 0) {
    start = dice() % count;
    do stride = dice() % count + 1;
    while (std::gcd(stride, count) != 1);
  }
  return int64_t((static_cast<unsigned __int128>(i) * stride + start) % count);
}

// ---- a block -----------------------------------------------------------------------------------------------

// If all lanes that some lane waits for have come, hand out what they brought. Nobody waits for a lane that has ended.
bool resolve_warp(int warp) {
  Thread* lanes = threads + warp * warpSize;
  const int count = std::min(warpSize, thread_count - warp * warpSize);
  bool any = false;
  for (int first = 0; first < count; ++first) {
    if (lanes[first].state != State::in_warp) continue;
    const unsigned mask = lanes[first].mask;
    unsigned met = 0;
    bool complete = true;
    for (int i = 0; i < count && complete; ++i) {
      if (!(mask >> i & 1) || lanes[i].state == State::done) continue;
      complete = lanes[i].state == State::in_warp && lanes[i].mask == mask && lanes[i].line == lanes[first].line;
      met |= 1u << i;
    }
    if (!complete) continue;
    for (int i = 0; i < count; ++i) {
      if (!(met >> i & 1)) continue;
      Exchange got{lanes[i].value, met, 0, 0};
      if (met >> (lanes[i].source & 31) & 1) got.value = lanes[lanes[i].source & 31].value;
      for (int j = 0; j < count; ++j) {
        if (!(met >> j & 1)) continue;
        got.nonzero |= unsigned(lanes[j].value != 0) << j;
        got.equal |= unsigned(lanes[j].value == lanes[i].value) << j;
      }
      lanes[i].got = got;
      lanes[i].state = State::ready;
    }
    if (listener.warp_synced) listener.warp_synced(warp, met, lanes[first].line);
    any = true;
  }
  return any;
}

void run_warp(int warp) {  // until every lane has ended or waits for other warps
  static std::vector<int> lanes;
  do {
    for (int lane : arrange(lanes, std::min(warpSize, thread_count - warp * warpSize)))
      if (threads[warp * warpSize + lane].state == State::ready && failure.empty()) resume(warp * warpSize + lane);
  } while (failure.empty() && resolve_warp(warp));
}

// Nobody can go on: either all stand at one barrier, or the kernel is wrong. Returns whether they may pass.
bool resolve_block() {
  int waiting = -1, absent = -1;
  for (int i = 0; i < thread_count; ++i) {
    const Thread& thread = threads[i];
    if (thread.state == State::in_warp) {
      failure = where(i) + " waits in a warp function (line " + std::to_string(thread.line) +
                ") for lanes of its mask that never come";
      return false;
    }
    (thread.state == State::at_barrier ? waiting : absent) = i;
  }
  if (waiting < 0) return false;  // all have ended
  if (absent >= 0) {
    failure = where(absent) + " ended without reaching the barrier at line " + std::to_string(threads[waiting].line) +
              ", where " + where(waiting) + " waits";
    return false;
  }
  barrier_count = {0, thread_count};
  for (int i = 0; i < thread_count; ++i) {
    if (threads[i].line != threads[0].line) {
      failure = where(0) + " waits at the barrier at line " + std::to_string(threads[0].line) + ", " + where(i) +
                " at the one at line " + std::to_string(threads[i].line);
      return false;
    }
    barrier_count.nonzero += threads[i].predicate;
    threads[i].state = State::ready;
  }
  if (listener.block_synced) listener.block_synced(threads[0].line);
  return true;
}

void run_block() {
  static std::vector<int> warps;
  std::memset(shared_bytes, 0xff, kernel->shared_bytes);  // NaN, so that nobody counts on zeros
  for (int i = 0; i < thread_count; ++i) threads[i] = {State::ready, -1};
  if (listener.block_begins) listener.block_begins();
  do {
    for (int warp : arrange(warps, (thread_count + warpSize - 1) / warpSize)) run_warp(warp);
  } while (failure.empty() && resolve_block());
  if (listener.block_ends) listener.block_ends();
}

[[noreturn]] void refuse(const Kernel& launch, const std::string& why) {
  throw std::runtime_error(std::string("launching ") + launch.name + ": " + why);
}

void check(const Kernel& launch) {
  const dim3 &grid = launch.grid, &block = launch.block;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) refuse(launch, "the grid has no blocks");
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) refuse(launch, "the grid is larger than CUDA allows");
  const uint64_t count = uint64_t(block.x) * block.y * block.z;
  if (count == 0 || count > max_threads || block.z > 64) refuse(launch, "a block has 1 to 1024 threads, 64 along z");
  if (launch.shared_bytes > max_shared_bytes) refuse(launch, "more than 48 KiB of dynamic shared memory");
}

}  // namespace

// ---- what a launch and a kernel's threads call -------------------------------------------------------------

void run(const Kernel& launch) {
  check(launch);
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  if (!stacks) {
    stacks = static_cast<char*>(mmap(nullptr, max_threads * stack_bytes, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    forget_fibers();
  }
  kernel = &launch;
  gridDim = launch.grid;
  blockDim = launch.block;
  thread_count = launch.block.x * launch.block.y * launch.block.z;
  dice.seed(seed);
  if (listener.launch_begins) listener.launch_begins(launch);
  const int64_t blocks = int64_t(gridDim.x) * gridDim.y * gridDim.z;
  for (int64_t i = 0; i < blocks && failure.empty(); ++i) {
    block_number = arranged_block(i, blocks);
    blockIdx = unflatten(block_number, gridDim);
    run_block();
  }
  if (failure.empty()) return;
  forget_fibers();
  const std::string message = std::string(launch.name) + ", block " + text(blockIdx) + ": " + failure;
  failure.clear();
  throw std::runtime_error(message);
}

void fail(const char* message) {
  failure = where(current) + " " + message;
  to_scheduler();
  std::abort();  // never resumed
}

Count block_barrier(bool predicate, int line) {
  threads[current].predicate = predicate;
  wait(State::at_barrier, line);
  return barrier_count;
}

Exchange warp_exchange(unsigned mask, uint64_t value, int source, int line) {
  Thread& me = threads[current];
  const bool named = mask >> lane() & 1;
  if (!named) fail(("calls a warp function with a mask it is not in, line " + std::to_string(line)).c_str());
  me.mask = mask;
  me.value = value;
  me.source = source;
  wait(State::in_warp, line);
  return me.got;
}

void* dynamic_shared() { return shared_bytes; }
int lane() { return current % warpSize; }
Place place() { return {block_number, current}; }

unsigned unfinished_lanes() {
  unsigned lanes = 0;
  for (int i = current - lane(); i < thread_count && i < current - lane() + warpSize; ++i)
    lanes |= unsigned(threads[i].state != State::done) << (i % warpSize);
  return lanes;
}

bool on_a_stack(uintptr_t address) {
  return address - reinterpret_cast<uintptr_t>(stacks) < max_threads * stack_bytes;
}

}  // namespace cuda_on_cpu

// For Python: 0 ascending, 1 descending, 2 shuffled from the seed. MRCNN_SCHEDULE=shuffled:7 sets it from outside.
extern "C" __attribute__((visibility("default"))) void cuda_on_cpu_schedule(int order, uint64_t seed) {
  cuda_on_cpu::order = cuda_on_cpu::Order(order);
  cuda_on_cpu::seed = seed;
}

namespace {
const bool schedule_from_environment = [] {
  const char* wish = std::getenv("MRCNN_SCHEDULE");
  if (!wish) return false;
  const std::string name = std::string(wish).substr(0, std::string(wish).find(':'));
  const char* seed = std::strchr(wish, ':');
  cuda_on_cpu_schedule(name == "shuffled" ? 2 : name == "descending", seed ? std::strtoull(seed + 1, nullptr, 10) : 0);
  return true;
}();
}  // namespace
