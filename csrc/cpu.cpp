// Which copy of the CPU kernels runs (see cpu.h).
#include "cpu.h"
#include "library.h"

namespace mrcnn {
namespace {

bool processor_has(int bits) {
#if defined(MRCNN_X86_VECTORS)
  if (bits == 256) return __builtin_cpu_supports("avx2");
  if (bits == 512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return false;
}

// Called on loading by mrcnn/ops/backend.py, with what torch says of the processor. Returns the width that is taken,
// never more than there is: asking for too much must not crash.
int64_t limit_vectors(int64_t most_bits) {
  int bits = 128;
  for (const int wider : {256, 512})
    if (wider <= most_bits && processor_has(wider)) bits = wider;
  vector_bits = bits;
  return bits;
}

}  // namespace
}  // namespace mrcnn

STABLE_TORCH_LIBRARY_FRAGMENT(MRCNN_LIBRARY, m) { m.def("limit_vectors(int most_bits) -> int"); }

STABLE_TORCH_LIBRARY_IMPL(MRCNN_LIBRARY, CompositeExplicitAutograd, m) {
  m.impl("limit_vectors", TORCH_BOX(&mrcnn::limit_vectors));
}
