// Sees every load and store of a kernel, and tells races, shared memory that nobody wrote, and accesses out of bounds.
//
// The kernel is compiled with -fsanitize=thread: before each access the compiler puts a call of __tsan_read4(address),
// __tsan_write8(address), ... These are not the sanitizer's but the ones below. The return address gives the line.
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../scheduler.h"

extern char __ehdr_start[] __attribute__((visibility("hidden")));  // this library in memory, from the linker
extern char __bss_start[] __attribute__((visibility("hidden")));

namespace {

using cuda_on_cpu::Place;

enum class Op : uint8_t { read, write, atomic };
enum class Space : uint8_t { buffer, static_shared, dynamic_shared };
enum class Fault : uint8_t { bounds, race, unwritten };

struct Event {
  uint64_t address, where;  // where: the return address, just after the access
  int64_t block;
  int32_t thread, launch;
  uint16_t bytes;
  Op op;
  Space space;
};

// A thread begins to wait, or all have come and go on.
struct Wait {
  uint64_t row;  // how many events came before it
  int64_t block;
  int32_t launch, thread;  // thread: the one that waits; of a meeting the first of its warp, or -1 for a block's
  int32_t line;
  uint32_t lanes;  // that met: 0 where a thread only begins to wait
  bool in_warp;    // in a warp function, not at a barrier of the block
};

struct Finding {
  Event event, other;  // other: what it races with
  Fault fault;
  char kernel[95];
};

struct Access {
  int32_t launch = -1, thread, phase;
  int64_t block;
  uint64_t time, where;
  bool atomic;
};

struct Cell {
  Access write, read, other_read;  // the latest of each; the two reads are by different threads
};

struct Region {
  uintptr_t begin = 0;
  size_t bytes = 0, cell_bytes = 1;
  Space space;
  std::vector<Cell> cells;
};

constexpr size_t max_findings = 1000;
constexpr uint64_t max_steps = 300'000'000;  // of straight code: about two seconds

std::vector<Region> regions;
std::vector<Event> events;
std::vector<unsigned char> values;  // of each event its bytes, one after the other: what the memory held just after it
std::vector<Wait> waits;
std::vector<Finding> findings;
struct {
  uintptr_t address;
  size_t bytes = 0, value;  // where in `values`
} latest_write;
size_t max_events;
uint64_t steps;
uint64_t now;  // counts accesses and meetings of lanes
int32_t launch = -1, phase;
const char* kernel = "";
char message[99];
auto* const met = new uint64_t[1024][32];  // when thread t last met each lane of its warp
uintptr_t stack_begin, stack_end;  // of the OS thread, where the kernel's arguments lie

Region make_region(uintptr_t begin, size_t bytes, size_t cell_bytes, Space space) {
  return {begin, bytes, cell_bytes, space, std::vector<Cell>((bytes + cell_bytes - 1) / cell_bytes)};
}

// Fills in what the latest write stored: its hook came before the store. So did perhaps that of a read, for in copying
// a struct the compiler tells of the write, then of the read, then copies. Only the next write's hook ends the doubt.
void settle() {
  const auto* stored = reinterpret_cast<const unsigned char*>(latest_write.address);
  std::copy(stored, stored + latest_write.bytes, values.begin() + latest_write.value);
}

void record(const Event& e) {
  if (events.size() == max_events) return;
  if (e.op != Op::read) latest_write = {e.address, e.bytes, values.size()};
  const auto* at = reinterpret_cast<const unsigned char*>(e.address);
  values.insert(values.end(), at, at + e.bytes);
  events.push_back(e);
}

void record_wait(int thread, int line, unsigned lanes, bool in_warp) {
  settle();
  if (events.size() == max_events || waits.size() == max_events) return;
  waits.push_back({events.size(), cuda_on_cpu::place().block, launch, thread, line, lanes, in_warp});
}

void launch_begins(const cuda_on_cpu::Kernel& k) {
  ++launch;
  kernel = k.name;
  const auto begin = reinterpret_cast<uintptr_t>(cuda_on_cpu::dynamic_shared());
  regions.back() = make_region(begin, k.shared_bytes, 1, Space::dynamic_shared);
}
void block_begins() {
  phase = 0;
  std::memset(met, 0, 1024 * sizeof *met);
}
void block_ends() {
  settle();
  latest_write.bytes = 0;  // the memory will be used for other things
}
void thread_waits(bool in_warp, int line) { record_wait(cuda_on_cpu::place().thread, line, 0, in_warp); }
void block_synced(int line) {
  record_wait(-1, line, ~0u, false);
  ++phase;
}
void warp_synced(int warp, unsigned lanes, int line) {
  record_wait(warp * 32, line, lanes, true);
  ++now;
  for (int i = 0; i < 32; ++i)
    for (int j = 0; j < 32; ++j)
      if ((lanes >> i & 1) && (lanes >> j & 1)) met[warp * 32 + i][j] = now;
}

Access as_access(const Event& e) { return {e.launch, e.thread, phase, e.block, now, e.where, e.op == Op::atomic}; }

// Whether an earlier access and this one could as well have happened the other way round, or at once.
bool unordered(const Access& before, const Event& e) {
  if (before.launch != e.launch || (before.atomic && e.op == Op::atomic)) return false;
  if (before.block != e.block) return e.space == Space::buffer;
  if (before.thread == e.thread || before.phase != phase) return false;
  return before.thread / 32 != e.thread / 32 || met[e.thread][before.thread % 32] <= before.time;
}

void report(Fault fault, const Event& e, const Access& other = {}) {
  for (const Finding& f : findings)  // one of a kind is enough
    if (f.fault == fault && f.event.launch == e.launch && f.event.where == e.where && f.other.where == other.where)
      return;
  if (findings.size() == max_findings) return;
  Finding finding{e, e, fault, {}};
  finding.other.block = other.block;
  finding.other.thread = other.thread;
  finding.other.where = other.where;
  std::strncpy(finding.kernel, kernel, sizeof finding.kernel - 1);
  findings.push_back(finding);
}

void check(Cell& cell, const Event& e) {
  const bool reads = e.op != Op::write, writes = e.op != Op::read;
  const Access access = as_access(e);
  if (reads && e.space != Space::buffer && (cell.write.launch != e.launch || cell.write.block != e.block))
    report(Fault::unwritten, e);
  if (unordered(cell.write, e)) report(Fault::race, e, cell.write);
  for (const Access& read : {cell.read, cell.other_read})
    if (writes && unordered(read, e)) report(Fault::race, e, read);
  if (writes) cell.write = access;
  if (reads) {
    const bool same = cell.read.launch == e.launch && cell.read.block == e.block && cell.read.thread != e.thread;
    if (same && cell.read.phase == phase) cell.other_read = cell.read;
    cell.read = access;
  }
}

bool between(uintptr_t address, const void* begin, const void* end) {
  return address >= reinterpret_cast<uintptr_t>(begin) && address < reinterpret_cast<uintptr_t>(end);
}

// Memory that is no concern of ours: a thread's own, the built-in variables, constants.
bool uninteresting(uintptr_t address) {
  if (cuda_on_cpu::on_a_stack(address) || (address >= stack_begin && address < stack_end)) return true;
  for (const void* builtin : {(void*)&threadIdx, (void*)&blockIdx, (void*)&blockDim, (void*)&gridDim})
    if (between(address, builtin, static_cast<const char*>(builtin) + sizeof(dim3))) return true;
  return between(address, __ehdr_start, __bss_start);
}

void see(const void* at, size_t bytes, Op op, const void* where) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  const Place place = cuda_on_cpu::place();
  if (place.thread < 0 || uninteresting(address)) return;
  settle();
  ++now;
  steps += 10;  // an access takes longer than straight code
  Event e{address, reinterpret_cast<uintptr_t>(where), place.block, place.thread, launch, uint16_t(bytes), op, {}};
  for (Region& region : regions) {
    const size_t offset = address - region.begin;
    if (offset >= region.bytes || offset + bytes > region.bytes) continue;
    e.space = region.space;
    record(e);
    for (size_t c = offset / region.cell_bytes; c <= (offset + bytes - 1) / region.cell_bytes; ++c)
      check(region.cells[c], e);
    return;
  }
  report(Fault::bounds, e);
  cuda_on_cpu::fail("leaves the bounds of its buffers");  // before the access is made
}

}  // namespace

