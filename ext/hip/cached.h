// cached_attention and decode_attention on the matrix cores of gfx90a and gfx942.
//
// A wave owns 32 rows of one (b, hkv), rows being (position, head of the group), and one part of their keys; the up to
// four waves of a block have the same keys, which they find in the cache of their compute unit. The listed segments are
// laid end to end in tiles of 32 keys, and a part is an even share of the tiles, found on the device. Grid: row blocks
// × B·Hkv × parts. A wave leaves a normalised output and its log-sum-exp; cached_merge adds
// the parts of a row in a fixed order, by way of 3 KiB of shared memory. Scratch: 4·(D + 1) bytes a row and part.
// Shapes: CachedAttention of params.h. Scores, weights and sums are float32; weights are packed to 16 bits. Equal the
// functions of pcbench.reference of their names. Split keys after FlashDecoding.
#pragma once

#include "attention_rows.h"
#include "device/launch.h"
#include "device/warps.h"

namespace pcbench::device {

constexpr int cached_keys = 32;
constexpr int cached_wave_rows = 32;
constexpr int cached_most_waves = 4;
constexpr int cached_merge_waves = 4;
constexpr int cached_merge_threads = 64 * cached_merge_waves;
constexpr int cached_merge_shared_bytes = 3 * 4 * cached_merge_threads;

struct CachedParts {
  CachedAttention p;
  int64_t parts;
  float* outs;  // [parts, B, H, Q, D]
  float* lses;  // [parts, B, H, Q]
};

// A listed segment and its tiles [first, end) among those of all listed ones; the same on all lanes.
struct Segment {
  int slot, start, v_start, length, first, end;
  bool causal;
};

// The segments that the rows of one (b, hkv) read, 64 at a time: lane p holds the one at place group_ + p.
class Segments {
 public:
  PCBENCH_DEVICE Segments(const KeyRows& keys, int b, int h) : keys_(keys), b_(b), h_(h) {
    for (int group = 0; group < keys.listed; group += warp_width) {
      read(group, tiles_);
      const uint64_t used = ballot(slot_ >= 0);
      last_ = keys.causal_last && used ? group + 63 - __builtin_clzll(used) : last_;
      tiles_ = of(end_, warp_width - 1);
    }
  }

  PCBENCH_DEVICE int tiles() const { return tiles_; }

  // The segment of a tile.
  PCBENCH_DEVICE Segment at(int tile) {
    if (tile < before_) {
      read(0, 0);
    }
    while (of(end_, warp_width - 1) <= tile) {
      read(group_ + warp_width, of(end_, warp_width - 1));
    }
    const int place = __builtin_ctzll(ballot(end_ > tile));
    Segment x{of(slot_, place), of(start_, place), 0, of(length_, place), 0, of(end_, place), group_ + place == last_};
    x.v_start = v_start_of(x.slot, x.start);
    x.first = x.end - (x.length + cached_keys - 1) / cached_keys;
    return x;
  }

 private:
  PCBENCH_DEVICE static int of(int x, int place) { return uniform(shuffle(x, place)); }

  PCBENCH_DEVICE int v_start_of(int slot, int start) const {
    return keys_.v_starts.data ? entry(keys_.v_starts, slot, h_) : start;
  }

  // `before`: tiles of the groups before.
  PCBENCH_DEVICE void read(int group, int before) {
    group_ = group;
    before_ = before;
    slot_ = group + lane() >= keys_.listed ? -1 : keys_.slots.data ? entry(keys_.slots, b_, group + lane()) : b_;
    int v_start = start_ = length_ = 0;
    if (slot_ >= 0 && slot_ < keys_.slots_in_store) {
      start_ = entry(keys_.starts, slot_, h_);
      length_ = entry(keys_.lengths, slot_, h_);
      v_start = v_start_of(slot_, start_);
    }
    // whatever does not lie within the stored rows is empty
    const bool inside = smaller(length_, smaller(start_, v_start)) >= 0 &&
                        int64_t{start_} + length_ <= keys_.stored_rows &&
                        int64_t{v_start} + length_ <= keys_.value_rows;
    length_ = inside ? length_ : 0;
    end_ = (length_ + cached_keys - 1) / cached_keys;
    for (int by = 1; by < warp_width; by *= 2) {
      const int below = shuffle_up(end_, by);
      end_ += lane() >= by ? below : 0;
    }
    end_ += before;
  }

