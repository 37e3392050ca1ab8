// select_indices: which keys a (b, kv-head) of select_tokens keeps.
//
// Masses are summed in float32 in the order of the heads and pooled by windows of doubling width; the least rank that
// is kept comes from a radix select of 11, 11 and 10 bits. Scratch: 12 bytes a key, 4 a key that pooling reaches beyond
// the row's ends. Equals pcbench.reference.select_tokens. SnapKV, arXiv:2404.14469; ParallelComp, arXiv:2502.14317v2.
#pragma once

#include "cpu/row_block.h"
#include "params.h"

namespace pcbench::PCBENCH_ISA {

class Selection {
 public:
  // Floats and words of scratch, full cache lines.
  static int64_t scratch_words(const SelectTokens& p) {
    constexpr int64_t line = 16;
    return (scores_of(p.keys, smaller(p.pool / 2, p.keys)) + 2 * p.keys + line - 1) / line * line;
  }

  Selection(const SelectTokens& p, int64_t pair, float* scratch)
      : p_(p), b_(pair / p.kv_heads), h_(pair % p.kv_heads), length_(p.keys), budget_(p.capacity) {
    if (p.key_lengths.data) {
      length_ = larger<int64_t>(0, smaller<int64_t>(p.keys, value(p.key_lengths)));
    }
    if (p.budgets.data) {
      budget_ = larger<int64_t>(0, smaller<int64_t>(p.capacity, value(p.budgets)));
    }
    // a wider pool reaches no more keys
    reach_ = smaller(p.pool / 2, length_);
    scores_ = scratch;
    ranks_ = reinterpret_cast<uint32_t*>(scratch + scores_of(p.keys, smaller(p.pool / 2, p.keys)));
    rest_ = ranks_ + p.keys;
  }

  // Writes the kept indices in ascending order, −1 behind them, and their number.
  void run() {
    sum_group();
    pool();
    const int64_t keep = smaller(budget_, rank());
    int32_t* index = p_.index + (b_ * p_.kv_heads + h_) * p_.capacity;
    if (keep) {
      write(index, keep, least(keep));
    }
    for (int64_t i = keep; i < p_.capacity; ++i) {
      index[i] = -1;
    }
    p_.lengths[b_ * p_.kv_heads + h_] = static_cast<int32_t>(keep);
  }

 private:
  // a key that cannot be kept; every score ranks above it
  static constexpr uint32_t none = 0;
  // of an infinite score
  static constexpr uint32_t first = 0xff800000;

  // The last rank that is kept, and how many keys of it.
  struct Least {
    uint32_t rank;
    int64_t ties;
  };

  // Vectors are read and written beyond the last score.
  static int64_t scores_of(int64_t keys, int64_t reach) { return keys + 2 * reach + 2 * Vec::width; }

  int64_t value(const Ints& x) const { return x.data[b_ * x.strides[0] + h_ * x.strides[1]]; }

  // scores[reach + j]: the sum of the group, −inf for NaN and beyond the keys.
  void sum_group() const {
    const float* mass = static_cast<const float*>(p_.mass.data) + b_ * p_.mass.strides[0];
    mass += h_ * p_.group * p_.mass.strides[1];
    const int64_t total = scores_of(length_, reach_);
    int64_t j = -reach_;
    float* score = scores_ + reach_;
    for (; j < 0; ++j) {
      score[j] = -infinity;
    }
    for (; j + Vec::width <= length_; j += Vec::width) {
      Vec sum = Vec::zero();
      for (int64_t g = 0; g < p_.group; ++g) {
        sum = sum + Vec::load(mass + g * p_.mass.strides[1] + j);
      }
      max(sum, Vec::all(-infinity)).store(score + j);
    }
    for (; j < length_; ++j) {
      float sum = 0.0f;
      for (int64_t g = 0; g < p_.group; ++g) {
        sum += mass[g * p_.mass.strides[1] + j];
      }
      score[j] = sum == sum ? sum : -infinity;
    }
    for (; j < total - reach_; ++j) {
      score[j] = -infinity;
    }
  }

  // scores[j]: the largest of the pool around key j.
  void pool() const {
    const int64_t size = length_ + 2 * reach_, width = 2 * reach_ + 1;
    // the largest of `half` scores from each place on: two windows of it cover a pool
    int64_t half = 1;
    for (; 2 * half <= width; half *= 2) {
      for (int64_t j = 0; j + half < size; j += Vec::width) {
        max(Vec::load(scores_ + j), Vec::load(scores_ + j + half)).store(scores_ + j);
      }
    }
    for (int64_t j = 0; j < length_; j += Vec::width) {
      // −0 equals 0
      (max(Vec::load(scores_ + j), Vec::load(scores_ + j + width - half)) + Vec::zero()).store(scores_ + j);
    }
  }

