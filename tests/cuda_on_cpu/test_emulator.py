"""The emulator by itself: each built-in function against its closed form, in every order of threads."""

import pytest
import torch

from mrcnn.lab.cuda import KernelFault, Program, schedule

ORDERS = [("ascending", 0), ("descending", 0), ("shuffled", 1), ("shuffled", 2)]

SOURCE = """
__global__ void indices(int* out) {  // every thread writes its number, worked out from all twelve built-in variables
  int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  int i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[i] = i;
}
__global__ void reverse_static(int* x) {
  __shared__ int tile[96];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
__global__ void reverse_dynamic(int* x) {
  extern __shared__ int tile[];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
__global__ void scan(int* x) {  // Hillis and Steele: two barriers a step
  __shared__ int tile[256];
  tile[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  for (int step = 1; step < blockDim.x; step *= 2) {
    int before = threadIdx.x >= step ? tile[threadIdx.x - step] : 0;
    __syncthreads();
    tile[threadIdx.x] += before;
    __syncthreads();
  }
  x[blockIdx.x * blockDim.x + threadIdx.x] = tile[threadIdx.x];
}
__global__ void barriers(int* out) {  // 70 threads: two warps and a bit
  int t = threadIdx.x;
  out[t] = __syncthreads_count(t % 3 == 0);
  out[70 + t] = __syncthreads_or(t == 69) * 10 + __syncthreads_or(t == 70);
  out[140 + t] = __syncthreads_and(t < 70) * 10 + __syncthreads_and(t < 69);
}
__global__ void votes(unsigned* out) {  // 40 threads: the second warp has 8
  unsigned t = threadIdx.x;
  out[t] = __ballot_sync(~0u, t % 2);
  out[40 + t] = __any_sync(~0u, t == 35) * 10 + __all_sync(~0u, t < 35);
  out[80 + t] = __match_any_sync(~0u, t % 3);
  int all;
  out[120 + t] = __match_all_sync(~0u, t / 32, &all);
  out[160 + t] = all;
  out[200 + t] = t % 32 < 4 ? __ballot_sync(0xfu, 1) : 7;  // a part of the warp alone
  out[240 + t] = __activemask();
}
__global__ void shuffles(int* out) {
  int t = threadIdx.x;
  out[t] = __shfl_sync(~0u, t, 5);
  out[32 + t] = __shfl_sync(~0u, t, t + 1, 8);
  out[64 + t] = __shfl_up_sync(~0u, t, 3);
  out[96 + t] = __shfl_down_sync(~0u, t, 3, 16);
  out[128 + t] = __shfl_xor_sync(~0u, t, 6);
  out[160 + t] = __shfl_sync(~0u, (double)t, 31) == 31.0 && __shfl_sync(~0u, (long long)t << 40, 2) == 2LL << 40;
}
__global__ void atomics(int* out) {
  int t = threadIdx.x;
  atomicAdd(&out[0], t);
  atomicSub(&out[1], t);
  atomicMin(&out[2], t);
  atomicMax(&out[3], t);
  for (int old = out[4], seen; ; old = seen)  // a product, by compare and swap
    if ((seen = atomicCAS(&out[4], old, old * 2)) == old) break;
  if (atomicExch(&out[5], t) == 0) atomicAdd(&out[6], 1);
}
template <class T>
__global__ void sum(T* out) { atomicAdd(out, T(threadIdx.x)); }
template <class T>
__global__ void greatest(T* out) { atomicMax(out, T(threadIdx.x) << 40); }
__global__ void bitwise(int* out, unsigned long long* wide) {
  atomicOr(&out[0], 1 << threadIdx.x % 32);
  atomicAnd(&out[1], ~(1 << threadIdx.x % 32));
  atomicXor(&out[2], 1 << threadIdx.x % 32);
  atomicOr(&wide[0], 1ull << threadIdx.x);
  atomicAdd(&wide[1], 1ull << 33);
}
__global__ void bits(int* out, const float* x) {
  out[0] = __popc(0xf0f0); out[1] = __popcll(1ull << 40 | 1); out[2] = __ffs(8); out[3] = __ffsll(1ll << 40);
  out[4] = __clz(1); out[5] = __clzll(1); out[6] = __float_as_int(1.0f); out[7] = __int_as_float(0x40000000) == 2.0f;
  out[8] = __ldg(x) == 3.0f; out[9] = __double_as_longlong(1.0) >> 52; out[10] = __longlong_as_double(0) == 0.0;
  out[11] = min(3, 5) * 10 + max(3, 5); out[12] = make_float4(1, 2, 3, 4).w; out[13] = sizeof(double2);
}
__global__ void halves(const c10::Half* a, const c10::BFloat16* b, float* out) {
  out[threadIdx.x] = static_cast<float>(a[threadIdx.x]) + static_cast<float>(b[threadIdx.x]);
}
__global__ void history(int* list, int* count) { list[atomicAdd(count, 1)] = blockIdx.x * blockDim.x + threadIdx.x; }
"""
HALVES = "#include <torch/headeronly/util/BFloat16.h>\n#include <torch/headeronly/util/Half.h>\n"
SUMS = {torch.int32: "int", torch.uint64: "unsigned long long", torch.float32: "float", torch.float64: "double"}
GREATEST = {torch.int64: "long long", torch.uint64: "unsigned long long"}
TEMPLATES = [f"sum<{name}>" for name in SUMS.values()] + [f"greatest<{name}>" for name in GREATEST.values()]
KERNELS = [
    "atomics",
    "indices",
    "reverse_static",
    "reverse_dynamic",
    "scan",
    "barriers",
    "votes",
    "shuffles",
    "bitwise",
    "bits",
]
PROGRAM = Program(HALVES + SOURCE, [*KERNELS, "halves", "history", *TEMPLATES])


