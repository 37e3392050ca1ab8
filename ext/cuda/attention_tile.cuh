// Flash attention of 128 query rows over tiles of 64 keys: what calibrated and cached attention share.
//
// Four warps own 32 rows each: with 16 rows a warp every key would be read from shared memory twice as often, and
// shared memory, not the tensor cores, would set the pace. Shared memory: the rows [128, D], one tile of keys and one
// of values [64, D] each, all as 16-byte chunks whose place in a 128-byte segment is XORed with the row. Loads run
// behind the arithmetic: values come while scores are computed, the next keys while values are summed. Scores, weights
// and sums are float32; weights are rounded to the inputs' dtype for the second product. Online softmax after
// FlashAttention-2, arXiv:2307.08691; stale maxima after FlashAttention-4.
#pragma once

// of the include path: the emulator has its own
#include <ptx.h>

#include "device/numbers.h"
#include "device/weights.h"

namespace pcbench::device {

constexpr int tile_rows = 128, tile_keys = 64, tile_threads = 128;

// Which keys of a tile a row sees: the first `keys`, unless a bit evicts them.
struct Visible {
  int32_t keys;
  uint32_t words[2];
};

// Rows are (position, query head): `pack` heads of a kv-head share the keys that a block reads.
struct PackedRows {
  int32_t pack, reciprocal;  // ⌈65536 / pack⌉: exact for the rows of a block where pack ≤ 128
  int32_t position, member;  // of the block's first row

  PCBENCH_DEVICE PackedRows(int32_t pack, int32_t first)
      : pack(pack), reciprocal((65536 + pack - 1) / pack), position(first / pack), member(first % pack) {}

  PCBENCH_DEVICE int32_t position_of(int32_t row) const { return position + ((member + row) * reciprocal >> 16); }
  PCBENCH_DEVICE int32_t member_of(int32_t row) const { return member + row - (position_of(row) - position) * pack; }
};

// Tight: the loop around has so much to remember that addresses are computed afresh in every tile. Terms: rows that are
// no numbers of T are a sum of so many, one behind the other in shared memory.
template <class T, int D, bool Tight, int Terms = 1>
struct AttentionTile {
  // D 96 is padded: the XOR needs whole segments
  static constexpr int row = D == 64 ? 64 : 128;
  static constexpr int chunks = row / 8;
  static constexpr int rows_at_once = tile_threads / chunks;
  static constexpr int row_bytes = tile_rows * row * 2;
  static constexpr int k_bytes = Terms * row_bytes, v_bytes = k_bytes + tile_keys * row * 2;
  static constexpr int note_bytes = v_bytes + tile_keys * row * 2, shared_bytes = note_bytes + tile_rows * 4;
  // query fragments stay in registers where they fit
  static constexpr bool rows_in_registers = D == 64 && Terms == 1;

  Shared<T> rows = shared<T>(0), k_tile = shared<T>(k_bytes), v_tile = shared<T>(v_bytes);
  // what masks ask of each row: registers are full
  Shared<int32_t> notes = shared<int32_t>(note_bytes);
  float out[2][D / 8][4];  // of 16 rows each, as mma leaves them, before normalisation
  float shift[4];          // shift_at of a row's largest score when it was last rescaled; −inf where nothing was seen
  float sum[4];            // of 2^(score − shift), this thread's columns
  Fragment q[2][rows_in_registers ? D / 16 : 1];
  int terms = 1;  // of the rows that are there

  PCBENCH_DEVICE void reset() {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          out[m][n][e] = 0.0f;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      shift[r] = -infinity;
      sum[r] = 0.0f;
    }
  }

  PCBENCH_DEVICE static int thread() { return Tight ? afresh(thread_index()) : thread_index(); }

  // Row r of this thread within the block, r as in hide.
  PCBENCH_DEVICE static int row_of(int r) {
    const int i = thread();
    return i / 32 * 32 + i % 32 / 4 + r * 8;
  }