  // Integers in the order of the pooled scores; returns how many keys can be kept.
  int64_t rank() const {
    for (int64_t j = 0; j < length_; ++j) {
      const uint32_t bits = __builtin_bit_cast(uint32_t, scores_[j]);
      ranks_[j] = bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
    }
    for (int64_t j = 0; j < smaller(p_.sink, length_); ++j) {
      ranks_[j] = first;
    }
    for (int64_t j = larger<int64_t>(0, length_ - p_.recent); j < length_; ++j) {
      ranks_[j] = first;
    }
    if (p_.protect) {
      const bool* protect = p_.protect + b_ * p_.protect_batch;
      for (int64_t j = 0; j < length_; ++j) {
        ranks_[j] = protect[j] ? first : ranks_[j];
      }
    }
    if (!p_.evicted.data) {
      return length_;
    }
    const int32_t* evicted = p_.evicted.data + b_ * p_.evicted.strides[0] + h_ * p_.evicted.strides[1];
    int64_t count = length_;
    for (int64_t j = 0; j < length_; ++j) {
      if (static_cast<uint32_t>(evicted[j / 32]) >> j % 32 & 1) {
        ranks_[j] = none;
        --count;
      }
    }
    return count;
  }

  // Of the `keep` largest ranks; at least so many are no `none`.
  Least least(int64_t keep) const {
    const uint32_t* from = ranks_;
    int64_t count = length_;
    uint32_t found = 0;
    int bits = 32;
    // many ranks: those that share the next digit with the one that is looked for go on
    while (count > few_ranks && bits > digit_bits) {
      bits -= digit_bits;
      const uint32_t digit = digit_of(from, count, bits, keep);
      found |= digit << bits;
      count = copy_with_digit(from, count, bits, digit);
      from = rest_;
    }
    // few ranks: bit by bit
    for (uint32_t bit = 1u << (bits - 1); bit; bit >>= 1) {
      int32_t above = 0;
      for (int64_t j = 0; j < count; ++j) {
        above += from[j] >= (found | bit);
      }
      found |= above >= keep ? bit : 0;
    }
    int32_t above = 0;
    for (int64_t j = 0; j < count; ++j) {
      above += from[j] > found;
    }
    return {found, keep - above};
  }

  // The digit at `shift` of the `keep`-th largest rank; `keep` is then counted among those of that digit.
  static uint32_t digit_of(const uint32_t* from, int64_t count, int shift, int64_t& keep) {
    constexpr uint32_t mask = (1u << digit_bits) - 1;
    // two tables: equal neighbours do not wait for each other
    int32_t counts[2][mask + 1] = {};
    int64_t j = 0;
    for (; j + 2 <= count; j += 2) {
      ++counts[0][from[j] >> shift & mask];
      ++counts[1][from[j + 1] >> shift & mask];
    }
    if (j < count) {
      ++counts[0][from[j] >> shift & mask];
    }
    uint32_t digit = mask;
    for (int64_t here; (here = counts[0][digit] + counts[1][digit]) < keep; --digit) {
      keep -= here;
    }
    return digit;
  }

  // Copies the ranks with this digit to the front of rest; returns how many there are.
  int64_t copy_with_digit(const uint32_t* from, int64_t count, int shift, uint32_t digit) const {
    constexpr uint32_t mask = (1u << digit_bits) - 1;
    int64_t left = 0;
    for (int64_t j = 0; j < count; j += panel_keys) {
      const int64_t end = smaller<int64_t>(count, j + panel_keys);
      uint32_t any = 0;
      for (int64_t i = j; i < end; ++i) {
        any |= (from[i] >> shift & mask) == digit;
      }
      for (int64_t i = j; any && i < end; ++i) {
        const uint32_t rank = from[i];
        rest_[left] = rank;
        left += (rank >> shift & mask) == digit;
      }
    }
    return left;
  }

  void write(int32_t* index, int64_t keep, Least least) const {
    int64_t count = 0;
    for (int64_t j = 0; j < length_ && count < keep; j += panel_keys) {
      const int64_t keys = smaller<int64_t>(panel_keys, length_ - j);
      uint32_t most = 0;
      for (int64_t i = j; i < j + keys; ++i) {
        most = larger(most, ranks_[i]);
      }
      if (most < least.rank) {
        continue;
      }
      for (int64_t i = j; i < j + keys && count < keep; ++i) {
        if (ranks_[i] > least.rank || (ranks_[i] == least.rank && least.ties-- > 0)) {
          index[count++] = static_cast<int32_t>(i);
        }
      }
    }
  }

  static constexpr int digit_bits = 11;
  // so many are counted faster bit by bit than by digit
  static constexpr int64_t few_ranks = 1024;

  const SelectTokens& p_;
  const int64_t b_, h_;
  int64_t length_, budget_, reach_;
  float* scores_;
  uint32_t *ranks_, *rest_;
};

}  // namespace pcbench::PCBENCH_ISA