  const KeyRows& keys_;
  const int b_, h_;
  int group_ = 0, before_ = 0, tiles_ = 0, last_ = -1;
  // of the lane's place; end_ counts the tiles of those before it too
  int slot_ = -1, start_ = 0, length_ = 0, end_ = 0;
};

// Keys or values of a tile, as registers of a lane.
template <class T, int D>
struct CachedTile {
  static constexpr int pairs = (D + 63) / 64;

  // Pieces of a row of K; words of V by (8 keys, key, 64 dims): dims 64·u + 2·(lane%32) + {0, 1}.
  Pack16 k[D / 16];
  uint32_t v[4][4][pairs];

  // Rows of a tile; those that are not wanted or not there read as zeros.
  PCBENCH_DEVICE static Buffer rows_from(const Floats& rows, int start, const Segment& x, int tile,
                                         bool wanted = true) {
    const int key = (tile - x.first) * cached_keys, count = wanted ? smaller(x.length - key, cached_keys) : 0;
    return buffer(static_cast<const T*>(rows.data) + (int64_t{start} + key) * rows.strides[0],
                  count > 0 ? ((count - 1) * static_cast<int>(rows.strides[0]) + D) * 2 : 0);
  }

  PCBENCH_DEVICE void load_k(const Floats& rows, const Segment& x, int tile, bool wanted = true) {
    const Buffer from = rows_from(rows, x.start, x, tile, wanted);
    const int place = lane() % 32 * static_cast<int>(rows.strides[0]) * 2 + lane() / 32 * 16;
    PCBENCH_UNROLL
    for (int t = 0; t < D / 16; ++t) {
      k[t] = load16(from, place + 32 * t);
    }
  }

  PCBENCH_DEVICE void load_v(const Floats& rows, const Segment& x, int tile) {
    const Buffer from = rows_from(rows, x.v_start, x, tile);
    const int stride = static_cast<int>(rows.strides[0]) * 2;
    PCBENCH_UNROLL
    for (int u = 0; u < pairs; ++u) {
      // with D 96 half the lanes have no dims here: what they bring is not stored
      const int dim = smaller(64 * u + lane() % 32 * 2, D - 2);
      PCBENCH_UNROLL
      for (int g = 0; g < 4; ++g) {
        PCBENCH_UNROLL
        for (int i = 0; i < 4; ++i) {
          v[g][i][u] = load4(from, (8 * g + lane() / 32 * 4 + i) * stride + dim * 2);
        }
      }
    }
  }
};

// `Keeps`: the scores of every key stay in memory.
template <class T, int D, bool Keeps>
class CachedWave {
 public:
  PCBENCH_DEVICE explicit CachedWave(const CachedParts& x)
      : x_(x),
        p_(x.p),
        group_(static_cast<int>(x.p.heads / x.p.keys.kv_heads)),
        packed_rows_(static_cast<int>(x.p.rows) * group_) {
    const int block_rows = block_threads() / warp_width * cached_wave_rows;
    const Place place = place_in(ceil_div(packed_rows_, block_rows), p_.keys.batch * p_.keys.kv_heads);
    batch_ = place.y / static_cast<int>(p_.keys.kv_heads);
    kv_head_ = place.y % static_cast<int>(p_.keys.kv_heads);
    part_ = place.z;
    first_ = place.x * block_rows + uniform(warp()) * cached_wave_rows;
    const int row = first_ + lane() % cached_wave_rows;
    present_ = row < packed_rows_;
    position_ = (present_ ? row : packed_rows_ - 1) / group_;
    head_ = kv_head_ * group_ + (present_ ? row : packed_rows_ - 1) % group_;
  }

