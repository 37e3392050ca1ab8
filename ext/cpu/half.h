// 16-bit floats as the CPU's kernels hold them: bfloat16 is a uint16_t, float16 a Half.
#pragma once

#include <cstdint>

namespace pcbench::PCBENCH_ISA {

struct Half {
  uint16_t bits;
};

// Rounded to nearest even.
inline uint16_t to_bf16(float x) {
  if (x != x) {
    return 0x7fc0;
  }
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Rounded to nearest even; infinite from 65520 on.
inline Half to_half(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  constexpr uint32_t infinite = 0x7f800000, too_large = 0x477ff000, least_normal = 0x38800000;
  uint32_t half;
  if (bits >= too_large) {
    half = bits > infinite ? 0x7e00 : 0x7c00;
  } else if (bits < least_normal) {
    // beside 0.5 the last bit of a float is that of a denormal half
    float moved;
    __builtin_memcpy(&moved, &bits, sizeof moved);
    moved += 0.5f;
    __builtin_memcpy(&half, &moved, sizeof half);
    half -= 0x3f000000;
  } else {
    // exponents count from 15 in place of 127
    half = (bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

}  // namespace pcbench::PCBENCH_ISA