@pytest.fixture(params=ORDERS, ids=lambda order: f"{order[0]} {order[1]}")
def any_order(request):
    with schedule(*request.param):
        yield


def ints(count: int, dtype=torch.int32):
    return torch.zeros(count, dtype=dtype)


def test_indices_in_three_dimensions(any_order):
    out = ints(2 * 3 * 4 * 5 * 3 * 2)
    PROGRAM.launch("indices", (2, 3, 4), (5, 3, 2), out)
    assert torch.equal(out, torch.arange(len(out)).int())


@pytest.mark.parametrize("kernel", ["reverse_static", "reverse_dynamic"])
def test_shared_memory(any_order, kernel):
    x = torch.arange(96).int()
    PROGRAM.launch(kernel, 1, 96, x, shared_bytes=0 if kernel == "reverse_static" else 4 * 96)
    assert torch.equal(x, torch.arange(95, -1, -1).int())


def test_barriers_in_a_loop(any_order):
    x = torch.randint(100, (3, 256), dtype=torch.int32)
    expected = x.cumsum(dim=1)
    PROGRAM.launch("scan", 3, 256, x)
    assert torch.equal(x.long(), expected)


def test_barriers_that_count(any_order):
    out = ints(210)
    PROGRAM.launch("barriers", 1, 70, out)
    assert out.view(3, 70).unique(dim=1).flatten().tolist() == [24, 10, 10]  # 0, 3, ..., 69 are 24 numbers