  // Where chunk `chunk` of row `at` lies in a tile.
  PCBENCH_DEVICE static int place(int at, int chunk) { return at * row + ((chunk ^ (at & 7)) * 8); }

  // Starts the copy of the first `count` of 64 rows; zeros for the others.
  PCBENCH_DEVICE static void load_keys(Shared<T> to, const T* from, int32_t stride, int count) {
    const int i = thread(), chunk = i % chunks, first = i / chunks;
    if (chunk * 8 < D) {
      const T* source = from + first * stride + chunk * 8;
      const int left = count - first;
#pragma unroll
      for (int at = 0; at < tile_keys; at += rows_at_once) {
        cp_async16(to + (place(first, chunk) + at * row), source + at * stride, at < left);
      }
    }
  }

  // Starts the copy of the block's query rows; zeros for positions beyond `positions`.
  PCBENCH_DEVICE void load_rows(const T* head, const Floats& strides, const PackedRows& packed, int positions) const {
    const int chunk = thread_index() % chunks, first = thread_index() / chunks;
    if (chunk * 8 < D) {
      for (int i = 0; i < tile_rows; i += rows_at_once) {
        const int position = packed.position_of(first + i);
        const T* from = head + packed.member_of(first + i) * strides.strides[1] + position * strides.strides[2];
        cp_async16(rows + (place(first, chunk) + i * row), from + chunk * 8, position < positions);
      }
    }
  }

  // Where this lane's row of four matrices begins: rows 0, 8, 0, 8 and columns 0, 0, 8, 8; and rows 0, 0, 8, 8 and
  // columns 0, 8, 0, 8, for operands of two registers that stand side by side.
  PCBENCH_DEVICE static int matrices(int lane) { return place(lane % 16, lane / 16); }
  PCBENCH_DEVICE static int key_matrices(int lane) { return place(lane / 16 * 8 + lane % 8, lane / 8 % 2); }
  // The same from `column` on. Within a segment a row's last three bits are all that counts, and they are the lane's.
  PCBENCH_DEVICE static int at_column(int first, int column) { return (first ^ (column % 64)) + column / 64 * 64; }

  PCBENCH_DEVICE Fragment load_query(int first, int m, int column) const {
    return ldmatrix_x4(rows + (at_column(first, column) + m * 16 * row));
  }

