// 32 query rows of a wave: lanes l and l + 32 share row l % 32, its softmax state and its column of the output.
//
// Scores come transposed, S^T = K · Q^T, so that the weights of a lane are the operand of O^T += V^T · P^T as they are.
// Register 4·g + i of a lane is key 8·g + 4·(lane/32) + i of a tile of 32.
// Scores and sums are float32 in units of log2. Online softmax after FlashAttention, arXiv:2205.14135.
#pragma once

#include "device/numbers.h"
#include "device/weights.h"
// of ext/hip or of ext/emulator: the include path says which
#include <gcn.h>

namespace pcbench::device {

struct alignas(8) Pack8 {
  uint32_t words[2];
};

PCBENCH_DEVICE Operand first_half(const Pack16& x) {
  return {x.words[0], x.words[1]};
}
PCBENCH_DEVICE Operand second_half(const Pack16& x) {
  return {x.words[2], x.words[3]};
}

// Bits of the keys [0, 32) below a limit.
PCBENCH_DEVICE uint32_t keys_below(int limit) {
  return limit >= 32 ? ~0u : limit <= 0 ? 0u : (1u << limit) - 1u;
}

// −inf where a bit is 0.
PCBENCH_DEVICE void hide(Tile& scores, uint32_t visible) {
  const uint32_t mine = visible >> lane() / 32 * 4;
  PCBENCH_UNROLL
  for (int r = 0; r < 16; ++r) {
    scores[r] = mine >> (r / 4 * 8 + r % 4) & 1u ? scores[r] : -infinity;
  }
}

// `tiles` of 32 dims hold the output.
template <class T, int D, int tiles = D / 32>
struct Rows {
  Operand q[D / 8];
  Tile out[tiles];
  // log2 units; the sum is this lane's share
  float shift, sum;

  PCBENCH_DEVICE void clear() {
    shift = -infinity;
    sum = 0.f;
    PCBENCH_UNROLL
    for (int x = 0; x < tiles; ++x) {
      PCBENCH_UNROLL
      for (int r = 0; r < 16; ++r) {
        out[x][r] = 0.f;
      }
    }
  }

  // Steps 2t and 2t + 1 of Q take dims 16t + 8·(lane/32) + [0, 8): 16 bytes a lane, and so does K.
  PCBENCH_DEVICE void load_q(const T* row) {
    PCBENCH_UNROLL
    for (int t = 0; t < D / 16; ++t) {
      const Pack16 x = load16(row + 16 * t + lane() / 32 * 8);
      q[2 * t] = first_half(x);
      q[2 * t + 1] = second_half(x);
    }
  }

  // Starts from a normalised output and its natural log-sum-exp.
  PCBENCH_DEVICE void resume(const float* row, float lse) {
    if (lse > -infinity) {
      constexpr float weight = Weights<T>::first;
      shift = shift_at<T>(lse * log2_e);
      sum = lane() < 32 ? weight : 0.f;
      PCBENCH_UNROLL
      for (int x = 0; x < D / 8; ++x) {
        const Pack16 four = load16(row + 8 * x + lane() / 32 * 4);
        PCBENCH_UNROLL
        for (int i = 0; i < 4; ++i) {
          out[x / 4][x % 4 * 4 + i] = float_of_bits(four.words[i]) * weight;
        }
      }
    }
  }

  PCBENCH_DEVICE void rescale(float new_shift) {
    const float before = shift;
    shift = new_shift;
    const float factor = exp2(before - or_zero(shift));
    sum *= factor;
    PCBENCH_UNROLL
    for (int x = 0; x < tiles; ++x) {
      out[x] *= factor;
    }
  }

  // Turns scores into weights under the shift, packed as operands.
  template <int n>
  PCBENCH_DEVICE void weigh(const Tile (&scores)[n], float scale, Operand (&weights)[4 * n]) {
    float most = scores[0][0];
    PCBENCH_UNROLL
    for (int r = 1; r < 16 * n; ++r) {
      most = __builtin_fmaxf(most, scores[r / 16][r % 16]);
    }
    most *= scale;
    if (any(most > shift + Weights<T>::last_exponent)) {
      most = __builtin_fmaxf(most, other_half(most));
      rescale(__builtin_fmaxf(shift, shift_at<T>(most)));
    }
    const float less = -or_zero(shift);
    Pair total{0.f, 0.f};
    PCBENCH_UNROLL
    for (int g = 0; g < 4 * n; ++g) {
      PCBENCH_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int r = g % 4 * 4 + 2 * i;
        const Pair power = multiply_add(Pair{scores[g / 4][r], scores[g / 4][r + 1]}, scale, less);
        const Pair weight{exp2(power.x), exp2(power.y)};
        total += weight;
        weights[g].words[i] = pack_weights<T>(weight.x, weight.y);
      }
    }
    sum += total.x + total.y;
  }

  // Natural log-sum-exp; leaves the output normalised. Every lane calls it.
  PCBENCH_DEVICE float finish() {
    const float total = sum + other_half(sum);
    const float inverse = total == 0.f ? 0.f : 1.f / total;
    PCBENCH_UNROLL
    for (int x = 0; x < tiles; ++x) {
      out[x] *= inverse;
    }
    return shift == infinity ? shift : (shift + log2(total)) * ln_2;
  }

  PCBENCH_DEVICE void store_row(float* row) const {
    PCBENCH_UNROLL
    for (int x = 0; x < D / 8; ++x) {
      const Tile& from = out[x / 4];
      const int r = x % 4 * 4;
      store16(row + 8 * x + lane() / 32 * 4,
              {bits_of(from[r]), bits_of(from[r + 1]), bits_of(from[r + 2]), bits_of(from[r + 3])});
    }
  }

  // Rounded to 16 bits: pieces of eight dims at [piece][row ^ piece % 8].
  PCBENCH_DEVICE void put_rows(Shared<Pack8> to) const {
    PCBENCH_UNROLL
    for (int x = 0; x < D / 8; ++x) {
      Pack8 half;
      PCBENCH_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int r = x % 4 * 4 + 2 * i;
        half.words[i] = narrow<T>(out[x / 4][r]).bits | static_cast<uint32_t>(narrow<T>(out[x / 4][r + 1]).bits) << 16;
      }
      to[(32 * x + (lane() % 32 ^ x % 8)) * 2 + lane() / 32] = half;
    }
  }
};

}  // namespace pcbench::device
