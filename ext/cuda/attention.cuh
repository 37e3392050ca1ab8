// calibrated_attention on tensor cores: out and lse. The mass is a pass of its own (ext/device).
//
// A block owns 128 rows of one (b, kv-head); rows are (position, head of the group), so that the group shares every key
// it reads and the causal diagonal covers 128 / G positions only: at 4096 keys and G 4 that saves 2 % of the arithmetic
// over one head a block. Eviction bits by query head: one head a block. Grid: row blocks of all pairs, those with the
// most keys first, as many pairs side by side as fit a section of L2.
// Tiles are taken from the last key backwards: those that a mask touches come first, in a loop of their own; of the
// others only tiles with evicted keys are masked. Shared memory: AttentionTile, 32 bytes, and 4 KB of eviction bits
// where there are any. Shapes: CalibratedAttention in params.h. float32 scores and sums. Equals out and lse of
// pcbench.reference.calibrated_attention.
// Online softmax after FlashAttention-2, arXiv:2307.08691.
#pragma once

#include "attention_launch.h"
#include "attention_store.cuh"
#include "device/launch.h"

namespace pcbench::device {

// Tiles whose eviction bits are in shared memory at a time.
constexpr int bits_tiles = 512, kept_bytes = 32;

// What a block works on.
template <class T>
struct CalibratedBlock {
  int32_t b, kv_head, head;  // head: the first of the block's
  int32_t row;               // the first, of the packed ones
  int32_t query_length, key_length;
  int64_t k_begin, v_begin;  // elements from the start of k and v
  const int32_t* bits;

  PCBENCH_DEVICE CalibratedBlock(const CalibratedLaunch& x, int32_t index) {
    const CalibratedAttention& p = x.p;
    const int32_t blocks = x.section * x.row_blocks, first = index / blocks * x.section;
    const int32_t within = index % blocks;
    const int32_t side_by_side = x.pairs - first < x.section ? x.pairs - first : x.section;
    const int32_t pair = first + within % side_by_side;
    row = (x.row_blocks - 1 - within / side_by_side) * tile_rows;
    b = pair / x.head_blocks;
    head = pair % x.head_blocks * x.pack;
    kv_head = head / static_cast<int32_t>(p.heads / p.kv_heads);
    query_length = static_cast<int32_t>(p.rows);
    key_length = static_cast<int32_t>(p.keys);
    if (p.query_lengths.data) {
      query_length = clamp(load(p.query_lengths.data + b * p.query_lengths.strides[0]), query_length);
    }
    if (p.key_lengths.data) {
      const Ints& lengths = p.key_lengths;
      key_length = clamp(load(lengths.data + b * lengths.strides[0] + kv_head * lengths.strides[1]), key_length);
    }
    k_begin = b * p.k.strides[0] + kv_head * p.k.strides[1];
    v_begin = b * p.v.strides[0] + kv_head * p.v.strides[1];
    bits = p.evicted.data + b * p.evicted.strides[0] +
           (p.evicted_heads == p.heads ? head : kv_head) * p.evicted.strides[1];
  }

  PCBENCH_DEVICE static int32_t clamp(int32_t x, int32_t most) { return x < 0 ? 0 : x < most ? x : most; }

  // Keys that a position sees, eviction aside.
  PCBENCH_DEVICE int32_t limit(bool causal, int32_t position) const {
    return causal ? clamp(position + 1 + key_length - query_length, key_length) : key_length;
  }

  PCBENCH_DEVICE uint32_t word(int64_t words, int32_t i) const {
    return i < words ? static_cast<uint32_t>(load(bits + i)) : 0u;
  }
};

// out and lse of the block's rows, together with the incoming state where there is one.
template <class T, int D, bool Evicted>
struct CalibratedResult {
  using Tile = AttentionTile<T, D, Evicted>;
  const CalibratedLaunch& x;
  const CalibratedBlock<T>& block;
  const PackedRows& packed;

