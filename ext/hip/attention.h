// calibrated_attention on the matrix cores of gfx90a and gfx942: out and lse, without the mass.
//
// A block of eight waves owns 256 rows of one (b, hkv), 32 a wave; rows are (position, head of the group), so a group's
// heads share their keys. One-dimensional grid of ⌈Q·G/256⌉ blocks a pair, in the order of `block_place`. Keys come in
// tiles of 64. Shared: two tiles of K and two of V, 512·D bytes. Shapes: CalibratedAttention of params.h.
// Scores, weights and sums are float32; weights are packed to 16 bits. Equals pcbench.reference.calibrated_attention.
// Two groups of waves, one wave of each on every SIMD, take turns: one multiplies while the other does its softmax.
#pragma once

#include "attention_rows.h"
#include "params.h"

namespace pcbench::device {

constexpr int attention_threads = 512;
constexpr int attention_rows = 256;
constexpr int attention_keys = 64;

constexpr int attention_shared_bytes(int dim) {
  return 4 * attention_keys * dim * 2;
}

// Rows [top, top + attention_rows) of a pair (b, hkv).
struct BlockPlace {
  int pair, top;
};

// All blocks of a pair go to one die; a section is as many pairs as keep their keys in its L2 (4 MiB); within a section
// the longest blocks come first.
PCBENCH_DEVICE BlockPlace block_place(const CalibratedAttention& p, int rows) {
  constexpr int64_t cache_bytes = 4 << 20;
  const int pairs = static_cast<int>(p.batch * p.kv_heads), spread = pairs % dies ? 1 : dies, own = pairs / spread;
  const int row_blocks = (rows + attention_rows - 1) / attention_rows;
  const int64_t fit = cache_bytes / (p.keys * p.dim * 4 + 1);
  const int section = fit < 1 ? 1 : fit < own ? static_cast<int>(fit) : own;
  const int index = block_index() / spread, first = index / (section * row_blocks) * section;
  const int width = own - first < section ? own - first : section, rest = index - first * row_blocks;
  return {(first + rest % width) * spread + block_index() % spread, (row_blocks - 1 - rest / width) * attention_rows};
}

// Keys and values of a pair on their way to shared memory.
//
// K: 16-byte pieces at [dim / 8][key ^ dim / 8 % 8]. V: the four keys 4·half + {0..3} and {8..11} of 16, as the matrix
// instruction takes them, at [key / 16][half][dim ^ dim / 8 % 2]. The exclusive ors spread lanes over the banks.
template <class T, int D>
class Stage {
 public:
  PCBENCH_DEVICE Stage(const CalibratedAttention& p, const T* k, const T* v, int keys)
      : k_(k),
        v_(v),
        k_stride_(static_cast<int>(p.k.strides[2])),
        v_stride_(static_cast<int>(p.v.strides[2])),
        keys_(keys) {}

  PCBENCH_DEVICE void load_k(int tile) {
    const Buffer from = rows_from(k_, k_stride_, tile);
    PCBENCH_UNROLL
    for (int n = 0; n < k_pieces; ++n) {
      const int x = thread_index() + n * attention_threads;
      if (all_k || x < 8 * D) {
        k_next_[n] = load16(from, x / (D / 8) * k_stride_ * 2 + x % (D / 8) * 16);
      }
    }
  }

  PCBENCH_DEVICE void load_v(int tile) {
    const Buffer from = rows_from(v_, v_stride_, tile);
    const int x = thread_index();
    if (all_v || x < 4 * D) {
      const int eight = x / (D / 2), key = eight / 2 * 16 + eight % 2 * 4;
      PCBENCH_UNROLL
      for (int i = 0; i < 8; ++i) {
        v_next_[i] = load4(from, (key + i / 4 * 8 + i % 4) * v_stride_ * 2 + x % (D / 2) * 4);
      }
    }
  }

  PCBENCH_DEVICE void store_k(int tile) const {
    PCBENCH_UNROLL
    for (int n = 0; n < k_pieces; ++n) {
      const int x = thread_index() + n * attention_threads;
      if (all_k || x < 8 * D) {
        const int piece = x % (D / 8), key = x / (D / 8);
        store16(k_tile(tile) + (piece * attention_keys + (key ^ piece % 8)), k_next_[n]);
      }
    }
  }

