// cached_attention of at most 16 rows of a pair, and decode_attention, on tensor cores: they are bound by memory.
//
// Blocks share the tiles of all jobs (CachedWork). Each of a block's four warps takes 16 keys of every tile through
// copies of its own, `stages` deep, and waits for no other warp before the end of a job, where the four add up. Rows
// are (position, head of the group): a group's heads read their keys once, whosever the eviction bits are. Shared
// memory: 64 KB of copies, and CachedWork. Shapes: CachedAttention in params.h. float32 scores and sums. Equal the
// functions of pcbench.reference of their names. Split keys after FlashDecoding.
#pragma once

#include "cached_merge.cuh"
#include "cached_work.cuh"

namespace pcbench::device {

// One warp's share of a job of few rows: 16 rows, and 16 keys of every tile.
template <class T, int D>
struct FewRows {
  using Tile = AttentionTile<T, D, true>;
  static constexpr int row = Tile::row, warp_keys = 16, warps = 4;
  // 64 KB of copies under way: two blocks a multiprocessor of 164 KB
  static constexpr int stages = 256 / row;
  static constexpr int stage_elements = 2 * warp_keys * row;
  static constexpr int shared_bytes = warps * stages * stage_elements * 2;
  static_assert(shared_bytes >= warps * few_rows * D * 4, "the warps' sums meet there");

  Shared<T> copies = shared<T>(warp() * stages * stage_elements * 2);
  Fragment q[D / 16];
  float out[D / 8][4];
  float shift[2];
  float sum[2];

  PCBENCH_DEVICE void reset() {
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        out[n][e] = 0.0f;
      }
    }
    shift[0] = shift[1] = -infinity;
    sum[0] = sum[1] = 0.0f;
  }

  PCBENCH_DEVICE void load_rows(const T* head, const Floats& strides, const PackedRows& packed, int positions) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = lane() / 4 + r * 8, position = packed.position_of(at);
      const T* from = head + packed.member_of(at) * strides.strides[1] + position * strides.strides[2] + lane() % 4 * 2;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        q[j / 2].r[j % 2 * 2 + r] = position < positions ? load(reinterpret_cast<const uint32_t*>(from + j * 8)) : 0u;
      }
    }
  }

  // Starts the copies of this warp's keys of a tile and their values; zeros beyond the tile's keys.
  PCBENCH_DEVICE void start(int stage, const T* k, int32_t k_stride, const T* v, int32_t v_stride, int keys) const {
    constexpr int chunks = row / 8, at_once = warp_width / chunks;
    const int chunk = lane() % chunks, first = lane() / chunks;
    const Shared<T> to = copies + stage * stage_elements;
    if (chunk * 8 < D) {
#pragma unroll
      for (int i = 0; i < warp_keys; i += at_once) {
        const int at = first + i, key = warp() * warp_keys + at;
        const int place = Tile::place(at, chunk);
        cp_async16(to + place, k + key * k_stride + chunk * 8, key < keys);
        cp_async16(to + (warp_keys * row + place), v + key * v_stride + chunk * 8, key < keys);
      }
    }
  }

  // keep(r, key, low, high) is told the products of a row with two keys.
  template <class Keep>
  PCBENCH_DEVICE void take(int stage, const int32_t (&visible)[2], const uint32_t (&words)[2], float scale, Keep keep) {
    const Shared<T> k = copies + stage * stage_elements, v = k + warp_keys * row;
    float s[2][4] = {};
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      const Fragment b = ldmatrix_x4(k + Tile::at_column(Tile::key_matrices(lane()), d));
      mma_m16n8k16<T>(s[0], q[d / 16], b.r[0], b.r[1]);
      mma_m16n8k16<T>(s[1], q[d / 16], b.r[2], b.r[3]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      keep(j % 2, j / 2 * 8 + lane() % 4 * 2, s[j / 2][j % 2 * 2], s[j / 2][j % 2 * 2 + 1]);
    }
    float peak[2], base[2];
    bool grown = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      peak[r] = -infinity;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = e / 2 * 8 + lane() % 4 * 2 + e % 2;
        float& score = s[e / 2][r * 2 + e % 2];
        score = key < visible[r] && !(words[r] >> key & 1u) ? score : -infinity;
        peak[r] = fmaxf(peak[r], score);
      }
      grown |= peak[r] * scale - shift[r] > Weights<T>::last_exponent;
    }
    if (any(grown)) {
      follow(peak, scale);
    }
    Fragment a;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      base[r] = shift[r] == -infinity ? 0.0f : shift[r];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int r = j % 2;
      const float low = exp2(s[j / 2][r * 2] * scale - base[r]), high = exp2(s[j / 2][r * 2 + 1] * scale - base[r]);
      sum[r] += low + high;
      a.r[j] = narrow_pair<T>(low, high);
    }
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      const Fragment b = ldmatrix_x4_trans(v + Tile::at_column(Tile::matrices(lane()), n * 8));
      mma_m16n8k16<T>(out[n], a, b.r[0], b.r[1]);
      mma_m16n8k16<T>(out[n + 1], a, b.r[2], b.r[3]);
    }
  }

  PCBENCH_DEVICE void follow(float (&peak)[2], float scale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      peak[r] = fmaxf(peak[r], shuffle_xor(peak[r], 1));
      peak[r] = fmaxf(peak[r], shuffle_xor(peak[r], 2));
      rebase(r, fmaxf(shift[r], shift_at<T>(peak[r] * scale)));
    }
  }

  PCBENCH_DEVICE void rebase(int r, float next) {
    const float keep = exp2(shift[r] - (next == -infinity ? 0.0f : next));
    shift[r] = next;
    sum[r] *= keep;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      out[n][r * 2] *= keep;
      out[n][r * 2 + 1] *= keep;
    }
  }

  // Adds up what the warps have summed and leaves the part of `rows` rows; the copies' shared memory is free by now.
  PCBENCH_DEVICE void leave(const CachedLaunch& x, int32_t part, int rows) {
    Shared<float> sums = shared<float>(0), states = shared<float>(shared_bytes);
    barrier();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += shuffle_xor(sum[r], 1);
      sum[r] += shuffle_xor(sum[r], 2);
      if (lane() % 4 == 0) {
        states[warp() * few_rows + lane() / 4 + r * 8] = shift[r];
      }
    }
    barrier();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at = lane() / 4 + r * 8;
      float top = states[at];
