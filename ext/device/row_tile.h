// A block's query rows against tiles of 32 keys, in float32: scores, online softmax, weighted values.
//
// 128 threads; a thread owns R rows (ty, ty + 16, …) and of each tile the keys tx, tx + 8, … Rows, keys and weights lie
// in shared memory with 16 bytes between rows, which keeps 16-byte reads free of bank conflicts. Works for any dtype
// and alignment; the tensor-core kernels are faster where they apply.
#pragma once

#include "device/warps.h"

namespace pcbench::device::portable {

constexpr int tile_threads = 128;
constexpr int tile_keys = 32;
constexpr int tile_row_threads = 16;  // ty
constexpr int tile_key_threads = 8;   // tx

// Eight elements, 16 bytes at a time where they are aligned.
PCBENCH_DEVICE void load8(const void* data, Float dtype, int64_t at, float (&x)[8]) {
  const char* from = static_cast<const char*>(data) + at * bytes_of(dtype);
  if (!aligned16(from)) {
    for (int i = 0; i < 8; ++i) {
      x[i] = element(data, dtype, at + i);
    }
    return;
  }
  switch (dtype) {
    case Float::bf16:
      return unpack<bf16>(load16(from), x);
    case Float::f16:
      return unpack<half>(load16(from), x);
    default:
      for (int i = 0; i < 8; i += 4) {
        float four[4];
        unpack<float>(load16(from + 4 * i), four);
        for (int e = 0; e < 4; ++e) {
          x[i + e] = four[e];
        }
      }
  }
}

PCBENCH_DEVICE void load4(Shared<float> from, float (&x)[4]) {
  unpack<float>(load16(from), x);
}

PCBENCH_DEVICE void store4(Shared<float> to, const float (&x)[4]) {
  store16(to, {{bits_of(x[0]), bits_of(x[1]), bits_of(x[2]), bits_of(x[3])}});
}

template <int D, int R>
class RowTile {
 public:
  static constexpr int rows = tile_row_threads * R;
  static constexpr int stride = D + 4;
  static constexpr int weight_stride = tile_keys + 4;
  static constexpr int keys_at = rows * stride * 4;
  static constexpr int weights_at = keys_at + tile_keys * stride * 4;
  static constexpr int lost_at = weights_at + rows * weight_stride * 4;
  static constexpr int shared_bytes = lost_at + R * tile_threads * 4;

  static PCBENCH_DEVICE int tx() { return thread_index() % tile_key_threads; }
  static PCBENCH_DEVICE int ty() { return thread_index() / tile_key_threads; }
  // The rows and keys of a thread.
  static PCBENCH_DEVICE int row_of(int r) { return ty() + tile_row_threads * r; }
  static PCBENCH_DEVICE int key_of(int c) { return tx() + tile_key_threads * c; }

  PCBENCH_DEVICE RowTile() {
    for (int r = 0; r < R; ++r) {
      peak[r] = -infinity;
      sum[r] = 0.0f;
      lost(r) = 0.0f;
      for (int d = 0; d < D / 8; ++d) {
        out[r][d] = 0.0f;
      }
    }
  }

  // offset(row) is where a row starts, in elements; negative for a row of zeros.
  template <class Offset>
  static PCBENCH_DEVICE void load_rows(int to, int count, const void* data, Float dtype, Offset offset) {
    Shared<float> at = shared<float>(to);
    for (int n = thread_index(); n < count * (D / 8); n += tile_threads) {
      const int row = n / (D / 8), group = n % (D / 8);
      const int64_t start = offset(row);
      float x[8] = {};
      if (start >= 0) {
        load8(data, dtype, start + group * 8, x);
      }
      store4(at + (row * stride + group * 8), {x[0], x[1], x[2], x[3]});
      store4(at + (row * stride + group * 8 + 4), {x[4], x[5], x[6], x[7]});
    }
  }

  template <class Offset>
  static PCBENCH_DEVICE void load_queries(const void* data, Float dtype, Offset offset) {
    load_rows(0, rows, data, dtype, offset);
  }

  template <class Offset>
  static PCBENCH_DEVICE void load_keys(const void* data, Float dtype, Offset offset) {
    load_rows(keys_at, tile_keys, data, dtype, offset);
  }

  // Keys or values that are no floats: source(row, column, x) puts eight elements of a row into x, which holds zeros.
  template <class Source>
  static PCBENCH_DEVICE void load_keys(const Source& source) {
    Shared<float> at = shared<float>(keys_at);
    for (int n = thread_index(); n < tile_keys * (D / 8); n += tile_threads) {
      const int row = n / (D / 8), group = n % (D / 8);
      float x[8] = {};
      source(row, group * 8, x);
      store4(at + (row * stride + group * 8), {x[0], x[1], x[2], x[3]});
      store4(at + (row * stride + group * 8 + 4), {x[4], x[5], x[6], x[7]});
    }
  }

