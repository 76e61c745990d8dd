// One bilinear sample as lesson 07 reads it: which four cells of a map, and how much of each. The kernels of
// roi_align.cu keep rows and columns apart instead, and work them out once for all channels.
#pragma once

struct FourCells {
  int cell[4];      // numbered row by row: y * width + x
  float weight[4];  // they sum to 1; all 0 for a sample that is off the map
};

// The sample at row y, column x, where whole numbers are the middles of cells.
__device__ inline FourCells four_cells(float y, float x, int height, int width) {
  if (!(y >= -1 && y <= height && x >= -1 && x <= width)) return {};
  y = min(max(y, 0.0f), height - 1.0f);
  x = min(max(x, 0.0f), width - 1.0f);
  const int top = y, left = x, bottom = min(top + 1, height - 1), right = min(left + 1, width - 1);
  const float down = y - top, across = x - left;  // how far from the top left cell
  return {{top * width + left, top * width + right, bottom * width + left, bottom * width + right},
          {(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across}};
}