  PCBENCH_DEVICE void run() {
    if (first_ >= packed_rows_) {
      return;
    }
    rows_.clear();
    rows_.load_q(static_cast<const T*>(p_.q.data) + batch_ * p_.q.strides[0] + head_ * p_.q.strides[1] +
                 position_ * p_.q.strides[2]);
    Segments segments(p_.keys, batch_, kv_head_);
    const int64_t tiles = segments.tiles();
    const int from = static_cast<int>(tiles * part_ / x_.parts), to = static_cast<int>(tiles * (part_ + 1) / x_.parts);
    if (from < to) {
      attend(segments, from, to);
    }
    const float lse = rows_.finish();
    if (present_) {
      const int64_t place = ((part_ * p_.keys.batch + batch_) * p_.heads + head_) * p_.rows + position_;
      if (lane() < 32) {
        store(x_.lses + place, lse);
      }
      store_out(x_.outs + place * D);
    }
  }

 private:
  static constexpr int pairs = CachedTile<T, D>::pairs;

  // The loads of V go out before the scores and those of the next K after them: each is under way for half a round.
  PCBENCH_DEVICE void attend(Segments& segments, int from, int to) {
    CachedTile<T, D> tile;
    Segment now = segments.at(from), next = now;
    uint32_t evicted = evicted_word(now, from);
    tile.load_k(p_.keys.k_rows, now, from);
    for (int j = from; j < to; ++j) {
      if (j + 1 < to && j + 1 == now.end) {
        next = segments.at(j + 1);
      }
      const uint32_t evicted_next = evicted_word(next, j + 1);
      tile.load_v(p_.keys.v_rows, now, j);
      keep_order();
      Tile scores[1];
      score(tile, scores[0]);
      made_first(scores[0]);
      if constexpr (Keeps) {
        keep(scores[0], j);
      }
      tile.load_k(p_.keys.k_rows, next, j + 1, j + 1 < to);
      const uint32_t visible = keys_below(limit(now) - (j - now.first) * cached_keys) & ~evicted;
      if (any(visible != ~0u)) {
        hide(scores[0], visible);
      }
      Operand weights[4];
      rows_.weigh(scores, p_.scale * log2_e, weights);
      add_values(tile, weights);
      now = next;
      evicted = evicted_next;
    }
  }

  PCBENCH_DEVICE void score(const CachedTile<T, D>& tile, Tile& scores) const {
    PCBENCH_UNROLL
    for (int r = 0; r < 16; ++r) {
      scores[r] = 0.f;
    }
    PCBENCH_UNROLL
    for (int t = 0; t < D / 16; ++t) {
      multiply_32x32x8<T>(scores, first_half(tile.k[t]), rows_.q[2 * t]);
      multiply_32x32x8<T>(scores, second_half(tile.k[t]), rows_.q[2 * t + 1]);
    }
  }

  // There is one segment and one position: rows are heads. The registers of the tile's K are free by now.
  PCBENCH_DEVICE void keep(const Tile& scores, int tile) const {
    if (present_ && tile * cached_keys < p_.longest) {
      const int64_t row = p_.score_row, group = int64_t{batch_} * p_.keys.kv_heads + kv_head_;
      float* first = p_.scores + group * group_ * row + tile * cached_keys;
      const uint32_t at =
          static_cast<uint32_t>(head_ - kv_head_ * group_) * static_cast<uint32_t>(row) + lane() / 32 * 4;
      PCBENCH_UNROLL
      for (int r = 0; r < 16; r += 4) {
        store16(first + at + 2 * r, {bits_of(scores[r] * p_.scale), bits_of(scores[r + 1] * p_.scale),
                                     bits_of(scores[r + 2] * p_.scale), bits_of(scores[r + 3] * p_.scale)});
      }
    }
  }

  // Keys of a segment that this lane's row sees, eviction aside.
  PCBENCH_DEVICE int limit(const Segment& x) const {
    return x.causal ? smaller(x.length, position_ + 1 + x.length - static_cast<int>(p_.rows)) : x.length;
  }

  PCBENCH_DEVICE uint32_t evicted_word(const Segment& x, int tile) const {
    const int word = tile - x.first;
    if (Keeps || !p_.evicted.data || word >= p_.words) {
      return 0;
    }
    const int64_t head = p_.evicted_heads == p_.heads ? head_ : kv_head_;
    return static_cast<uint32_t>(
        load(p_.evicted.data + x.slot * p_.evicted.strides[0] + head * p_.evicted.strides[1] + word));
  }

