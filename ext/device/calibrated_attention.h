// calibrated_attention for float32 and for what the tensor-core kernels refuse: out and lse.
//
// A block owns 64 rows of one (b, h) and walks over the keys they see in tiles of 32; the longest rows start first.
// Grid: row blocks × H × B. Shared: RowTile<D, 4>. Everything is summed in float32. Shapes: CalibratedAttention of
// params.h. Equals pcbench.reference.calibrated_attention. Online softmax after FlashAttention, arXiv:2205.14135.
#pragma once

#include "device/launch.h"
#include "device/row_tile.h"

namespace pcbench::device::portable {

// What the rows of one (b, h) see.
struct CalibratedRows {
  int64_t b, h, kv_head;
  int32_t rows, keys;  // valid ones
  const int32_t* words;

  PCBENCH_DEVICE CalibratedRows(const CalibratedAttention& p, int64_t b, int64_t h)
      : b(b),
        h(h),
        kv_head(h / (p.heads / p.kv_heads)),
        rows(static_cast<int32_t>(p.rows)),
        keys(static_cast<int32_t>(p.keys)),
        words(nullptr) {
    if (p.query_lengths.data) {
      rows = clamped(entry(p.query_lengths, b), 0, rows);
    }
    if (p.key_lengths.data) {
      keys = clamped(entry(p.key_lengths, b, kv_head), 0, keys);
    }
    if (p.evicted.data) {
      const int64_t head = p.evicted_heads == p.heads ? h : kv_head;
      words = p.evicted.data + b * p.evicted.strides[0] + head * p.evicted.strides[1];
    }
  }

  // Keys that row i sees, eviction aside.
  PCBENCH_DEVICE int32_t visible(const CalibratedAttention& p, int32_t i) const {
    return i >= rows ? 0 : p.causal ? clamped(i + 1 + keys - rows, 0, keys) : keys;
  }

  PCBENCH_DEVICE uint32_t hidden(int32_t tile) const { return words ? static_cast<uint32_t>(load(words + tile)) : 0u; }
};

// Writes a thread's share of row i, merged with an incoming state.
template <int D>
PCBENCH_DEVICE void put_row(const CalibratedAttention& p, const CalibratedRows& x, int32_t i, float peak, float sum,
                            const float (&out)[D / 8]) {
  const int64_t row = (x.b * p.heads + x.h) * p.rows + i;
  const float own_lse = log_sum(peak, sum);
  float own = sum == 0.0f ? 0.0f : 1.0f / sum, before = 0.0f, lse = own_lse;
  const float* state = nullptr;
  if (p.out_in.data) {
    const int64_t head = x.b * p.lse_in.strides[0] + x.h * p.lse_in.strides[1];
    const float lse_in = load(static_cast<const float*>(p.lse_in.data) + head + i);
    const float most = larger(own_lse, lse_in), shift = or_zero(most);
    lse = log_sum(most, weight(own_lse, shift) + weight(lse_in, shift));
    own *= weight(own_lse, or_zero(lse));
    before = weight(lse_in, or_zero(lse));
    // what goes with a state that saw nothing may be anything
    state = lse_in == -infinity ? nullptr
                                : static_cast<const float*>(p.out_in.data) + x.b * p.out_in.strides[0] +
                                      x.h * p.out_in.strides[1] + i * p.out_in.strides[2];
  }
  for (int d = 0; d < D / 8; ++d) {
    const int column = tile_column(d);
    const float merged = out[d] * own + (state ? before * load(state + column) : 0.0f);
    put_element(p.out, p.out_dtype, row * D + column, merged);
  }
  if (thread_index() % tile_key_threads == 0) {
    store(p.lse + row, lse);
  }
}

template <int D>
PCBENCH_KERNEL(tile_threads, 3)
void calibrated_attention_kernel(PCBENCH_PARAM CalibratedAttention p) {
  constexpr int R = 4;
  using Tile = RowTile<D, R>;
  const int64_t row_blocks = ceil_div(p.rows, Tile::rows);
  const Place place = place_in(row_blocks, p.heads);
  const CalibratedRows x(p, place.z, place.y);
  const int32_t first = (static_cast<int32_t>(row_blocks) - 1 - place.x) * Tile::rows;
  Tile tile;
  Tile::load_queries(p.q.data, p.dtype, [&](int row) {
    const int64_t at = x.b * p.q.strides[0] + x.h * p.q.strides[1] + (first + row) * p.q.strides[2];
    return first + row < x.rows ? at : int64_t{-1};
  });
  const int32_t last = smaller(first + Tile::rows, x.rows) - 1;
  const int32_t most = last < first ? 0 : x.visible(p, last);
  for (int32_t from = 0; from < most; from += tile_keys) {
    const uint32_t word = x.hidden(from / tile_keys);
    if (word == ~0u) {
      continue;
    }
    int limits[R];
    uint32_t hidden[R];
    for (int r = 0; r < R; ++r) {
      limits[r] = x.visible(p, first + Tile::row_of(r)) - from;
      hidden[r] = word;
    }
    const auto offset = [&](int key, const Floats& rows) {
      const int64_t at = x.b * rows.strides[0] + x.kv_head * rows.strides[1] + (from + key) * rows.strides[2];
      return from + key < x.keys ? at : int64_t{-1};
    };
    float s[R][4];
    Tile::score(s, p.k.data, p.dtype, [&](int key) { return offset(key, p.k); }, p.scale, limits, hidden);
    tile.add(s, p.v.data, p.dtype, [&](int key) { return offset(key, p.v); });
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float sum = group_sum(tile.sum[r], tile_key_threads);
    if (first + Tile::row_of(r) < p.rows) {
      put_row<D>(p, x, first + Tile::row_of(r), tile.peak[r], sum, tile.out[r]);
    }
  }
}

}  // namespace pcbench::device::portable
