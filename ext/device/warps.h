// Reductions and scans over the lanes of a warp and the threads of a block, in a fixed order.
#pragma once

#include "device/numbers.h"

namespace pcbench::device {

// Over groups of `lanes` neighbouring lanes, a power of two; every lane gets the result.
PCBENCH_DEVICE float group_sum(float x, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) {
    x += shuffle_xor(x, mask);
  }
  return x;
}
PCBENCH_DEVICE float group_max(float x, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) {
    x = larger(x, shuffle_xor(x, mask));
  }
  return x;
}

struct Scan {
  int before, total;
};

// Sums over the threads before this one and over all. `totals` holds one number a warp, and must not be in use by
// anyone when the call starts; it is free again after the next barrier.
PCBENCH_DEVICE Scan block_scan(int x, Shared<int32_t> totals) {
  int up_to = x;
  for (int by = 1; by < warp_width; by *= 2) {
    const int below = shuffle_up(up_to, by);
    up_to += lane() >= by ? below : 0;
  }
  if (lane() == warp_width - 1) {
    totals[warp()] = up_to;
  }
  barrier();
  Scan scan{up_to - x, 0};
  for (int w = 0; w < block_threads() / warp_width; ++w) {
    const int of_warp = totals[w];
    scan.before += w < warp() ? of_warp : 0;
    scan.total += of_warp;
  }
  return scan;
}

}  // namespace pcbench::device