  // Even dims of 64 make one operand and odd dims another: V needs no transposition.
  PCBENCH_DEVICE void add_values(const CachedTile<T, D>& tile, const Operand (&weights)[4]) {
    PCBENCH_UNROLL
    for (int u = 0; u < pairs; ++u) {
      PCBENCH_UNROLL
      for (int g = 0; g < 4; ++g) {
        const auto& v = tile.v[g];
        multiply_32x32x8<T>(rows_.out[2 * u], {low_halves(v[0][u], v[1][u]), low_halves(v[2][u], v[3][u])}, weights[g]);
        multiply_32x32x8<T>(rows_.out[2 * u + 1], {high_halves(v[0][u], v[1][u]), high_halves(v[2][u], v[3][u])},
                            weights[g]);
      }
    }
  }

  PCBENCH_DEVICE void store_out(float* row) const {
    PCBENCH_UNROLL
    for (int u = 0; u < pairs; ++u) {
      PCBENCH_UNROLL
      for (int r = 0; r < 16; r += 2) {
        const int dim = 64 * u + 2 * (r / 4 * 8 + lane() / 32 * 4 + r % 4);
        const Tile &even = rows_.out[2 * u], &odd = rows_.out[2 * u + 1];
        if (dim < D) {
          store16(row + dim, {bits_of(even[r]), bits_of(odd[r]), bits_of(even[r + 1]), bits_of(odd[r + 1])});
        }
      }
    }
  }

  const CachedParts& x_;
  const CachedAttention& p_;
  const int group_, packed_rows_;
  int batch_, kv_head_, part_, first_;
  // of the lane
  bool present_;
  int position_, head_;
  Rows<T, D, 2 * pairs> rows_;
};

template <class T, int D>
PCBENCH_KERNEL((cached_most_waves * warp_width), 2)
void cached_attention_mfma(PCBENCH_PARAM CachedParts x) {
  CachedWave<T, D, false>(x).run();
}

template <class T, int D>
PCBENCH_KERNEL((cached_most_waves * warp_width), 2)
void decode_attention_mfma(PCBENCH_PARAM CachedParts x) {
  CachedWave<T, D, true>(x).run();
}

// One attention from its parts: a block owns a row, and each of its waves every fourth part.
template <class T>
PCBENCH_KERNEL(cached_merge_threads, 4)
void cached_merge(PCBENCH_PARAM CachedParts x) {
  const CachedAttention& p = x.p;
  const int64_t rows = p.keys.batch * p.heads * p.rows, row = block_index();
  float peak = -infinity;
  for (int64_t part = lane(); part < x.parts; part += warp_width) {
    peak = larger(peak, load(x.lses + part * rows + row));
  }
  peak = group_max(peak, warp_width);
  // dims lane and lane + 64, and the sum
  float mine[3] = {0.f, 0.f, 0.f};
  for (int64_t part = warp(); part < x.parts; part += cached_merge_waves) {
    const float share = weight(load(x.lses + part * rows + row), or_zero(peak));
    PCBENCH_UNROLL
    for (int n = 0; n < 2; ++n) {
      const int64_t dim = lane() + n * warp_width;
      mine[n] += dim < p.keys.dim ? share * load(x.outs + (part * rows + row) * p.keys.dim + dim) : 0.f;
    }
    mine[2] += share;
  }
  Shared<float> all = shared<float>(0);
  PCBENCH_UNROLL
  for (int n = 0; n < 3; ++n) {
    all[(warp() * 3 + n) * warp_width + lane()] = mine[n];
  }
  barrier();
  float total[3] = {0.f, 0.f, 0.f};
  PCBENCH_UNROLL
  for (int n = 0; n < 3 * cached_merge_waves; ++n) {
    total[n % 3] += all[n * warp_width + lane()];
  }
  const int dim = thread_index();
  if (dim < p.keys.dim) {
    const float out = total[2] == 0.f ? 0.f : (warp() == 0 ? total[0] : total[1]) / total[2];
    store(static_cast<T*>(p.out) + row * p.keys.dim + dim, narrow<T>(out));
  }
  if (dim == 0) {
    store(p.lse + row, log_sum(peak, total[2]));
  }
}

}  // namespace pcbench::device