  // The query fragments, once the rows are there.
  PCBENCH_DEVICE void keep_rows() {
    if constexpr (rows_in_registers) {
      const int first = matrices(lane()) + warp() * 32 * row;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int d = 0; d < D; d += 16) {
          q[m][d / 16] = load_query(first, m, d);
        }
      }
    }
  }

  PCBENCH_DEVICE void score(float (&s)[2][8][4]) const {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[m][n][e] = 0.0f;
        }
      }
    }
    if constexpr (Terms == 1) {
      multiply(s, 0);
    } else {
#pragma unroll 1
      for (int term = 0; term < terms; ++term) {
        multiply(s, term);
      }
    }
  }

  // Adds the products of a term of the rows.
  PCBENCH_DEVICE void multiply(float (&s)[2][8][4], int term) const {
    const int first = key_matrices(lane());
    const int first_query = matrices(lane()) + (term * tile_rows + warp() * 32) * row;
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      Fragment a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if constexpr (rows_in_registers) {
          a[m] = q[m][d / 16];
        } else {
          a[m] = load_query(first_query, m, d);
        }
      }
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        const Fragment b = ldmatrix_x4(k_tile + (at_column(first, d) + n * 8 * row));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_m16n8k16<T>(s[m][n], a[m], b.r[0], b.r[1]);
          mma_m16n8k16<T>(s[m][n + 1], a[m], b.r[2], b.r[3]);
        }
      }
    }
  }

  // visible(r) of this thread's rows g, g+8, g+16 and g+24 of the warp.
  template <class Seen>
  PCBENCH_DEVICE static void hide(float (&s)[2][8][4], Seen&& visible) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const Visible row = visible(r);
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        const int seen = row.keys - w * 32;
        const uint32_t beyond = seen <= 0 ? ~0u : seen < 32 ? ~0u << seen : 0u;
        const uint32_t hidden = (beyond | row.words[w]) >> (lane() % 4 * 2);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          float& x = s[r / 2][w * 4 + e / 2][r % 2 * 2 + e % 2];
          x = hidden >> (e / 2 * 8 + e % 2) & 1u ? -infinity : x;
        }
      }
    }
  }

  // Lets the shifts follow the scores where a row's have outgrown its own.
  PCBENCH_DEVICE void follow(const float (&s)[2][8][4], float scale) {
    float peak[4];
    bool grown = false;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int m = r / 2, e = r % 2 * 2;
      peak[r] = fmaxf(s[m][0][e], s[m][0][e + 1]);
#pragma unroll
      for (int n = 1; n < 8; ++n) {
        peak[r] = fmaxf(peak[r], fmaxf(s[m][n][e], s[m][n][e + 1]));
      }
      grown |= peak[r] * scale - shift[r] > Weights<T>::last_exponent;
    }
    if (any(grown)) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        peak[r] = fmaxf(peak[r], shuffle_xor(peak[r], 1));
        peak[r] = fmaxf(peak[r], shuffle_xor(peak[r], 2));
        const float next = fmaxf(shift[r], shift_at<T>(peak[r] * scale));
        const float keep = exp2(shift[r] - (next == -infinity ? 0.0f : next));
        shift[r] = next;
        sum[r] *= keep;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          out[r / 2][n][r % 2 * 2] *= keep;
          out[r / 2][n][r % 2 * 2 + 1] *= keep;
        }
      }
    }
  }

  // Scores become weights, and weights sum up the values.
  PCBENCH_DEVICE void take(const float (&s)[2][8][4], float scale) {
    const int first = matrices(thread() % 32);
    float base[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      base[r] = shift[r] == -infinity ? 0.0f : shift[r];
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      Fragment a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int r = m * 2 + j % 2, e = j % 2 * 2;
          const float low = exp2(s[m][2 * k + j / 2][e] * scale - base[r]);
          const float high = exp2(s[m][2 * k + j / 2][e + 1] * scale - base[r]);
          sum[r] += low + high;
          a[m].r[j] = narrow_pair<T>(low, high);
        }
      }
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        const Fragment b = ldmatrix_x4_trans(v_tile + (at_column(first, n * 8) + k * 16 * row));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_m16n8k16<T>(out[m][n], a[m], b.r[0], b.r[1]);
          mma_m16n8k16<T>(out[m][n + 1], a[m], b.r[2], b.r[3]);
        }
      }
    }
  }

  // One tile, whose keys are under way: starts its values' copy and, where there are any, the next keys'. Asks
  // visible, as hide does, where the tile is masked.
  template <class Seen>
  PCBENCH_DEVICE void step(const T* v, int32_t v_stride, int keys, const T* next_k, int32_t k_stride, int next_keys,
                           bool masked, Seen&& visible, float scale) {
    cp_async_wait<0>();
    barrier();
    load_keys(v_tile, v, v_stride, keys);
    cp_async_commit();
    float s[2][8][4];
    score(s);
    cp_async_wait<0>();
    barrier();
    if (next_keys > 0) {
      load_keys(k_tile, next_k, k_stride, next_keys);
      cp_async_commit();
    }
    if (masked) {
      hide(s, visible);
    }
    follow(s, scale);
    take(s, scale);
  }

  // Adds up what the four lanes of a row have summed.
  PCBENCH_DEVICE void join_sums() {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      sum[r] += shuffle_xor(sum[r], 1);
      sum[r] += shuffle_xor(sum[r], 2);
    }
  }
};

}  // namespace pcbench::device
