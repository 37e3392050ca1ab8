// dual_chunk_attention in float32.
//
// The keys of a block are those of chunks further back, of the chunk before and of its own (ChunkRows), in tiles of 32
// that end where these do. They are dealt to a number of splits that depends on shapes only; the rows are turned anew
// where the next tile asks for it, and one softmax goes on. A block of its own writes out and lse; splits are merged as
// those of cached_attention.
// Grid: row blocks × splits × B·Hkv, rows that see most first. Shared: RowTile<D, R> and a number a row. Scratch: D + 2
// floats a row and split where there is more than one. Everything is summed in float32. Shapes: DualChunkAttention of
// params.h. Equals pcbench.reference.dual_chunk_attention. Dual Chunk Attention, arXiv:2402.17463; split keys after
// FlashDecoding.
#pragma once

#include "device/chunk_rows.h"
#include "device/row_tile.h"

namespace pcbench::device::portable {

struct DualChunkCall {
  DualChunkAttention p;
  ChunkGrid grid;
  int32_t splits;
  float* partials;  // [B·Hkv, Q·G, splits, D + 2]: unnormalised out, maximum, sum
};

template <int D, int R>
class DualChunkRows {
 public:
  using Tile = RowTile<D, R>;
  static constexpr int shared_bytes = Tile::shared_bytes + Tile::rows * static_cast<int>(sizeof(int32_t));

  PCBENCH_DEVICE explicit DualChunkRows(const DualChunkCall& call)
      : call_(call),
        p_(call.p),
        group_(static_cast<int32_t>(p_.heads / p_.keys.kv_heads)),
        place_(place_in(call.grid.blocks(), call.splits)),
        b_(place_.z / p_.keys.kv_heads),
        h_(place_.z % p_.keys.kv_heads),
        rows_(p_, call.grid, static_cast<int32_t>(call.grid.blocks()) - 1 - place_.x, b_, h_) {
    for (int row = thread_index(); row < Tile::rows; row += tile_threads) {
      seen()[row] = row < rows_.count ? rows_.seen(call_row(row)) : 0;
    }
  }

  PCBENCH_DEVICE void run() {
    int64_t tiles = 0;
    for (int32_t place = 0; place < rows_.places(); ++place) {
      tiles += tiles_of(rows_.keys(place));
    }
    const int64_t from = tiles * place_.y / call_.splits, to = tiles * (place_.y + 1) / call_.splits;
    int64_t origin = 0;
    int32_t turned = -1;
    for (int32_t place = 0; place < rows_.places() && origin < to; ++place) {
      const ChunkKeys keys = rows_.keys(place);
      const int32_t first = static_cast<int32_t>(larger<int64_t>(0, from - origin));
      const int32_t end = static_cast<int32_t>(smaller<int64_t>(tiles_of(keys), to - origin));
      if (first < end && turned != static_cast<int32_t>(keys.turn)) {
        turned = static_cast<int32_t>(keys.turn);
        load_rows(keys.turn);
      }
      // unrolled, D 96 would take more registers than gfx90a has for two waves
#pragma unroll 1
      for (int32_t tile = first; tile < end; ++tile) {
        attend(keys, tile * tile_keys);
      }
      origin += tiles_of(keys);
    }
    if (call_.splits == 1) {
      put();
    } else {
      put_partial();
    }
  }

 private:
  static PCBENCH_DEVICE int64_t tiles_of(const ChunkKeys& keys) { return (keys.count + tile_keys - 1) / tile_keys; }

  // Keys that each row sees, were none left out.
  static PCBENCH_DEVICE Shared<int32_t> seen() { return shared<int32_t>(Tile::shared_bytes); }

  PCBENCH_DEVICE int32_t call_row(int row) const { return (rows_.first + row) / group_; }