  PCBENCH_DEVICE void store_v(int tile) const {
    const int x = thread_index();
    if (all_v || x < 4 * D) {
      Pack16 low, high;
      PCBENCH_UNROLL
      for (int i = 0; i < 4; ++i) {
        low.words[i] = low_halves(v_next_[2 * i], v_next_[2 * i + 1]);
        high.words[i] = high_halves(v_next_[2 * i], v_next_[2 * i + 1]);
      }
      const int dim = x % (D / 2) * 2, even = dim ^ dim / 8 % 2;
      store16(v_tile(tile) + (x / (D / 2) * D + even), low);
      store16(v_tile(tile) + (x / (D / 2) * D + (even ^ 1)), high);
    }
  }

  PCBENCH_DEVICE static Shared<Pack16> k_tile(int tile) { return shared<Pack16>(tile % 2 * tile_bytes); }
  PCBENCH_DEVICE static Shared<Pack16> v_tile(int tile) { return shared<Pack16>((2 + tile % 2) * tile_bytes); }

 private:
  static constexpr int tile_bytes = attention_keys * D * 2;
  static constexpr int k_pieces = (8 * D + attention_threads - 1) / attention_threads;
  // whether every thread has something to bring
  static constexpr bool all_k = 8 * D % attention_threads == 0, all_v = 4 * D % attention_threads == 0;

  // Rows of a tile; those from keys_ on read as zeros.
  PCBENCH_DEVICE Buffer rows_from(const T* rows, int stride, int tile) const {
    const int first = tile * attention_keys, left = keys_ - first;
    const int count = left < attention_keys ? left : attention_keys;
    return buffer(rows + static_cast<int64_t>(first) * stride, count > 0 ? ((count - 1) * stride + D) * 2 : 0);
  }

  const T* k_;
  const T* v_;
  int k_stride_, v_stride_, keys_;
  Pack16 k_next_[k_pieces];
  uint32_t v_next_[8];
};

template <class T, int D>
class AttentionWave {
 public:
  PCBENCH_DEVICE explicit AttentionWave(const CalibratedAttention& p)
      : p_(p), group_(static_cast<int>(p.heads / p.kv_heads)), packed_rows_(static_cast<int>(p.rows) * group_) {
    const BlockPlace place = block_place(p, packed_rows_);
    batch_ = place.pair / static_cast<int>(p.kv_heads);
    kv_head_ = place.pair % static_cast<int>(p.kv_heads);
    top_ = place.top;
    queries_ = length(p.query_lengths, batch_ * p.query_lengths.strides[0], p.rows);
    keys_ = length(p.key_lengths, batch_ * p.key_lengths.strides[0] + kv_head_ * p.key_lengths.strides[1], p.keys);
    first_ = top_ + uniform(warp()) * 32;
    const int row = first_ + lane() % 32 < packed_rows_ ? first_ + lane() % 32 : packed_rows_ - 1;
    position_ = row / group_;
    head_ = kv_head_ * group_ + row % group_;
    limit_ = limit_of(position_);
    least_ = first_ + 31 < packed_rows_ ? most_of(first_, first_) : 0;
    least_ = (first_ + 31) / group_ < queries_ ? least_ : 0;
    PCBENCH_UNROLL
    for (int n = 0; n < 4; ++n) {
      const int piece = 2 * n + lane() / 32;
      k_lane_[n] = lane() / 32 * attention_keys + (lane() % 32 ^ piece);
    }
    v_lane_ = lane() / 32 * D + (lane() % 32 ^ lane() % 32 / 8 % 2);
    evicted_place_ =
        batch_ * p.evicted.strides[0] + (p.evicted_heads == p.heads ? head_ : kv_head_) * p.evicted.strides[1];
  }

