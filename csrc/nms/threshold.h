// An IoU in float32 is compared with a threshold in float64. No float32 lies between the threshold and the threshold
// rounded down to float32, so comparing with the latter is the same, and needs no conversion in the inner loop.
#pragma once

#include <cmath>
#include <limits>

namespace mrcnn {

template <typename scalar_t>
inline scalar_t round_down(double threshold) {
  const scalar_t nearest = static_cast<scalar_t>(threshold);
  return nearest > threshold ? std::nextafter(nearest, -std::numeric_limits<scalar_t>::infinity()) : nearest;
}

}  // namespace mrcnn