namespace cuda_on_cpu {
void trace_atomic(const void* address, int bytes, const void* where) { see(address, bytes, Op::atomic, where); }
}  // namespace cuda_on_cpu

#define PUBLIC __attribute__((visibility("default")))  // for Python
#define HIDDEN __attribute__((visibility("hidden")))   // for the kernel in this library alone

extern "C" {

// From now on accesses are checked against these buffers and, behind them in the list, the kernels' `shared_arrays`, and
// the first `events_wanted` are kept.
PUBLIC void trace_begin(int buffers, int shared_arrays, const uint64_t* begins, const uint64_t* bytes,
                        const uint64_t* item_bytes, uint64_t events_wanted) {
  regions.clear(), events.clear(), values.clear(), waits.clear(), findings.clear();
  latest_write.bytes = 0;
  max_events = events_wanted;
  steps = 0;
  launch = -1;
  pthread_attr_t attributes;
  void* stack;
  size_t size;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &size);
  pthread_attr_destroy(&attributes);
  stack_begin = reinterpret_cast<uintptr_t>(stack);
  stack_end = stack_begin + size;
  for (int i = 0; i < buffers + shared_arrays; ++i)
    regions.push_back(make_region(begins[i], bytes[i], item_bytes[i], i < buffers ? Space::buffer : Space::static_shared));
  regions.emplace_back();  // dynamic shared memory, as each launch has it
  cuda_on_cpu::listener = {launch_begins, block_begins, block_ends, thread_waits, block_synced, warp_synced};
}

