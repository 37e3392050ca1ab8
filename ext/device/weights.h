// How large the 16-bit weights of a softmax are: 2^(score − shift), scores to base 2, under a shift that follows the
// largest score of its row. Sums and log-sum-exps are relative to the same shift: it cancels.
//
// bf16 has float32's exponents. fp16 ends at 2^16, is subnormal below 2^-14 and 0 below 2^-25, and the matrix cores of
// gfx90a take subnormal numbers for 0. Its shift lies 13 below the largest score: what is lost are keys of less than
// 2^-38 of the row's largest weight, on gfx90a of less than 2^-27, 18.7 nats.
#pragma once

// of the include path: the emulator has its own
#include <platform.h>

namespace pcbench::device {

// Exponents: of the largest score's weight where the shift follows it, and how far weights may grow before sums are
// rescaled, which is exact at any time and cheap when it is rare. `first` is the first as a number.
template <class T>
struct Weights {
  static constexpr float first_exponent = 0.0f, last_exponent = 8.0f, first = 1.0f;
};
template <>
struct Weights<half> {
  static constexpr float first_exponent = 13.0f, last_exponent = 15.0f, first = 8192.0f;
};

// The shift of a row whose largest score this is.
template <class T>
PCBENCH_DEVICE float shift_at(float score) {
  return score - Weights<T>::first_exponent;
}

}  // namespace pcbench::device
