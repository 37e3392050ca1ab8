// Starts kernels, on every platform alike: a grid is one row of blocks, since GPUs take no more than 65535 in the other
// directions.
#pragma once

#include <stdexcept>
#include <string>

#include "platform.h"

namespace pcbench::device {

PCBENCH_HOST_DEVICE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// No blocks start nothing. Where a launch is `early`, the kernel may start before the one in front of it has ended: it
// calls await_previous() before it touches global memory.
template <class Params>
void launch(void (*kernel)(Params), int64_t blocks, int threads, int shared_bytes, Stream stream, const Params& params,
            bool early = false) {
  if (blocks > most_blocks(threads)) {
    throw std::runtime_error("a launch must have <= " + std::to_string(most_blocks(threads)) + " blocks of " +
                             std::to_string(threads) + " threads, got " + std::to_string(blocks) +
                             "; split the batch or the rows over several calls");
  }
  if (blocks > 0) {
    launch_blocks(kernel, static_cast<unsigned>(blocks), threads, shared_bytes, stream, params, early);
  }
}

// Among how many blocks `tiles` of keys are dealt where the rows alone fill `blocks`: so that there are `wanted` blocks
// a multiprocessor, but for a cap on what is merged.
inline int32_t splits_of(int64_t wanted, int64_t blocks, int64_t tiles) {
  const int64_t most = 128, splits = ceil_div(wanted * multiprocessors(), blocks < 1 ? 1 : blocks);
  const int64_t some = splits < most ? splits : most;
  return static_cast<int32_t>(some < tiles ? some : tiles < 1 ? 1 : tiles);
}

// Where the block stands if the row is read as width × height × any blocks, x first.
struct Place {
  int32_t x, y, z;
};

PCBENCH_DEVICE Place place_in(int64_t width, int64_t height) {
  const int32_t w = static_cast<int32_t>(width), h = static_cast<int32_t>(height), index = block_index();
  return {uniform(index % w), uniform(index / w % h), uniform(index / w / h)};
}

}  // namespace pcbench::device
