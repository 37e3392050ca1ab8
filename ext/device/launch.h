// Starts kernels, on every platform alike.
#pragma once

#include "platform.h"

namespace pcbench::device {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

PCBENCH_HOST_DEVICE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// A grid without blocks starts nothing.
template <class Params>
void launch(void (*kernel)(Params), Grid grid, int threads, int shared_bytes, Stream stream, const Params& params) {
  if (grid.x > 0 && grid.y > 0 && grid.z > 0) {
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z));
    launch_blocks(kernel, blocks, threads, shared_bytes, stream, params);
  }
}

}  // namespace pcbench::device
