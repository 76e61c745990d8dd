// How far RoIAlign goes, on every device. mrcnn/ops/reference.py has the same numbers.
#pragma once

#include <cstdint>

namespace mrcnn {

// Samples per bin along an axis. Without an end to them a box of 10^12 cells, or a slip in sampling_ratio, would keep a
// device busy for hours. Photographs pooled to a single bin stay below it.
constexpr int64_t most_samples = 4096;

// Bins per RoI.
constexpr int64_t most_bins = 1 << 20;

}  // namespace mrcnn