  // Row `at` of the block as a row of [B, H, Q].
  PCBENCH_DEVICE int64_t place(int at) const {
    const int32_t head = block.head + packed.member_of(at);
    return (block.b * x.p.heads + head) * x.p.rows + packed.position_of(at);
  }
  // The same in a tensor with strides.
  PCBENCH_DEVICE int64_t place(const Floats& t, int at, int64_t row) const {
    const int32_t head = block.head + packed.member_of(at);
    return block.b * t.strides[0] + head * t.strides[1] + packed.position_of(at) * row;
  }
  PCBENCH_DEVICE bool exists(int at) const { return packed.position_of(at) < x.p.rows; }

  // Rows beyond the query length have seen nothing, whatever they computed.
  PCBENCH_DEVICE void forget(Tile& tile) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      if (packed.position_of(tile.row_of(r)) >= block.query_length) {
        tile.shift[r] = -infinity;
        tile.sum[r] = 0.0f;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          tile.out[r / 2][n][r % 2 * 2] = tile.out[r / 2][n][r % 2 * 2 + 1] = 0.0f;
        }
      }
    }
  }

  PCBENCH_DEVICE void store_lse(int at, float shift, float sum) const {
    if (lane() % 4 == 0) {
      store(x.p.lse + place(at), lse_of(shift, sum));
    }
  }

  // The incoming state takes part as one more key of weight 2^(lse − shift) and value out_in; out is float32.
  PCBENCH_DEVICE void merge(const Tile& tile) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int at = tile.row_of(r);
      if (!exists(at)) {
        continue;
      }
      const float before = load(static_cast<const float*>(x.p.lse_in.data) + place(x.p.lse_in, at, 1)) * log2_e;
      const float top = fmaxf(before, tile.shift[r]), base = top == -infinity ? 0.0f : top;
      const float mine = exp2(tile.shift[r] - base), its = exp2(before - base), sum = tile.sum[r] * mine + its;
      const float share = sum == 0.0f ? 0.0f : 1.0f / sum;
      const float* from = static_cast<const float*>(x.p.out_in.data) + place(x.p.out_in, at, x.p.out_in.strides[2]);
      float* to = static_cast<float*>(x.p.out) + place(at) * D;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int d = n * 8 + lane() % 4 * 2 + e;
          const float old = its == 0.0f ? 0.0f : load(from + d) * its;
          store(to + d, (tile.out[r / 2][n][r % 2 * 2 + e] * mine + old) * share);
        }
      }
      store_lse(at, top, sum);
    }
  }

  PCBENCH_DEVICE void put(const Tile& tile) const {
    store_rows(tile, static_cast<T*>(x.p.out), x.p.lse, [&](int at) { return exists(at) ? place(at) : int64_t{-1}; });
  }
};

