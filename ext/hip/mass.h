// The keys of a block for the mass pass on MFMA: each of four waves keeps 32 keys as right operands.
//
// A lane owns a key: its sums over a head's rows stay in the lane but for one exchange with the lane 32 further. Shared
// memory: two chunks of rows [64, D] with 16 bytes between rows. A lane reads 16 bytes of a row, elements of two
// multiplications: in which order the products of a score are added does not matter. See device/mass_sum.h.
#pragma once

// of the include path: the emulator has its own
#include <gcn.h>

#include "device/mass_sum.h"

namespace pcbench::device::mass {

template <class T, int D>
struct MfmaMassTile {
  static constexpr int threads = 256, warp_keys = 32;
  static constexpr int row = D + 8;
  static constexpr int chunk_bytes = chunk_rows * row * 2;
  static constexpr int lses_at = 2 * chunk_bytes;
  static constexpr int limits_at = lses_at + 2 * chunk_rows * 4;
  static constexpr int shared_bytes = limits_at + 2 * chunk_rows * 4;
  static constexpr int tile_rows = 32, tile_steps = tile_rows / step_rows;

  Pack16 keys[D / 16];
  float total = 0.0f;  // of this lane's key and rows

  static PCBENCH_DEVICE Operand half_of(const Pack16& x, int i) { return {{x.words[2 * i], x.words[2 * i + 1]}}; }

  template <class From>
  PCBENCH_DEVICE void start_keys(From from) {
    const T* key = from(warp() * warp_keys + lane() % 32);
    PCBENCH_UNROLL
    for (int d = 0; d < D; d += 16) {
      keys[d / 16] = key ? load16(key + d + lane() / 32 * 8) : Pack16{};
    }
  }

  PCBENCH_DEVICE void keep_keys() {}

  template <class From>
  static PCBENCH_DEVICE void start_rows(int buffer, From from) {
    constexpr int pieces = D / 8;
    for (int n = thread_index(); n < chunk_rows * pieces; n += threads) {
      const T* source = from(n / pieces);
      const Pack16 piece = source ? load16(source + n % pieces * 8) : Pack16{};
      store16(shared<T>(buffer * chunk_bytes) + (n / pieces * row + n % pieces * 8), piece);
    }
  }

  static PCBENCH_DEVICE void wait() {}

  template <bool Masked, class Done>
  PCBENCH_DEVICE void take(int buffer, int steps, float scale, Done done) {
    for (int first = 0; first < steps * step_rows; first += tile_rows) {
      Tile s = {};
      Shared<T> at = shared<T>(buffer * chunk_bytes) + ((first + lane() % 32) * row + lane() / 32 * 8);
      PCBENCH_UNROLL
      for (int d = 0; d < D; d += 16) {
        const Pack16 rows = load16(at + d);
        multiply_32x32x8<T>(s, half_of(rows, 0), half_of(keys[d / 16], 0));
        multiply_32x32x8<T>(s, half_of(rows, 1), half_of(keys[d / 16], 1));
      }
      PCBENCH_UNROLL
      for (int step = 0; step < tile_steps; ++step) {
        const int own = buffer * chunk_rows + first + step * step_rows + lane() / 32 * 4;
        PCBENCH_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float x = exp2(s[step * 4 + i] * scale - shared<float>(lses_at)[own + i]);
          const bool seen = !Masked || warp() * warp_keys + lane() % 32 < shared<int32_t>(limits_at)[own + i];
          total += seen ? x : 0.0f;
        }
        done(first / step_rows + step);
      }
    }
  }

  PCBENCH_DEVICE void put(float* to, int count, uint32_t hidden) {
    const float sum = total + other_half(total);
    total = 0.0f;
    const int at = warp() * warp_keys + lane();
    if (lane() < 32 && at < count) {
      store(to + at, hidden >> lane() & 1u ? 0.0f : sum);
    }
  }
};

}  // namespace pcbench::device::mass
