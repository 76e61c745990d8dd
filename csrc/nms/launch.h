// What nms.cu offers to nms_cuda.cpp: non-maximum suppression on raw pointers.
#pragma once

#include <cstdint>

namespace mrcnn {

// Boxes that are looked at together: a strip is resolved within itself, then suppresses what comes after it.
constexpr int nms_strip = 2048;

template <typename Real>
struct NmsProblem {
  const Real* boxes;      // (n, 4), 16-byte aligned, by group, within a group by falling score
  const int64_t* groups;  // (n,) rising, or null: one group
  int64_t n;
  Real threshold;
};

struct NmsWorkspace {
  unsigned* dropped;     // ceil(n / 32) words of zeros: bit i % 32 of word i / 32 is set when box i is dropped
  unsigned* overlaps;    // nms_strip / 32 * nms_strip words
  int64_t* survivors;    // nms_strip
  int* survivor_count;   // 1
};

// Afterwards `dropped` is complete.
template <typename Real>
void launch_nms(const NmsProblem<Real>&, const NmsWorkspace&, void* stream);

// kept[rank[i]] = whether box i is kept, rows[rank[i]] = order[i]; without `rank` the rank is i.
void launch_nms_collect(const unsigned* dropped, const int64_t* order, const int64_t* rank, int64_t n, bool* kept,
                        int64_t* rows, void* stream);

}  // namespace mrcnn
