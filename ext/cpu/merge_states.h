// merge_states: one attention from attentions over parts of the keys.
//
// A task owns 64 rows; a row's parts are added in ascending order in float32. No scratch.
// Equals pcbench.reference.merge_states. Online softmax, Milakov and Gimelshein, arXiv:1805.02867.
#pragma once

#include "cpu/row_block.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

class Merge {
 public:
  explicit Merge(const MergeStates& p) : p_(p) {}

  void run() {
    constexpr int64_t rows_at_once = 64;
    const int64_t rows = p_.batch * p_.heads * p_.rows;
    auto task = [&](int64_t index, int) {
      for (int64_t row = index * rows_at_once; row < smaller(rows, (index + 1) * rows_at_once); ++row) {
        merge(row);
      }
    };
    for_each_task((rows + rows_at_once - 1) / rows_at_once, task, p_.parts * rows * p_.dim);
  }

 private:
  const float* part_of(const Floats& x, int64_t part, int64_t row, int64_t step) const {
    int64_t i = row % p_.rows, h = row / p_.rows % p_.heads, b = row / p_.rows / p_.heads;
    return static_cast<const float*>(x.data) + part * x.strides[0] + b * x.strides[1] + h * x.strides[2] + i * step;
  }

  float lse_of(int64_t part, int64_t row) const { return *part_of(p_.lses, part, row, 1); }

  void merge(int64_t row) const {
    float peak = -infinity;
    for (int64_t part = 0; part < p_.parts; ++part) {
      peak = larger(peak, lse_of(part, row));
    }
    float safe = peak == -infinity ? 0.0f : peak;
    float* out = p_.out + row * p_.dim;
    for (int64_t d = 0; d < p_.dim; ++d) {
      out[d] = 0.0f;
    }
    float sum = 0.0f;
    for (int64_t part = 0; part < p_.parts; ++part) {
      float lse = lse_of(part, row);
      // a part without keys may hold anything
      if (lse != -infinity) {
        sum += add(part_of(p_.outs, part, row, p_.outs.strides[3]), (lse - safe) * log2_e, out);
      }
    }
    float share = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (int64_t d = 0; d < p_.dim; ++d) {
      out[d] *= share;
    }
    p_.lse[row] = sum == 0.0f || peak == infinity ? peak : peak + static_cast<float>(__builtin_log(sum));
  }

  // Adds 2^power times a part's row and returns that weight.
  float add(const float* part, float power, float* out) const {
    Vec weight = exp2(Vec::all(power));
    int64_t d = 0;
    for (; d + Vec::width <= p_.dim; d += Vec::width) {
      fma(weight, Vec::load(part + d), Vec::load(out + d)).store(out + d);
    }
    float scalar[Vec::width];
    weight.store(scalar);
    for (; d < p_.dim; ++d) {
      out[d] += scalar[0] * part[d];
    }
    return scalar[0];
  }

  const MergeStates& p_;
};

}  // namespace pcbench::PCBENCH_ISA