template <class T, int D, bool Evicted>
PCBENCH_KERNEL(tile_threads, 2)
void calibrated_tiles(PCBENCH_PARAM CalibratedLaunch x) {
  const CalibratedAttention& p = x.p;
  const CalibratedBlock<T> block(x, block_index());
  const PackedRows packed(x.pack, block.row);
  const int32_t last_row = packed.position_of(tile_rows - 1);
  const int32_t last = (last_row < block.query_length ? last_row + 1 : block.query_length) - 1;
  // tiles that some row sees, and those that all rows see whole
  const int32_t tiles =
      packed.position < block.query_length ? (block.limit(p.causal, last) + tile_keys - 1) / tile_keys : 0;
  const int32_t whole = block.limit(p.causal, packed.position) / tile_keys;
  const int32_t k_stride = static_cast<int32_t>(p.k.strides[2]), v_stride = static_cast<int32_t>(p.v.strides[2]);

  AttentionTile<T, D, Evicted> tile;
  // with eviction bits there are no registers left for what a step asks of the pair
  Shared<int64_t> kept = shared<int64_t>(tile.shared_bytes);
  auto k_of = [&](int32_t j) {
    const int64_t begin = Evicted ? kept[0] : block.k_begin;
    return static_cast<const T*>(p.k.data) + begin + int64_t{j * tile_keys} * k_stride;
  };
  auto v_of = [&](int32_t j) {
    const int64_t begin = Evicted ? kept[1] : block.v_begin;
    return static_cast<const T*>(p.v.data) + begin + int64_t{j * tile_keys} * v_stride;
  };
  tile.reset();
  if (tiles > 0) {
    if constexpr (Evicted) {
      if (thread_index() == 0) {
        kept[0] = block.k_begin;
        kept[1] = block.v_begin;
        kept[2] = block.key_length;
        kept[3] = whole;
      }
      barrier();
    }
    const T* q = static_cast<const T*>(p.q.data) + block.b * p.q.strides[0] + block.head * p.q.strides[1];
    tile.load_rows(q, p.q, packed, static_cast<int>(p.rows));
    tile.load_keys(tile.k_tile, k_of(tiles - 1), k_stride, block.key_length - (tiles - 1) * tile_keys);
    cp_async_commit();
    tile.notes[thread_index()] = block.limit(p.causal, packed.position_of(thread_index()));
    cp_async_wait<0>();
    barrier();
    tile.keep_rows();
  }

  int32_t j = tiles - 1;
  Shared<uint32_t> words = shared<uint32_t>(tile.shared_bytes + kept_bytes);
  auto step = [&](bool masked, uint32_t low, uint32_t high) {
    auto visible = [&](int r) { return Visible{tile.notes[tile.row_of(r)] - j * tile_keys, {low, high}}; };
    const int32_t key_length = Evicted ? static_cast<int32_t>(kept[2]) : block.key_length;
    const int32_t keys = masked ? key_length - j * tile_keys : tile_keys;
    const int32_t next_keys = j ? tile_keys : 0;
    tile.step(v_of(j), v_stride, keys, k_of(j - 1), k_stride, next_keys, masked, visible, x.scale);
  };
  if constexpr (Evicted) {
    for (int32_t end = tiles, first; end > 0; end = first) {
      first = (end - 1) & -bits_tiles;
      barrier();
      for (int i = thread_index(); i < (end - first) * 2; i += tile_threads) {
        words[i] = block.word(p.words, first * 2 + i);
      }
      barrier();
      for (j = end - 1; j >= first; --j) {
        const uint32_t low = words[(j - first) * 2], high = words[(j - first) * 2 + 1];
        step(j >= static_cast<int32_t>(kept[3]) || (low | high), low, high);
      }
    }
  } else {
    for (; j >= whole; --j) {
      step(true, 0, 0);
    }
    for (; j >= 0; --j) {
      step(false, 0, 0);
    }
  }

  tile.join_sums();
  // read again rather than kept through the loop
  const CalibratedBlock<T> place(x, Evicted ? afresh(block_index()) : block_index());
  const PackedRows rows(x.pack, place.row);
  const CalibratedResult<T, D, Evicted> result{x, place, rows};
  if (rows.position_of(tile_rows - 1) >= place.query_length) {
    result.forget(tile);
  }
  if (p.out_in.data) {
    result.merge(tile);
  } else {
    result.put(tile);
  }
}

template <class T, int D>
void launch_calibrated(const CalibratedLaunch& x, Stream stream) {
  const int64_t blocks = int64_t{x.pairs} * x.row_blocks;
  constexpr int bytes = AttentionTile<T, D, false>::shared_bytes + kept_bytes;
  if (x.p.evicted.data) {
    launch(calibrated_tiles<T, D, true>, blocks, tile_threads, bytes + bits_tiles * 8, stream, x);
  } else {
    launch(calibrated_tiles<T, D, false>, blocks, tile_threads, bytes, stream, x);
  }
}

}  // namespace pcbench::device