PUBLIC uint64_t trace_events(const Event** first) {
  *first = events.data();
  return events.size();
}
PUBLIC uint64_t trace_values(const unsigned char** first) {
  *first = values.data();
  return values.size();
}
PUBLIC uint64_t trace_waits(const Wait** first) {
  *first = waits.data();
  return waits.size();
}
PUBLIC uint64_t trace_findings(const Finding** first) {
  *first = findings.data();
  return findings.size();
}
PUBLIC uint64_t trace_dynamic_shared() { return reinterpret_cast<uint64_t>(cuda_on_cpu::dynamic_shared()); }
PUBLIC uint64_t trace_base() { return reinterpret_cast<uint64_t>(__ehdr_start); }

#define HOOK(bytes)                                                                              \
  HIDDEN void __tsan_read##bytes(void* at) { see(at, bytes, Op::read, __builtin_return_address(0)); }   \
  HIDDEN void __tsan_write##bytes(void* at) { see(at, bytes, Op::write, __builtin_return_address(0)); } \
  HIDDEN void __tsan_unaligned_read##bytes(void* at) { see(at, bytes, Op::read, __builtin_return_address(0)); } \
  HIDDEN void __tsan_unaligned_write##bytes(void* at) { see(at, bytes, Op::write, __builtin_return_address(0)); }
HOOK(1) HOOK(2) HOOK(4) HOOK(8) HOOK(16)

HIDDEN void __tsan_read_range(void* at, size_t bytes) { see(at, bytes, Op::read, __builtin_return_address(0)); }
HIDDEN void __tsan_write_range(void* at, size_t bytes) { see(at, bytes, Op::write, __builtin_return_address(0)); }
// The compiler puts a call of this at the start of each piece of straight code (-fsanitize-coverage=trace-pc).
HIDDEN void __sanitizer_cov_trace_pc() {
  if (++steps < max_steps || cuda_on_cpu::place().thread < 0) return;
  steps = 0;
  cuda_on_cpu::fail("goes on and on: does a loop never end?");
}
// And one of this where a number is shifted by as many bits as it has, or more (-fsanitize=shift-exponent). A processor
// may then shift by the rest of the division; a GPU shifts all bits out.
struct ShiftPlace {
  const char* file;
  uint32_t line, column;
};
HIDDEN void __ubsan_handle_shift_out_of_bounds(ShiftPlace* at, uintptr_t, uintptr_t) {
  std::snprintf(message, sizeof message, "shifts by more bits than the number has, at line %u", at->line);
  cuda_on_cpu::fail(message);
}
HIDDEN void __tsan_init() {}
HIDDEN void __tsan_func_entry(void*) {}
HIDDEN void __tsan_func_exit() {}
HIDDEN void __tsan_vptr_update(void**, void*) {}
HIDDEN void __tsan_vptr_read(void**) {}

}  // extern "C"