#pragma unroll
      for (int w = 1; w < warps; ++w) {
        top = fmaxf(top, states[w * few_rows + at]);
      }
      rebase(r, top);
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          sums[(warp() * few_rows + at) * D + n * 8 + lane() % 4 * 2 + e] = out[n][r * 2 + e];
        }
      }
    }
    barrier();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (lane() % 4 == 0) {
        states[warp() * few_rows + lane() / 4 + r * 8] = sum[r];
      }
    }
    barrier();
    for (int i = thread_index(); i < rows * D; i += tile_threads) {
      float total = sums[i];
#pragma unroll
      for (int w = 1; w < warps; ++w) {
        total += sums[w * few_rows * D + i];
      }
      store(PartPlace<D>(x, part, i / D).out + i % D, total);
    }
    if (warp() == 0 && lane() % 4 == 0) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int at = lane() / 4 + r * 8;
        if (at < rows) {
          float total = states[at];
#pragma unroll
          for (int w = 1; w < warps; ++w) {
            total += states[w * few_rows + at];
          }
          store(reinterpret_cast<Pair*>(PartPlace<D>(x, part, at).state), Pair{shift[r], total});
        }
      }
    }
  }
};

// `Keeps`: the scores of every key stay in memory.
template <class T, int D, bool Keeps>
PCBENCH_DEVICE void attend_few_rows(const CachedLaunch& x) {
  release_next();
  using Rows = FewRows<T, D>;
  const KeyRows& keys = x.p.keys;
  const int32_t k_stride = static_cast<int32_t>(keys.k_rows.strides[0]);
  const int32_t v_stride = static_cast<int32_t>(keys.v_rows.strides[0]);
  CachedWork<T> work(x, Rows::shared_bytes + Rows::warps * few_rows * static_cast<int>(sizeof(float)));
  work.for_each_part([&](const Part& part) {
    const PackedRows packed(x.pack, 0);
    Rows rows;
    rows.reset();
    rows.load_rows(work.queries(part.pair), x.p.q, packed, static_cast<int>(x.p.rows));
    for (int32_t done = 0; done < part.count; done += x.described) {
      work.describe(part, done);
      const int count = work.count(part, done);
      auto start = [&](int i) {
        if (i < count) {
          rows.start(i % Rows::stages, static_cast<const T*>(keys.k_rows.data) + work.row(i) * keys.k_rows.strides[0],
                     k_stride, static_cast<const T*>(keys.v_rows.data) + work.v_row(i) * keys.v_rows.strides[0],
                     v_stride, work.keys(i));
        }
        cp_async_commit();
      };
#pragma unroll
      for (int i = 0; i < Rows::stages - 1; ++i) {
        start(i);
      }
      for (int i = 0; i < count; ++i) {
        start(i + Rows::stages - 1);
        const int from = warp() * Rows::warp_keys;
        int32_t visible[2];
        uint32_t words[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int at = lane() / 4 + r * 8;
          visible[r] = work.visible(i, packed.position_of(at)) - from;
          words[r] = work.word(i, work.words_of(packed.member_of(at)) + from / 32) >> from % 32;
        }
        cp_async_wait<Rows::stages - 1>();
        warp_barrier();
        rows.take(i % Rows::stages, visible, words, x.scale, [&](int r, int key, float low, float high) {
          if constexpr (Keeps) {
            // a pair has one position, so that rows are heads, and one segment
            const int head = lane() / 4 + r * 8;
            const int64_t at = int64_t{part.first + done + i} * tile_keys + from + key;
            if (head < x.pack && at < x.p.longest) {
              float* to = work.scores(part.pair) + head * x.p.score_row + at;
              store(reinterpret_cast<Pair*>(to), Pair{low * x.p.scale, high * x.p.scale});
            }
          }
        });
        warp_barrier();
      }
      cp_async_wait<0>();
    }
    rows.leave(x, part.number, static_cast<int>(x.p.rows) * x.pack);
  });
}

template <class T, int D>
PCBENCH_KERNEL(tile_threads, 2)
void cached_few_rows(PCBENCH_PARAM CachedLaunch x) {
  attend_few_rows<T, D, false>(x);
}

template <class T, int D>
PCBENCH_KERNEL(tile_threads, 2)
void decode_few_rows(PCBENCH_PARAM CachedLaunch x) {
  attend_few_rows<T, D, true>(x);
}

}  // namespace pcbench::device
