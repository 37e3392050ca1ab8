// Writes the rows of an AttentionTile once their keys are taken in.
#pragma once

#include "attention_tile.cuh"

namespace pcbench::device {

// Natural logarithm of the sum of a row's weights.
PCBENCH_DEVICE float lse_of(float shift, float sum) {
  return sum == 0.0f ? -infinity : shift == infinity ? infinity : (shift + log2(sum)) * ln_2;
}

// Row `at` of the block goes to row place(at) of out [rows, D] and lse [rows], or nowhere where that is negative.
// Through shared memory, so that a store is 16 bytes a lane; a warp uses its own query rows' place.
template <class T, int D, bool Tight, int Terms, class Place>
PCBENCH_DEVICE void store_rows(const AttentionTile<T, D, Tight, Terms>& tile, T* out, float* lse, Place place) {
  Shared<uint32_t> pairs = shared<uint32_t>(0);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int at = tile.row_of(r);
    const float share = tile.sum[r] == 0.0f ? 0.0f : 1.0f / tile.sum[r];
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      const float* o = tile.out[r / 2][n] + r % 2 * 2;
      pairs[tile.place(at, n) / 2 + lane() % 4] = narrow_pair<T>(o[0] * share, o[1] * share);
    }
    if (lane() % 4 == 0 && place(at) >= 0) {
      store(lse + place(at), lse_of(tile.shift[r], tile.sum[r]));
    }
  }
  warp_barrier();
  constexpr int chunks = AttentionTile<T, D, Tight, Terms>::chunks, at_once = warp_width / chunks;
  const int chunk = lane() % chunks, first = warp() * 32 + lane() / chunks;
  if (chunk * 8 < D) {
    for (int at = first; at < (warp() + 1) * 32; at += at_once) {
      if (place(at) >= 0) {
        store16(out + place(at) * D + chunk * 8, load16(tile.rows + tile.place(at, chunk)));
      }
    }
  }
}

}  // namespace pcbench::device
