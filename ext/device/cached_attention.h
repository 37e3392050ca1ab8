// cached_attention and decode_attention for float32 and for what the tensor-core kernels refuse, and
// quantized_attention.
//
// Rows of a block are (position, head of the group) of one (b, hkv), which share the keys. The tiles of the listed
// segments laid end to end are dealt to a number of splits that depends on shapes only; lengths are read on the device.
// A second kernel merges the splits in ascending order: a warp a row.
// Grid: row blocks × splits × B·Hkv, then rows over warps. Shared: RowTile<D, R>. Scratch: D + 2 floats a row and
// split. Everything is summed in float32. Shapes: CachedAttention of params.h. Equal the functions of
// pcbench.reference of their names. Split keys after FlashDecoding.
#pragma once

#include "device/codes.h"
#include "device/launch.h"
#include "device/row_tile.h"
#include "device/segments.h"

namespace pcbench::device::portable {

struct CachedCall {
  CachedAttention p;
  int32_t splits;
  float* partials;  // [B·Hkv, Q·G, splits, D + 2]: unnormalised out, maximum, sum

  PCBENCH_HOST_DEVICE int64_t group() const { return p.heads / p.keys.kv_heads; }
  PCBENCH_HOST_DEVICE int64_t packed_rows() const { return p.rows * group(); }
};

constexpr int merge_splits_threads = 256;

// Over keys and values of the rows' dtype, or of codes.
template <int D, int R, bool quantized>
class CachedRows {
 public:
  using Tile = RowTile<D, R>;

  PCBENCH_DEVICE explicit CachedRows(const CachedCall& call)
      : call_(call),
        p_(call.p),
        group_(static_cast<int32_t>(call.group())),
        rows_(static_cast<int32_t>(call.packed_rows())),
        place_(place_in(ceil_div(rows_, Tile::rows), call.splits)),
        first_(place_.x * Tile::rows),
        pair_(place_.z),
        b_(pair_ / p_.keys.kv_heads),
        h_(pair_ % p_.keys.kv_heads) {}

  PCBENCH_DEVICE void run() {
    Tile::load_queries(p_.q.data, p_.keys.dtype, [&](int row) {
      const int64_t head = h_ * group_ + (first_ + row) % group_, i = (first_ + row) / group_;
      const int64_t at = b_ * p_.q.strides[0] + head * p_.q.strides[1] + i * p_.q.strides[2];
      return first_ + row < rows_ ? at : int64_t{-1};
    });
    const int64_t last = last_used(p_.keys, b_);
    int64_t tiles = 0;
    for (int64_t place = 0; place < p_.keys.listed; ++place) {
      tiles += tiles_of(segment(p_.keys, b_, h_, place, last));
    }
    const int64_t from = tiles * place_.y / call_.splits, to = tiles * (place_.y + 1) / call_.splits;
    int64_t origin = 0;
    for (int64_t place = 0; place < p_.keys.listed && origin < to; ++place) {
      const Segment x = segment(p_.keys, b_, h_, place, last);
      const int64_t end = smaller<int64_t>(tiles_of(x), to - origin);
      for (int64_t tile = larger<int64_t>(0, from - origin); tile < end; ++tile) {
        attend(x, static_cast<int32_t>(tile));
      }
      origin += tiles_of(x);
    }
    put();
  }

 private:
  static PCBENCH_DEVICE int64_t tiles_of(const Segment& x) { return (x.length + tile_keys - 1) / tile_keys; }

  PCBENCH_DEVICE void attend(const Segment& x, int32_t index) {
    const int32_t from = index * tile_keys;
    int limits[R];
    uint32_t hidden[R];
    for (int r = 0; r < R; ++r) {
      const int32_t row = first_ + Tile::row_of(r);
      limits[r] = x.visible(row / group_, p_.rows) - from;
      hidden[r] = 0;
      if (p_.evicted.data && index < p_.words) {
        const int64_t head = p_.evicted_heads == p_.heads ? h_ * group_ + row % group_ : h_;
        const int32_t* words = p_.evicted.data + x.slot * p_.evicted.strides[0] + head * p_.evicted.strides[1];
        hidden[r] = row < rows_ ? static_cast<uint32_t>(load(words + index)) : 0u;
      }
    }
    float s[R][4];
    if constexpr (quantized) {
      Tile::score(s, CodeRows<D, true>{p_.keys, x.start + from, x.length - from}, p_.scale, limits, hidden);
      tile_.add(s, CodeRows<D, false>{p_.keys, x.start + from, x.length - from});
      return;
    }
    const auto offset = [&](int key, int64_t start, const Floats& rows) {
      return from + key < x.length ? (start + from + key) * rows.strides[0] : int64_t{-1};
    };
    const Floats &k = p_.keys.k_rows, &v = p_.keys.v_rows;
    Tile::score(s, k.data, p_.keys.dtype, [&](int key) { return offset(key, x.start, k); }, p_.scale, limits, hidden);
    if (p_.mass) {
      keep(s, from);
    }
    tile_.add(s, v.data, p_.keys.dtype, [&](int key) { return offset(key, x.v_start, v); });
  }

