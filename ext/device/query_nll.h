// query_nll_update: one vocabulary tile of an online log-sum-exp.
//
// A block owns a row; each thread keeps a maximum and a sum over its columns, 16 bytes at a time, and the block merges
// them in the order of the threads. Grid: X blocks. Shared: two floats a thread. Sums are float32. Shapes: QueryNll of
// params.h. Equals pcbench.reference.query_nll_update. Online softmax, Milakov and Gimelshein, arXiv:1805.02867.
#pragma once

#include "device/numbers.h"

namespace pcbench::device {

constexpr int nll_threads = 256;
constexpr int nll_shared_bytes = 2 * nll_threads * static_cast<int>(sizeof(float));

// A running maximum, NaN if there was one, and the sum of weights relative to it.
struct RunningSum {
  float peak = -infinity, sum = 0.0f;

  // Takes numbers in whose maximum is known.
  template <int N>
  PCBENCH_DEVICE void add(const float (&x)[N], int count) {
    float most = peak;
    for (int i = 0; i < N; ++i) {
      most = i < count ? larger_or_nan(most, x[i]) : most;
    }
    const float shift = or_zero(most);
    // what the sum was relative to is gone once a NaN is the maximum
    sum = most == peak ? sum : sum * weight(peak, shift);
    for (int i = 0; i < N; ++i) {
      sum += i < count ? weight(x[i], shift) : 0.0f;
    }
    peak = most;
  }

  PCBENCH_DEVICE void merge(RunningSum other) {
    const float most = larger_or_nan(peak, other.peak), shift = or_zero(most);
    sum = sum * weight(peak, shift) + other.sum * weight(other.peak, shift);
    peak = most;
  }
};

template <class T>
PCBENCH_DEVICE RunningSum sum_of_row(const T* row, int64_t columns) {
  constexpr int pack = 16 / sizeof(T);
  RunningSum running;
  int64_t vector_columns = 0;
  if (aligned16(row)) {
    vector_columns = columns / pack * pack;
    for (int64_t j = int64_t{thread_index()} * pack; j < vector_columns; j += int64_t{block_threads()} * pack) {
      float x[pack];
      unpack<T>(load16(row + j), x);
      running.add(x, pack);
    }
  }
  for (int64_t j = vector_columns + thread_index(); j < columns; j += block_threads()) {
    const float x[1] = {widen(load(row + j))};
    running.add(x, 1);
  }
  return running;
}

template <class T>
PCBENCH_KERNEL(nll_threads, 4)
void query_nll_kernel(PCBENCH_PARAM QueryNll p) {
  const int64_t row = block_index();
  const T* logits = static_cast<const T*>(p.logits.data) + row * p.logits.strides[0];
  RunningSum running = sum_of_row(logits, p.columns);
  Shared<float> peaks = shared<float>(0), sums = shared<float>(nll_shared_bytes / 2);
  peaks[thread_index()] = running.peak;
  sums[thread_index()] = running.sum;
  for (int half_way = block_threads() / 2; half_way > 0; half_way /= 2) {
    barrier();
    if (thread_index() < half_way) {
      running.merge({peaks[thread_index() + half_way], sums[thread_index() + half_way]});
      peaks[thread_index()] = running.peak;
      sums[thread_index()] = running.sum;
    }
  }
  if (thread_index() > 0) {
    return;
  }
  RunningSum total{load(p.row_max + row), load(p.row_sum + row)};
  total.merge(running);
  store(p.row_max + row, total.peak);
  store(p.row_sum + row, total.sum);
  const int64_t column = entry(p.targets, row) - p.first_column;
  if (column >= 0 && column < p.columns) {
    store(p.row_target + row, widen(load(logits + column)));
  }
}

}  // namespace pcbench::device
