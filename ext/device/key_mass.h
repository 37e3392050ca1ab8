// The mass of keys: window_mass, key_mass, and the mass of calibrated_attention once its lse is known.
//
// A block owns 32 keys of one (b, hkv), of one listed segment in a store, and takes the rows of every head of the group
// past them: each key's sum is made by one block, in the order of the rows. Grid: key tiles × Hkv × B (× P). Shared:
// RowTile<D, R>. Scores and sums are float32. Shapes: CalibratedAttention and WindowMass of params.h. Equal the
// functions of pcbench.reference of their names. The observation window is SnapKV's, arXiv:2404.14469.
#pragma once

#include "device/calibrated_attention.h"
#include "device/segments.h"

namespace pcbench::device::portable {

// Sums e^(score − lse) over the rows of a head. The keys are in shared memory.
//
// query(i) is the offset of row i in q, lse(i) its log-sum-exp, limit(i) the keys of the tile that it sees.
template <int D, int R, class Query, class Lse, class Limit>
PCBENCH_DEVICE void sum_head(const void* q, Float dtype, float scale, int32_t rows, uint32_t hidden_word, Query query,
                             Lse lse, Limit limit, float* mass, int32_t keys) {
  using Tile = RowTile<D, R>;
  float totals[4] = {};
  for (int32_t first = 0; first < rows; first += Tile::rows) {
    // the rows before are read
    barrier();
    Tile::load_queries(q, dtype, [&](int row) { return first + row < rows ? query(first + row) : int64_t{-1}; });
    barrier();
    float s[R][4], lses[R];
    int limits[R];
    uint32_t hidden[R];
    for (int r = 0; r < R; ++r) {
      const int32_t i = first + Tile::row_of(r);
      lses[r] = i < rows ? lse(i) : -infinity;
      // a row that saw nothing adds nothing
      limits[r] = lses[r] == -infinity ? 0 : limit(i);
      hidden[r] = hidden_word;
    }
    Tile::multiply(s);
    Tile::scale_and_hide(s, scale, limits, hidden);
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < 4; ++c) {
        totals[c] += weight(s[r][c], or_zero(lses[r]));
      }
    }
  }
  // those of the head before are read
  barrier();
  Shared<float> parts = shared<float>(Tile::weights_at);
  for (int c = 0; c < 4; ++c) {
    parts[Tile::ty() * tile_keys + Tile::key_of(c)] = totals[c];
  }
  barrier();
  if (thread_index() < keys) {
    float total = 0.0f;
    for (int y = 0; y < tile_row_threads; ++y) {
      total += parts[y * tile_keys + thread_index()];
    }
    store(mass + thread_index(), total);
  }
}

template <int D, int R>
PCBENCH_KERNEL(tile_threads, 2)
void calibrated_mass_kernel(PCBENCH_PARAM CalibratedAttention p) {
  const Place place = place_in(ceil_div(p.keys, tile_keys), p.kv_heads);
  const int64_t b = place.z, kv_head = place.y, group = p.heads / p.kv_heads;
  const int32_t from = place.x * tile_keys;
  const int32_t keys = static_cast<int32_t>(smaller<int64_t>(tile_keys, p.keys - from));
  const CalibratedRows all(p, b, kv_head * group);
  RowTile<D, R>::load_keys(p.k.data, p.dtype, [&](int key) {
    const int64_t at = b * p.k.strides[0] + kv_head * p.k.strides[1] + (from + key) * p.k.strides[2];
    return from + key < all.keys ? at : int64_t{-1};
  });
  const int32_t first = static_cast<int32_t>(larger<int64_t>(0, all.rows - p.mass_rows));
  for (int64_t g = 0; g < group; ++g) {
    const CalibratedRows x(p, b, kv_head * group + g);
    const int64_t head = b * p.heads + x.h;
    sum_head<D, R>(
        p.q.data, p.dtype, p.scale, x.rows - first, x.hidden(place.x),
        [&](int32_t i) { return b * p.q.strides[0] + x.h * p.q.strides[1] + (first + i) * p.q.strides[2]; },
        [&](int32_t i) { return load(p.lse + head * p.rows + first + i); },
        [&](int32_t i) { return x.visible(p, first + i) - from; }, p.mass + head * p.keys + from, keys);
  }
}

template <int D, int R>
PCBENCH_KERNEL(tile_threads, 2)
void window_mass_kernel(PCBENCH_PARAM WindowMass p) {
  const Place at = place_in(ceil_div(p.longest, tile_keys), p.keys.kv_heads);
  const int64_t b = at.z / p.keys.listed, place = at.z % p.keys.listed;
  const int64_t kv_head = at.y, group = p.heads / p.keys.kv_heads;
  const int32_t from = at.x * tile_keys;
  const int32_t keys = static_cast<int32_t>(smaller<int64_t>(tile_keys, p.longest - from));
  const Segment x = segment(p.keys, b, kv_head, place, last_used(p.keys, b));
  RowTile<D, R>::load_keys(p.keys.k_rows.data, p.keys.dtype, [&](int key) {
    return from + key < x.length ? (x.start + from + key) * p.keys.k_rows.strides[0] : int64_t{-1};
  });
  for (int64_t g = 0; g < group; ++g) {
    const int64_t h = kv_head * group + g;
    const float* lses = static_cast<const float*>(p.lse.data) + b * p.lse.strides[0] + h * p.lse.strides[1];
    sum_head<D, R>(
        p.q.data, p.keys.dtype, p.scale, static_cast<int32_t>(p.rows), 0,
        [&](int32_t i) { return b * p.q.strides[0] + h * p.q.strides[1] + i * p.q.strides[2]; },
        [&](int32_t i) { return load(lses + i); }, [&](int32_t i) { return x.visible(i, p.rows) - from; },
        p.mass + ((b * p.keys.listed + place) * p.heads + h) * p.longest + from, keys);
  }
}

}  // namespace pcbench::device::portable
