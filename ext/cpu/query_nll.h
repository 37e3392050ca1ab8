// query_nll_update: one vocabulary tile of an online log-sum-exp.
//
// A task owns a row, whose sum is float32 in one vector. No scratch.
// Equals pcbench.reference.query_nll_update. Online softmax, Milakov and Gimelshein, arXiv:1805.02867.
#pragma once

#include "cpu/row_block.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

template <class T>
class Nll {
 public:
  explicit Nll(const QueryNll& p) : p_(p) {}

  void run() {
    auto task = [&](int64_t row, int) { update(row); };
    for_each_task(p_.rows, task, p_.rows * p_.columns);
  }

 private:
  // Calls f(vector) for the tile's columns; the last vector is filled up with −inf.
  template <class F>
  [[gnu::always_inline]] void for_columns(const T* logits, F f) const {
    int64_t j = 0;
    for (; j + Vec::width <= p_.columns; j += Vec::width) {
      f(Vec::load(logits + j));
    }
    if (j < p_.columns) {
      T rest[Vec::width];
      for (int i = 0; i < Vec::width; ++i) {
        rest[i] = logits[smaller(j + i, p_.columns - 1)];
      }
      f(replace(Vec::load(rest), ~0u << (p_.columns - j), -infinity));
    }
  }

  static float widen(T x) {
    T row[Vec::width] = {x};
    float wide[Vec::width];
    Vec::load(row).store(wide);
    return wide[0];
  }

  void update(int64_t row) const {
    const T* logits = static_cast<const T*>(p_.logits.data) + row * p_.logits.strides[0];
    Vec peaks = Vec::all(-infinity);
    for_columns(logits, [&](Vec x) { peaks = max(peaks, x); });
    float before = p_.row_max[row], peak = larger(before, largest(peaks));
    float safe = peak == -infinity ? 0.0f : peak;
    Vec total = Vec::zero();
    for_columns(logits, [&](Vec x) { total = total + exp2((x - Vec::all(safe)) * Vec::all(log2_e)); });
    float kept[Vec::width];
    // the polynomial's 2^0 is one bit below 1, which many tiles would add up
    (before == safe ? Vec::all(1.0f) : exp2(Vec::all((before - safe) * log2_e))).store(kept);
    float result = p_.row_sum[row] * kept[0] + sum(total);
    p_.row_max[row] = result == result ? peak : peak_or_nan(logits, before, peak);
    p_.row_sum[row] = result;
    int64_t column = p_.targets.data[row * p_.targets.strides[0]] - p_.first_column;
    if (column >= 0 && column < p_.columns) {
      p_.row_target[row] = widen(logits[column]);
    }
  }

  // Vector maxima lose a NaN; infinities alone make the sum NaN, too.
  float peak_or_nan(const T* logits, float before, float peak) const {
    for (int64_t j = 0; j < p_.columns; ++j) {
      float x = widen(logits[j]);
      if (x != x) {
        return x;
      }
    }
    return before == before ? peak : before;
  }

  const QueryNll& p_;
};

}  // namespace pcbench::PCBENCH_ISA
