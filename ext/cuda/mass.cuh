// The keys of a block for the mass pass on mma.sync: each of four warps keeps 32 keys as left operands.
//
// Shared memory: the keys [128, D], which go to registers at once, and two chunks of rows [64, D], as 16-byte chunks
// whose place in a 128-byte segment is XORed with the row. See device/mass_sum.h.
#pragma once

// of the include path: the emulator has its own
#include <ptx.h>

#include "device/mass_sum.h"

namespace pcbench::device::mass {

template <class T, int D>
struct MmaMassTile {
  static constexpr int threads = 128, warp_keys = 32;
  // D 96 is padded: the XOR needs whole segments
  static constexpr int row = D == 64 ? 64 : 128;
  static constexpr int chunks = row / 8;
  static constexpr int rows_at = block_keys * row * 2, chunk_bytes = chunk_rows * row * 2;
  static constexpr int lses_at = rows_at + 2 * chunk_bytes;
  static constexpr int limits_at = lses_at + 2 * chunk_rows * 4;
  static constexpr int shared_bytes = limits_at + 2 * chunk_rows * 4;

  Fragment keys[2][D / 16];
  float totals[2][2] = {};  // of keys g and g + 8 of each 16, this lane's rows

  static PCBENCH_DEVICE int place(int at, int chunk) { return at * row + ((chunk ^ (at & 7)) * 8); }

  template <class From>
  static PCBENCH_DEVICE void start_lines(int to, int lines, From from) {
    Shared<T> at = shared<T>(to);
    for (int n = thread_index(); n < lines * chunks; n += threads) {
      const int line = n / chunks, chunk = n % chunks;
      if (chunk * 8 < D) {
        const T* source = from(line);
        cp_async16(at + place(line, chunk), source ? source + chunk * 8 : nullptr, source != nullptr);
      }
    }
    cp_async_commit();
  }

  template <class From>
  PCBENCH_DEVICE void start_keys(From from) {
    start_lines(0, block_keys, from);
  }

  template <class From>
  static PCBENCH_DEVICE void start_rows(int buffer, From from) {
    start_lines(rows_at + buffer * chunk_bytes, chunk_rows, from);
  }

  static PCBENCH_DEVICE void wait() { cp_async_wait<0>(); }

  PCBENCH_DEVICE void keep_keys() {
    Shared<T> at = shared<T>(0) + warp() * warp_keys * row;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int d = 0; d < D; d += 16) {
        keys[m][d / 16] = ldmatrix_x4(at + place(m * 16 + lane() % 16, d / 8 + lane() / 16));
      }
    }
  }

  template <bool Masked, class Done>
  PCBENCH_DEVICE void take(int buffer, int steps, float scale, Done done) {
    for (int step = 0; step < steps; ++step) {
      add<Masked>(buffer, step * step_rows, scale);
      done(step);
    }
  }

  // Adds the weights of eight rows. Masked: some see a part of the block's keys only.
  template <bool Masked>
  PCBENCH_DEVICE void add(int buffer, int first, float scale) {
    float s[2][4] = {};
    Shared<T> at = shared<T>(rows_at + buffer * chunk_bytes) + first * row;
#pragma unroll
    for (int d = 0; d < D; d += 32) {
      const Fragment rows = ldmatrix_x4(at + place(lane() % 8, d / 8 + lane() / 8));
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        mma_m16n8k16<T>(s[m], keys[m][d / 16], rows.r[0], rows.r[1]);
        mma_m16n8k16<T>(s[m], keys[m][d / 16 + 1], rows.r[2], rows.r[3]);
      }
    }
    const int own = buffer * chunk_rows + first + lane() % 4 * 2;
    Shared<float> lses = shared<float>(lses_at) + own;
    Shared<int32_t> limits = shared<int32_t>(limits_at) + own;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float lse = lses[e];
      const int limit = Masked ? limits[e] : 0;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int key = warp() * warp_keys + m * 16 + half * 8 + lane() / 4;
          const float x = exp2(s[m][half * 2 + e] * scale - lse);
          totals[m][half] += Masked && key >= limit ? 0.0f : x;
        }
      }
    }
  }

  PCBENCH_DEVICE void put(float* to, int count, uint32_t hidden) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float total = totals[m][half];
        totals[m][half] = 0.0f;
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
        const int key = m * 16 + half * 8 + lane() / 4, at = warp() * warp_keys + key;
        if (lane() % 4 == 0 && at < count) {
          store(to + at, hidden >> key & 1u ? 0.0f : total);
        }
      }
    }
  }
};

}  // namespace pcbench::device::mass