  // Products of the thread's rows and keys.
  static PCBENCH_DEVICE void multiply(float (&s)[R][4]) {
    Shared<float> q = shared<float>(0) + ty() * stride, k = shared<float>(keys_at) + tx() * stride;
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < 4; ++c) {
        s[r][c] = 0.0f;
      }
    }
#pragma unroll 4
    for (int d = 0; d < D; d += 4) {
      float keys[4][4];
      for (int c = 0; c < 4; ++c) {
        load4(k + (c * tile_key_threads * stride + d), keys[c]);
      }
      for (int r = 0; r < R; ++r) {
        float row[4];
        load4(q + (r * tile_row_threads * stride + d), row);
        for (int c = 0; c < 4; ++c) {
          // a sum of short sums rounds less than one long sum
          float four = row[0] * keys[c][0];
          for (int i = 1; i < 4; ++i) {
            four += row[i] * keys[c][i];
          }
          s[r][c] += four;
        }
      }
    }
  }

  // Keys from limits[r] on and those in hidden[r] are not seen by row r of the thread.
  static PCBENCH_DEVICE void scale_and_hide(float (&s)[R][4], float scale, const int (&limits)[R],
                                            const uint32_t (&hidden)[R]) {
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < 4; ++c) {
        s[r][c] *= scale;
      }
      if (limits[r] < tile_keys || hidden[r]) {
        for (int c = 0; c < 4; ++c) {
          const bool seen = key_of(c) < limits[r] && !(hidden[r] >> key_of(c) & 1u);
          s[r][c] = seen ? s[r][c] : -infinity;
        }
      }
    }
  }

  // Scores of a tile's keys; offset(key) is where one starts. Every thread of the block comes, and then to add().
  template <class Offset>
  static PCBENCH_DEVICE void score(float (&s)[R][4], const void* k, Float dtype, Offset offset, float scale,
                                   const int (&limits)[R], const uint32_t (&hidden)[R]) {
    // the values of the tile before are read
    barrier();
    load_keys(k, dtype, offset);
    barrier();
    multiply(s);
    scale_and_hide(s, scale, limits, hidden);
  }

  // The same of keys that are no floats.
  template <class Source>
  static PCBENCH_DEVICE void score(float (&s)[R][4], const Source& keys, float scale, const int (&limits)[R],
                                   const uint32_t (&hidden)[R]) {
    barrier();
    load_keys(keys);
    barrier();
    multiply(s);
    scale_and_hide(s, scale, limits, hidden);
  }

  // Takes the tile in: its scores and its values; offset(key) is where those of a key start.
  template <class Offset>
  PCBENCH_DEVICE void add(const float (&s)[R][4], const void* v, Float dtype, Offset offset) {
    for (int r = 0; r < R; ++r) {
      weigh(s[r], r);
    }
    barrier();
    load_keys(v, dtype, offset);
    barrier();
    add_values();
  }

  // The same of values that are no floats.
  template <class Source>
  PCBENCH_DEVICE void add(const float (&s)[R][4], const Source& values) {
    for (int r = 0; r < R; ++r) {
      weigh(s[r], r);
    }
    barrier();
    load_keys(values);
    barrier();
    add_values();
  }

  // Per thread and row: the maximum, the sum over the thread's keys, the columns 4·tx + 32·c … + 3.
  float peak[R], sum[R], out[R][D / 8];

 private:
  // Scores of a row become weights in shared memory; what was summed before is made relative to the new maximum.
  PCBENCH_DEVICE void weigh(const float (&s)[4], int r) {
    Shared<float> weights = shared<float>(weights_at) + row_of(r) * weight_stride;
    float most = peak[r];
    for (int c = 0; c < 4; ++c) {
      most = larger(most, s[c]);
    }
    most = group_max(most, tile_key_threads);
    const float shift = or_zero(most), kept = weight(peak[r], shift);
    float four = 0.0f;
    for (int c = 0; c < 4; ++c) {
      const float x = weight(s[c], shift);
      four += x;
      weights[key_of(c)] = x;
    }
    // small weights count beside a large one: what rounding takes is added next time (Kahan)
    const float more = four - lost(r) * kept, before = sum[r] * kept;
    sum[r] = before + more;
    lost(r) = sum[r] - before - more;
    for (int d = 0; d < D / 8; ++d) {
      out[r][d] *= kept;
    }
    peak[r] = most;
  }

  // A tile is summed by itself, 32 columns at a time, so that many small weights count beside a large one.
  PCBENCH_DEVICE void add_values() {
    Shared<float> weights = shared<float>(weights_at) + ty() * weight_stride;
#pragma unroll
    for (int c = 0; c < D / 32; ++c) {
      Shared<float> v = shared<float>(keys_at) + (tx() * 4 + c * 32);
      float tile[R][4] = {};
      // weights are read in pairs; more at a time is more registers than gfx942 has for two waves
#pragma unroll 1
      for (int j = 0; j < tile_keys; j += 2) {
        for (int i = j; i < j + 2; ++i) {
          float x[4];
          load4(v + i * stride, x);
          for (int r = 0; r < R; ++r) {
            const float w = weights[r * tile_row_threads * weight_stride + i];
            for (int e = 0; e < 4; ++e) {
              tile[r][e] += w * x[e];
            }
          }
        }
      }
      for (int r = 0; r < R; ++r) {
        for (int e = 0; e < 4; ++e) {
          out[r][c * 4 + e] += tile[r][e];
        }
      }
    }
  }

  // What rounding has added to sum[r]; a thread's own, in shared memory for want of registers.
  static PCBENCH_DEVICE float& lost(int r) { return shared<float>(lost_at)[r * tile_threads + thread_index()]; }
};

// Column of a thread's output d.
PCBENCH_DEVICE int tile_column(int d) {
  return thread_index() % tile_key_threads * 4 + d / 4 * 32 + d % 4;
}

}  // namespace pcbench::device::portable