  PCBENCH_DEVICE void run() {
    rows_.clear();
    rows_.load_q(static_cast<const T*>(p_.q.data) + offset(p_.q, head_) + position_ * p_.q.strides[2]);
    if (p_.out_in.data) {
      const int64_t place = batch_ * p_.lse_in.strides[0] + head_ * p_.lse_in.strides[1];
      rows_.resume(
          static_cast<const float*>(p_.out_in.data) + offset(p_.out_in, head_) + position_ * p_.out_in.strides[2],
          load(static_cast<const float*>(p_.lse_in.data) + place + position_));
    }
    attend();
    const float lse = rows_.finish();
    const bool present = first_ + lane() % 32 < packed_rows_;
    if (present && lane() < 32) {
      store(p_.lse + out_row(first_ + lane()), lse);
    }
    if (p_.out_dtype != Float::f32) {
      store_rows();
    } else if (present) {
      rows_.store_row(static_cast<float*>(p_.out) + out_row(first_ + lane() % 32) * D);
    }
  }

 private:
  // Between two barriers one group multiplies tile j and the other does the softmax of its tile; a group stages its
  // part of K(j + 1) and V(j) while it does not multiply, for both groups in the same pair of phases.
  PCBENCH_DEVICE void attend() {
    const int seen = most_of(top_, top_ + attention_rows - 1), tiles = tiles_of(seen);
    const int mine = tiles_of(most_of(first_, first_ + 31)), group = uniform(warp()) / 4;
    Stage<T, D> stage(p_, static_cast<const T*>(p_.k.data) + offset(p_.k, kv_head_),
                      static_cast<const T*>(p_.v.data) + offset(p_.v, kv_head_), seen);
    stage.load_k(0);
    stage.store_k(0);
    load_evicted(0);
    stage.load_k(1);
    stage.load_v(0);
    phase_barrier();
    // K(j + 1) and V(j) arrive, the next two set out; `next` is the tile that this wave scores next
    auto advance = [&](int j, int next) {
      stage.store_k(j + 1);
      stage.store_v(j);
      load_evicted(next);
      stage.load_k(j + 2);
      stage.load_v(j + 1);
      phase_barrier();
    };
    if (group == 1) {
      advance(0, 0);
    }
    int j = 0;
    if (mine > 0) {
      score(0);
      phase_barrier();
      soften(0);
      advance(group, 1);
      for (j = 1; j < mine; ++j) {
        priority<1>();
        score(j);
        add_values(j - 1);
        read_ahead();
        priority<0>();
        phase_barrier();
        soften(j);
        advance(j + group, j + 1);
      }
      add_values(mine - 1);
    }
    for (; j < tiles; ++j) {
      phase_barrier();
      advance(j + group, j);
    }
    if (group == 0) {
      phase_barrier();
    }
  }

  PCBENCH_DEVICE void score(int tile) {
    PCBENCH_UNROLL
    for (int half = 0; half < 2; ++half) {
      PCBENCH_UNROLL
      for (int r = 0; r < 16; ++r) {
        scores_[half][r] = 0.f;
      }
    }
    const Shared<Pack16> k = Stage<T, D>::k_tile(tile);
    PCBENCH_UNROLL
    for (int t = 0; t < D / 16; ++t) {
      PCBENCH_UNROLL
      for (int half = 0; half < 2; ++half) {
        const Pack16 piece = load16(k + k_lane_[t % 4] + (2 * t * attention_keys + 32 * half));
        multiply_32x32x8<T>(scores_[half], first_half(piece), rows_.q[2 * t]);
        multiply_32x32x8<T>(scores_[half], second_half(piece), rows_.q[2 * t + 1]);
      }
    }
  }

  PCBENCH_DEVICE void add_values(int tile) {
    const Shared<Pack16> v = Stage<T, D>::v_tile(tile);
    PCBENCH_UNROLL
    for (int g = 0; g < 4; ++g) {
      PCBENCH_UNROLL
      for (int x = 0; x < D / 32; ++x) {
        const Pack16 piece = load16(v + v_lane_ + (2 * g * D + 32 * x));
        multiply_32x32x8<T>(rows_.out[x], first_half(piece), weights_[2 * g]);
        multiply_32x32x8<T>(rows_.out[x], second_half(piece), weights_[2 * g + 1]);
      }
    }
  }