  // Keeps the scores of keys from `from` on; there is one position, so rows are the heads of the group.
  PCBENCH_DEVICE void keep(const float (&s)[R][4], int32_t from) const {
    for (int r = 0; r < R; ++r) {
      const int32_t row = first_ + Tile::row_of(r);
      float* to = p_.scores + (b_ * p_.heads + h_ * group_ + row) * p_.score_row + from;
      for (int c = 0; c < 4; ++c) {
        if (row < rows_ && from + Tile::key_of(c) < p_.longest) {
          store(to + Tile::key_of(c), s[r][c]);
        }
      }
    }
  }

  PCBENCH_DEVICE void put() {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float sum = group_sum(tile_.sum[r], tile_key_threads);
      const int64_t row = first_ + Tile::row_of(r);
      if (row < rows_) {
        float* to = call_.partials + ((pair_ * rows_ + row) * call_.splits + place_.y) * (D + 2);
        for (int d = 0; d < D / 8; ++d) {
          store(to + tile_column(d), tile_.out[r][d]);
        }
        if (Tile::tx() == 0) {
          store(to + D, tile_.peak[r]);
          store(to + D + 1, sum);
        }
      }
    }
  }

  const CachedCall& call_;
  const CachedAttention& p_;
  const int32_t group_, rows_;
  const Place place_;
  const int32_t first_;
  const int64_t pair_, b_, h_;
  Tile tile_;
};

template <int D, int R>
PCBENCH_KERNEL(tile_threads, 2)
void cached_attention_kernel(PCBENCH_PARAM CachedCall call) {
  CachedRows<D, R, false>(call).run();
}

template <int D, int R>
PCBENCH_KERNEL(tile_threads, 2)
void quantized_attention_kernel(PCBENCH_PARAM CachedCall call) {
  CachedRows<D, R, true>(call).run();
}

PCBENCH_KERNEL(merge_splits_threads, 4) void merge_splits_kernel(PCBENCH_PARAM CachedCall call) {
  const CachedAttention& p = call.p;
  const int64_t dim = p.keys.dim, row_floats = dim + 2;
  const int64_t index = int64_t{block_index()} * (block_threads() / warp_width) + warp();
  if (index >= p.keys.batch * p.keys.kv_heads * call.packed_rows()) {
    return;
  }
  const float* parts = call.partials + index * call.splits * row_floats;
  float peak = -infinity;
  for (int split = 0; split < call.splits; ++split) {
    peak = larger(peak, load(parts + split * row_floats + dim));
  }
  const float shift = or_zero(peak);
  float sum = 0.0f;
  for (int split = 0; split < call.splits; ++split) {
    const float* part = parts + split * row_floats;
    sum += weight(load(part + dim), shift) * load(part + dim + 1);
  }
  const int64_t pair = index / call.packed_rows(), row = index % call.packed_rows();
  const int64_t b = pair / p.keys.kv_heads, head = pair % p.keys.kv_heads * call.group() + row % call.group();
  const int64_t place = (b * p.heads + head) * p.rows + row / call.group();
  const float share = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (int64_t d = lane(); d < dim; d += warp_width) {
    float total = 0.0f;
    for (int split = 0; split < call.splits; ++split) {
      const float* part = parts + split * row_floats;
      total += weight(load(part + dim), shift) * load(part + d);
    }
    put_element(p.out, p.keys.dtype, place * dim + d, total * share);
  }
  if (lane() == 0) {
    store(p.lse + place, log_sum(peak, sum));
  }
}

}  // namespace pcbench::device::portable