  // The rows as keys of a kind ask for them, times their gains. Nobody reads the rows before: their scores are taken.
  PCBENCH_DEVICE void load_rows(Turn turn) const {
    const int half = turn == Turn::own ? 0 : static_cast<int>(p_.turning / 2);
    Shared<float> rows = shared<float>(0);
    // unrolled, what it computes would be kept in registers from one time to the next
#pragma unroll 1
    for (int n = thread_index(); n < Tile::rows * (D / 2); n += tile_threads) {
      const int row = n / (D / 2), pair = n % (D / 2);
      const bool turns = pair < half, apart = turns && !p_.interleaved;
      const int first = apart ? pair : 2 * pair, second = first + (apart ? half : 1);
      float x = 0.0f, y = 0.0f;
      if (row < rows_.count) {
        const int32_t r = call_row(row);
        const int64_t head = h_ * group_ + (rows_.first + row) % group_;
        const int64_t at = b_ * p_.q.strides[0] + head * p_.q.strides[1] + r * p_.q.strides[2];
        const float* gains = static_cast<const float*>(p_.gains.data);
        const float gain = gains ? load(gains + b_ * p_.gains.strides[0] + r) : 1.0f;
        x = element(p_.q.data, p_.keys.dtype, at + first) * gain;
        y = element(p_.q.data, p_.keys.dtype, at + second) * gain;
        if (turns) {
          const float* by =
              static_cast<const float*>(p_.turns.data) + rows_.turned_by(r, turn) * p_.turns.strides[0] + pair;
          const float cosine = load(by), sine = load(by + half), before = x;
          x = before * cosine - y * sine;
          y = y * cosine + before * sine;
        }
      }
      rows[row * Tile::stride + first] = x;
      rows[row * Tile::stride + second] = y;
    }
    barrier();
  }

  // Takes in the tile of keys `offset` behind the first of `keys`.
  PCBENCH_DEVICE void attend(const ChunkKeys& keys, int32_t offset) {
    const int32_t from = keys.first + offset, end = keys.end();
    int limits[R];
    uint32_t hidden[R];
    for (int r = 0; r < R; ++r) {
      limits[r] = smaller(seen()[Tile::row_of(r)], end) - from;
      hidden[r] = 0;
    }
    const auto offset_of = [&](int key, const Floats& rows) {
      return from + key < end ? (rows_.start + from + key) * rows.strides[0] : int64_t{-1};
    };
    const Floats &k = p_.keys.k_rows, &v = p_.keys.v_rows;
    float s[R][4];
    Tile::score(s, k.data, p_.keys.dtype, [&](int key) { return offset_of(key, k); }, p_.scale, limits, hidden);
    tile_.add(s, v.data, p_.keys.dtype, [&](int key) { return offset_of(key, v); });
  }

  // By way of shared memory, where the rows have been read: their elements are in too many registers to be converted
  // there.
  PCBENCH_DEVICE void put() {
    Shared<float> rows = shared<float>(0);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float sum = group_sum(tile_.sum[r], tile_key_threads), share = sum == 0.0f ? 0.0f : 1.0f / sum;
      const int row = Tile::row_of(r);
      for (int d = 0; d < D / 8; ++d) {
        rows[row * Tile::stride + tile_column(d)] = tile_.out[r][d] * share;
      }
      if (row < rows_.count && Tile::tx() == 0) {
        store(p_.lse + place_of(row), log_sum(tile_.peak[r], sum));
      }
    }
    barrier();
    for (int n = thread_index(); n < rows_.count * D; n += tile_threads) {
      put_element(p_.out, p_.keys.dtype, place_of(n / D) * D + n % D, rows[n / D * Tile::stride + n % D]);
    }
  }

  // Where a row is in lse.
  PCBENCH_DEVICE int64_t place_of(int row) const {
    const int64_t head = h_ * group_ + (rows_.first + row) % group_;
    return (b_ * p_.heads + head) * p_.rows + call_row(row);
  }

  PCBENCH_DEVICE void put_partial() {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float sum = group_sum(tile_.sum[r], tile_key_threads);
      const int row = Tile::row_of(r);
      if (row < rows_.count) {
        const int64_t at = place_.z * p_.rows * group_ + rows_.first + row;
        float* to = call_.partials + (at * call_.splits + place_.y) * (D + 2);
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

  const DualChunkCall& call_;
  const DualChunkAttention& p_;
  const int32_t group_;
  const Place place_;
  const int64_t b_, h_;
  const ChunkRows rows_;
  Tile tile_;
};

template <int D, int R>
PCBENCH_KERNEL(tile_threads, 2)
void dual_chunk_kernel(PCBENCH_PARAM DualChunkCall call) {
  DualChunkRows<D, R>(call).run();
}

}  // namespace pcbench::device::portable