def test_votes(any_order):
    out = ints(280)
    PROGRAM.launch("votes", 1, 40, out)
    ballot, any_all, match_any, match_all, all_equal, part, active = out.view(7, 40).long().bitwise_and(2**32 - 1)
    lanes = torch.arange(40)
    assert ballot[:32].tolist() == [0xAAAAAAAA] * 32
    assert ballot[32:].tolist() == [0xAA] * 8
    assert any_all[:32].tolist() == [1] * 32
    assert any_all[32:].tolist() == [10] * 8
    for t in range(40):
        same = [u % 32 for u in range(40) if u // 32 == t // 32 and u % 3 == t % 3]
        assert match_any[t] == sum(1 << u for u in same)
    assert match_all.unique().tolist() == [0xFF, 2**32 - 1]
    assert all_equal.tolist() == [1] * 40
    assert torch.equal(part, torch.where(lanes % 32 < 4, 0xF, 7))
    # Which lanes are still there depends on the order; a thread itself always is.
    assert ((active >> lanes % 32) & 1).all()


def test_shuffles(any_order):
    out = ints(192)
    PROGRAM.launch("shuffles", 1, 32, out)
    lane = range(32)
    assert out[:32].tolist() == [5] * 32
    assert out[32:64].tolist() == [t // 8 * 8 + (t + 1) % 8 for t in lane]
    assert out[64:96].tolist() == [t - 3 if t >= 3 else t for t in lane]
    assert out[96:128].tolist() == [t + 3 if t % 16 + 3 < 16 else t for t in lane]
    assert out[128:160].tolist() == [t ^ 6 for t in lane]
    assert out[160:].tolist() == [1] * 32


def test_atomics(any_order):
    out = torch.tensor([0, 0, 5, 5, 1, 0, 0], dtype=torch.int32)
    PROGRAM.launch("atomics", 1, 20, out)
    total, negative, least, greatest, product, _, first = out.tolist()
    assert (total, negative, least, greatest, product) == (190, -190, 0, 19, 2**20)
    assert first >= 1


def test_atomics_of_other_types(any_order):
    for dtype, name in SUMS.items():
        out = torch.zeros(1, dtype=dtype)
        PROGRAM.launch(f"sum<{name}>", 1, 20, out)
        assert out.item() == 190
    for dtype, name in GREATEST.items():
        out = torch.zeros(1, dtype=dtype)
        PROGRAM.launch(f"greatest<{name}>", 1, 20, out)
        assert out.item() == 19 << 40


@pytest.mark.parametrize(
    ("call", "types"),
    [
        ("atomicMax((float*)at, 1.0f)", "int, unsigned, long long, unsigned long long"),
        ("atomicAdd((long long*)at, 1ll)", "int, unsigned, unsigned long long, float, double"),
        ("atomicCAS((float*)at, 0.0f, 1.0f)", "unsigned short, int, unsigned, unsigned long long"),
    ],
)
def test_atomics_that_cuda_does_not_have(call, types):
    program = Program(f"__global__ void wrong(void* at) {{ {call}; }}")
    with pytest.raises(RuntimeError, match=f"for these types only: {types}"):
        program.launch("wrong", 1, 1, torch.zeros(1))


def test_bitwise_atomics(any_order):
    out, wide = torch.tensor([0, -1, 0], dtype=torch.int32), ints(2, torch.int64)
    PROGRAM.launch("bitwise", 1, 48, out, wide)
    assert out.tolist() == [-1, 0, -65536]  # the lower 16 bits were flipped twice
    assert wide.tolist() == [2**48 - 1, 48 << 33]


def test_bits_and_small_functions():
    out = ints(14)
    PROGRAM.launch("bits", 1, 1, out, torch.tensor([3.0]))
    assert out.tolist() == [8, 2, 4, 41, 31, 63, 0x3F800000, 1, 1, 1023, 1, 35, 4, 16]


def test_half_types():
    a, b, out = torch.randn(64).half(), torch.randn(64).bfloat16(), torch.zeros(64)
    PROGRAM.launch("halves", 1, 64, a, b, out)
    assert torch.equal(out, a.float() + b.float())


def history(order: str, seed: int = 0) -> list[int]:
    seen, count = ints(5 * 64), ints(1)
    with schedule(order, seed):
        PROGRAM.launch("history", 5, 64, seen, count)
    return seen.tolist()


def test_orders():
    assert history("ascending") == list(range(320))
    assert history("descending") == list(range(319, -1, -1))
    shuffled = history("shuffled", 7)
    assert shuffled == history("shuffled", 7) != history("shuffled", 8)
    assert sorted(shuffled) == list(range(320))
    blocks = [i // 64 for i in shuffled]
    assert all(len(set(blocks[i : i + 64])) == 1 for i in range(0, 320, 64))  # a block runs to its end


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes", "why"),
    [
        (0, 32, 0, "no blocks"),
        ((1, 65536), 32, 0, "larger than CUDA allows"),
        (2**31, 32, 0, "larger than CUDA allows"),
        (1, 1025, 0, "1 to 1024 threads"),
        (1, 0, 0, "1 to 1024 threads"),
        (1, 32, 49153, "48 KiB"),
    ],
)
def test_invalid_launches(grid, block, shared_bytes, why):
    with pytest.raises(KernelFault, match=f"launching history.*{why}"):
        PROGRAM.launch("history", grid, block, None, None, shared_bytes=shared_bytes)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="takes 2 arguments; got 1"):
        PROGRAM.launch("history", 1, 1, ints(1))
    with pytest.raises(TypeError, match="argument 1 of halves"):
        PROGRAM.launch("halves", 1, 1, ints(1), 1.5, ints(1))
    with pytest.raises(RuntimeError, match=r"(?s)does not compile.*kernel.cu:1"):
        Program("__global__ void broken() { undeclared = 1; }").launch("broken", 1, 1)
