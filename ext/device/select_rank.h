// select_tokens: the rank of a key, and the search for the least rank that is kept.
//
// A rank is an unsigned integer in the order of the pooled scores; 0 is a key that must not be kept.
#pragma once

#include "device/warps.h"

namespace pcbench::device {

struct SelectCall {
  SelectTokens p;
  int32_t shares, share_rows;  // blocks of a (b, hkv), and the kept rows that each copies
  bool packed;                 // rows can be copied 16 bytes at a time
  uint32_t* ranks;             // [B·Hkv, S], null where a block ranks its keys itself
};

// The keys of one (b, hkv).
struct SelectedHead {
  int64_t b, h;
  int32_t length, budget;

  PCBENCH_DEVICE SelectedHead(const SelectTokens& p, int64_t pair)
      : b(pair / p.kv_heads),
        h(pair % p.kv_heads),
        length(static_cast<int32_t>(p.keys)),
        budget(static_cast<int32_t>(p.capacity)) {
    if (p.key_lengths.data) {
      length = clamped(entry(p.key_lengths, b, h), 0, length);
    }
    if (p.budgets.data) {
      budget = clamped(entry(p.budgets, b, h), 0, budget);
    }
  }

  // Mass of the group, its heads added in their order; NaN counts as −inf.
  PCBENCH_DEVICE float group_mass(const SelectTokens& p, int32_t j) const {
    const float* mass = static_cast<const float*>(p.mass.data) + b * p.mass.strides[0] + j;
    float total = load(mass + h * p.group * p.mass.strides[1]);
    for (int64_t g = 1; g < p.group; ++g) {
      total += load(mass + (h * p.group + g) * p.mass.strides[1]);
    }
    return total != total ? -infinity : total;
  }

  PCBENCH_DEVICE bool comes_first(const SelectTokens& p, int32_t j) const {
    return j < p.sink || j >= length - p.recent || (p.protect && load(p.protect + b * p.protect_batch + j));
  }

  PCBENCH_DEVICE bool evicted(const SelectTokens& p, int32_t j) const {
    if (!p.evicted.data) {
      return false;
    }
    const int32_t* words = p.evicted.data + b * p.evicted.strides[0] + h * p.evicted.strides[1];
    return static_cast<uint32_t>(load(words + j / 32)) >> j % 32 & 1u;
  }

  // `masses` holds the group's masses of the keys [first, …); those that `pool` reaches must be there.
  PCBENCH_DEVICE uint32_t rank(const SelectTokens& p, int32_t j, Shared<float> masses, int32_t first) const {
    if (j >= length || evicted(p, j)) {
      return 0;
    }
    float x = infinity;
    if (!comes_first(p, j)) {
      const int32_t reach = static_cast<int32_t>(smaller(p.pool / 2, p.keys));
      x = -infinity;
      for (int32_t i = larger(0, j - reach); i <= smaller(length - 1, j + reach); ++i) {
        x = larger(x, masses[i - first]);
      }
    }
    // −0 equals 0
    const uint32_t bits = bits_of(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }
};

// Shared memory of a selecting block, in bytes.
// First the masses of the row lie there, then all of the rest.
constexpr int select_totals = 0;  // 2·32 numbers
constexpr int select_picks = 256;
constexpr int select_counts = 512;
constexpr int select_bins = 2048;
constexpr int select_list = select_counts + select_bins * 4;  // the indices of the share

// Ranks of the keys t, t + threads, …: in registers, or in global memory where Held is 0.
template <int Held>
struct Ranks {
  uint32_t held[Held ? Held : 1];
  const uint32_t* stored;
  int32_t length;

  // f(key, rank), in step over the block: the keys of a step are neighbours.
  template <class F>
  PCBENCH_DEVICE void for_each(F f) const {
    const int32_t threads = block_threads(), t = thread_index();
    if constexpr (Held > 0) {
#pragma unroll
      for (int i = 0; i < Held; ++i) {
        if (i * threads < length) {
          f(i * threads + t, held[i]);
        }
      }
    } else {
      for (int32_t first = 0; first < length; first += threads) {
        f(first + t, first + t < length ? load(stored + first + t) : 0u);
      }
    }
  }
};

// The kept keys: all above `least`, and the first `ties` that equal it.
struct Threshold {
  uint32_t least;
  int32_t ties, kept;
};

// Radix select: 11, 11 and 10 bits from the top.
template <int Held>
PCBENCH_DEVICE Threshold find_threshold(const Ranks<Held>& ranks, int32_t budget) {
  Shared<int32_t> totals = shared<int32_t>(select_totals), picks = shared<int32_t>(select_picks);
  Shared<int32_t> bins = shared<int32_t>(select_counts);
  const int32_t own_bins = select_bins / block_threads();
  uint32_t found = 0, known = 0;
  int32_t wanted = budget, kept = 0;
  for (int round = 0; round < 3; ++round) {
    const int shift = round == 0 ? 21 : round == 1 ? 10 : 0;
    const uint32_t digits = round == 2 ? 0x3ffu : 0x7ffu;
    for (int i = thread_index(); i < select_bins; i += block_threads()) {
      bins[i] = 0;
    }
    barrier();
    ranks.for_each([&](int32_t, uint32_t rank) {
      if (rank && (rank & known) == found) {
        atomic_add(bins + (rank >> shift & digits), 1);
      }
    });
    barrier();
    // a thread's bins descend from the one before's
    const int32_t top = select_bins - 1 - thread_index() * own_bins;
    int32_t own = 0;
    for (int i = 0; i < own_bins; ++i) {
      own += bins[top - i];
    }
    const Scan above = block_scan(own, totals);
    if (round == 0) {
      kept = wanted = smaller(budget, static_cast<int32_t>(above.total));
    }
    if (above.before < wanted && wanted <= above.before + own) {
      int32_t before = above.before, bin = top;
      while (before + bins[bin] < wanted) {
        before += bins[bin--];
      }
      picks[0] = bin;
      picks[1] = wanted - before;
    }
    barrier();
    if (kept == 0) {
      return {0, 0, 0};
    }
    found |= static_cast<uint32_t>(picks[0]) << shift;
    known |= digits << shift;
    wanted = picks[1];
  }
  return {found, wanted, kept};
}

}  // namespace pcbench::device
