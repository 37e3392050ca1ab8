// The parts of cached_attention's jobs become out and lse.
//
// A block owns a row, or four where rows are many: its four warps share a row's parts, or take a row each. Parts are
// added in one fixed order. Its launch is early. Shared memory: 4·(D + 1) floats where warps share a row. Shapes:
// CachedAttention in params.h. Sums are float32. Equals pcbench.reference.merge_states of the parts.
#pragma once

#include "cached_work.cuh"

namespace pcbench::device {

// Shift, sum and sums of values of the rows of a part, as the merge reads them.
template <int D>
struct PartPlace {
  float* state;
  float* out;

  PCBENCH_HOST_DEVICE PartPlace(const CachedLaunch& x, int64_t part, int row)
      : state(x.states + (part * x.block_rows + row) * 2), out(x.outs + (part * x.block_rows + row) * D) {}
};

struct alignas(8) Pair {
  float x, y;
};

// A row from its job's parts; `Warps` of the block's four work on it, each on every Warps-th part.
template <class T, int D, int Warps>
PCBENCH_KERNEL(tile_threads, 4)
void cached_merge(PCBENCH_PARAM CachedLaunch x) {
  constexpr int columns = D / warp_width, row_floats = D + 1;
  Shared<float> shared_sums = shared<float>(0);
  const int64_t packed_rows = x.p.rows * x.pack, row = int64_t{block_index()} * (4 / Warps) + warp() / Warps;
  const int32_t pair = static_cast<int32_t>(row / packed_rows), at = static_cast<int32_t>(row % packed_rows);
  const bool exists = pair < x.pairs;
  int64_t from = 0, end = 0;
  float top = -infinity;
  await_previous();
  if (exists) {
    const int32_t job = pair * x.row_blocks + at / x.block_rows;
    const int64_t before = load(x.before + pair), tiles = load(x.before + pair + 1) - before;
    const int64_t share = share_of(int64_t{load(x.before + x.pairs)} * x.row_blocks, x.blocks);
    const int64_t first = before * x.row_blocks + at / x.block_rows * tiles;
    from = first / share + job;
    end = tiles ? (first + tiles - 1) / share + job + 1 : from;
    for (int64_t i = from + lane(); i < end; i += warp_width) {
      top = fmaxf(top, load(PartPlace<D>(x, i, at % x.block_rows).state));
    }
  }
#pragma unroll
  for (int mask = 1; mask < warp_width; mask *= 2) {
    top = fmaxf(top, shuffle_xor(top, mask));
  }
  const float base = top == -infinity ? 0.0f : top;
  float sum = 0.0f, out[columns] = {};
#pragma unroll 4
  for (int64_t i = from + warp() % Warps; i < end; i += Warps) {
    const PartPlace<D> part(x, i, at % x.block_rows);
    const Pair state = load(reinterpret_cast<const Pair*>(part.state));
    const float weight = exp2(state.x - base);
    sum += weight * state.y;
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      out[c] += weight * load(part.out + c * warp_width + lane());
    }
  }
  if constexpr (Warps > 1) {
    Shared<float> mine = shared_sums + warp() * row_floats;
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      mine[c * warp_width + lane()] = out[c];
    }
    if (lane() == 0) {
      mine[D] = sum;
    }
    barrier();
    if (warp() % Warps) {
      return;
    }
#pragma unroll
    for (int w = 1; w < Warps; ++w) {
      Shared<float> its = shared_sums + (warp() + w) * row_floats;
      sum += its[D];
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        out[c] += its[c * warp_width + lane()];
      }
    }
  }
  if (exists) {
    const int32_t head = pair % x.head_blocks * x.pack + at % x.pack;
    const int64_t to = (int64_t{pair / x.head_blocks} * x.p.heads + head) * x.p.rows + at / x.pack;
    const float scaled = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      store(static_cast<T*>(x.p.out) + to * D + c * warp_width + lane(), narrow<T>(out[c] * scaled));
    }
    if (lane() == 0) {
      store(x.p.lse + to, sum == 0.0f ? -infinity : top == infinity ? infinity : (top + log2(sum)) * ln_2);
    }
  }
}

}  // namespace pcbench::device
