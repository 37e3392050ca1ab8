// Small arithmetic of device code.
#pragma once

#include "params.h"
#include "platform.h"

namespace pcbench::device {

constexpr float infinity = __builtin_huge_valf();
constexpr float log2_e = 1.44269504088896340736f;
constexpr float ln_2 = 0.69314718055994530942f;

template <class T>
PCBENCH_HOST_DEVICE T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
PCBENCH_HOST_DEVICE T larger(T a, T b) {
  return a < b ? b : a;
}
template <class T>
PCBENCH_HOST_DEVICE T clamped(T x, T low, T high) {
  return larger(low, smaller(x, high));
}

// The largest number or the first NaN.
PCBENCH_DEVICE float larger_or_nan(float a, float b) {
  return b > a || b != b ? b : a;
}

// Weights relative to a maximum: nothing seen yet is −inf, and subtracting 0 leaves exp(−inf) = 0.
PCBENCH_DEVICE float or_zero(float peak) {
  return peak == -infinity ? 0.0f : peak;
}

// e^(x − shift).
PCBENCH_DEVICE float weight(float x, float shift) {
  return exp2((x - shift) * log2_e);
}

// peak + ln(sum of weights relative to it). A score of +inf makes the sum NaN and the log-sum-exp +inf.
PCBENCH_DEVICE float log_sum(float peak, float sum) {
  return sum == 0.0f || peak == infinity ? peak : peak + log2(sum) * ln_2;
}

PCBENCH_DEVICE int32_t entry(const Ints& x, int64_t i, int64_t j = 0) {
  return load(x.data + i * x.strides[0] + j * x.strides[1]);
}

// One element as float32.
PCBENCH_DEVICE float element(const void* data, Float dtype, int64_t i) {
  switch (dtype) {
    case Float::bf16:
      return widen(load(static_cast<const bf16*>(data) + i));
    case Float::f16:
      return widen(load(static_cast<const half*>(data) + i));
    default:
      return load(static_cast<const float*>(data) + i);
  }
}

PCBENCH_DEVICE void put_element(void* data, Float dtype, int64_t i, float x) {
  switch (dtype) {
    case Float::bf16:
      return store(static_cast<bf16*>(data) + i, narrow<bf16>(x));
    case Float::f16:
      return store(static_cast<half*>(data) + i, narrow<half>(x));
    default:
      return store(static_cast<float*>(data) + i, x);
  }
}

// The elements of 16 bytes as float32.
template <class T>
PCBENCH_DEVICE void unpack(const Pack16& pack, float (&x)[16 / sizeof(T)]) {
  for (int i = 0; i < static_cast<int>(16 / sizeof(T)); ++i) {
    if constexpr (sizeof(T) == 4) {
      x[i] = float_of_bits(pack.words[i]);
    } else {
      x[i] = widen(T{static_cast<uint16_t>(pack.words[i / 2] >> i % 2 * 16)});
    }
  }
}

PCBENCH_HOST_DEVICE int64_t bytes_of(Float dtype) {
  return dtype == Float::f32 ? 4 : 2;
}

PCBENCH_DEVICE bool aligned16(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % 16 == 0;
}

}  // namespace pcbench::device