  // Reads run ahead of the multiplications by their latency.
  PCBENCH_DEVICE static void read_ahead() {
    constexpr int reads = D / 4, ahead = 6;
    schedule<ahead, 2>();
    PCBENCH_UNROLL
    for (int n = ahead; n < reads; ++n) {
      schedule<1, 2>();
    }
    schedule<0, 2 * (ahead - 1)>();
  }

  PCBENCH_DEVICE void soften(int tile) {
    const int first = tile * attention_keys;
    if (first + attention_keys > least_ || (p_.evicted.data && any((words_[0] | words_[1]) != 0))) {
      PCBENCH_UNROLL
      for (int half = 0; half < 2; ++half) {
        hide(scores_[half], keys_below(limit_ - first - 32 * half) & ~words_[half]);
      }
    }
    rows_.weigh(scores_, p_.scale * log2_e, weights_);
  }

  // Eviction bits of a tile; beyond the last word there are no keys.
  PCBENCH_DEVICE void load_evicted(int tile) {
    PCBENCH_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int word = 2 * tile + half, words = static_cast<int>(p_.words);
      words_[half] = 0;
      if (p_.evicted.data && word < words) {
        words_[half] = static_cast<uint32_t>(load(p_.evicted.data + evicted_place_ + word));
      }
    }
  }

  // By way of shared memory, so that lanes write whole rows.
  PCBENCH_DEVICE void store_rows() const {
    const int at = uniform(warp()) * 32 * D * 2;
    // the keys are read
    barrier();
    rows_.put_rows(shared<Pack8>(at));
    warp_barrier();
    PCBENCH_UNROLL
    for (int n = 0; n < D / 16; ++n) {
      const int row = (lane() + n * warp_width) / (D / 8), piece = (lane() + n * warp_width) % (D / 8);
      if (first_ + row < packed_rows_) {
        store16(static_cast<T*>(p_.out) + out_row(first_ + row) * D + piece * 8,
                load16(shared<Pack16>(at) + (32 * piece + (row ^ piece % 8))));
      }
    }
  }

  // Where a packed row lies in out and lse.
  PCBENCH_DEVICE int64_t out_row(int row) const {
    return (batch_ * p_.heads + kv_head_ * group_ + row % group_) * p_.rows + row / group_;
  }

  PCBENCH_DEVICE static int length(const Ints& lengths, int64_t place, int64_t most) {
    const int x = lengths.data ? uniform(load(lengths.data + place)) : static_cast<int>(most);
    return x < 0 ? 0 : x < most ? x : static_cast<int>(most);
  }

  PCBENCH_DEVICE int64_t offset(const Floats& x, int head) const { return batch_ * x.strides[0] + head * x.strides[1]; }

  // Keys that a position sees, eviction aside.
  PCBENCH_DEVICE int limit_of(int position) const {
    const int seen = p_.causal ? position + 1 + keys_ - queries_ : keys_;
    return position >= queries_ || seen < 0 ? 0 : seen < keys_ ? seen : keys_;
  }

  // The most that any of these rows sees.
  PCBENCH_DEVICE int most_of(int first, int last) const {
    last = (last < packed_rows_ ? last : packed_rows_ - 1) / group_;
    return first / group_ < queries_ ? limit_of(last < queries_ ? last : queries_ - 1) : 0;
  }

  PCBENCH_DEVICE static int tiles_of(int keys) { return (keys + attention_keys - 1) / attention_keys; }

  const CalibratedAttention& p_;
  const int group_, packed_rows_;
  int batch_, kv_head_, top_, queries_, keys_;
  // of the wave: its first row, the least keys that a row sees
  int first_, least_;
  // of the lane
  int position_, head_, limit_;
  int k_lane_[4], v_lane_;
  int64_t evicted_place_;
  uint32_t words_[2];
  Rows<T, D> rows_;
  Tile scores_[2];
  Operand weights_[8];
};

template <class T, int D>
PCBENCH_KERNEL(attention_threads, 1)
void calibrated_attention_mfma(PCBENCH_PARAM CalibratedAttention p) {
  AttentionWave<T, D>(p).run();
}

}  // namespace pcbench::device
