// Rows of codes as float32.
#pragma once

#include "cpu/segments.h"

namespace pcbench::PCBENCH_ISA {

inline float bf16_at(const Floats& x, int64_t i) {
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(x.data)[i]) << 16;
  float wide;
  __builtin_memcpy(&wide, &bits, sizeof wide);
  return wide;
}

inline float from_fp8(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80) << 24, exponent = code >> 3 & 15;
  // an exponent of 0 counts eighths of 2^-6; others count from 7 in place of 127
  const uint32_t bits = sign | (static_cast<uint32_t>(code & 0x7f) << 20) + (120u << 23);
  float wide;
  __builtin_memcpy(&wide, &bits, sizeof wide);
  const float small = static_cast<float>(code & 7) * (sign ? -0x1p-9f : 0x1p-9f);
  // the one code of either sign that is no number
  return (code & 0x7f) == 0x7f ? __builtin_nanf("") : exponent ? wide : small;
}

// to[d] = code of channel d.
template <int D>
inline void widen_codes(const void* rows, Codes codes, int64_t row, float* to) {
  if (codes == Codes::int8) {
    const int8_t* from = static_cast<const int8_t*>(rows) + row * D;
    for (int d = 0; d < D; ++d) {
      to[d] = static_cast<float>(from[d]);
    }
  } else if (codes == Codes::int4) {
    const uint8_t* from = static_cast<const uint8_t*>(rows) + row * (D / 2);
    for (int d = 0; d < D / 2; ++d) {
      to[d] = static_cast<float>(from[d] & 15);
      to[d + D / 2] = static_cast<float>(from[d] >> 4);
    }
  } else {
    const uint8_t* from = static_cast<const uint8_t*>(rows) + row * D;
    for (int d = 0; d < D; ++d) {
      to[d] = from_fp8(from[d]);
    }
  }
}

// Keys [first, first + keys) of a segment, packed into `panels`, and their values as rows of `values`.
template <int D>
inline KeyBlock<float> pack_codes(const KeyRows& rows, const Segment& x, int64_t first, int keys, float* panels,
                                  float* values) {
  const Scales& s = rows.scales;
  // scales and zeros of the channels of the block that the row before was in
  float scale[D], zero[D];
  int64_t held = -1;
  for (int64_t j = 0; j < keys; ++j) {
    const int64_t row = x.start + first + j, block = row / scale_rows;
    for (int d = 0; block != held && d < D; ++d) {
      scale[d] = bf16_at(s.k, block * D + d);
      zero[d] = s.k_zeros.data ? bf16_at(s.k_zeros, block * D + d) : 0.0f;
    }
    held = block;
    float* to = values + j * D;
    widen_codes<D>(rows.k_rows.data, s.codes, row, to);
    for (int d = 0; d < D; ++d) {
      to[d] = to[d] * scale[d] + zero[d];
    }
  }
  for (int j = 0; j < keys; j += panel_keys) {
    pack_panel<D>(values + j * D, D, smaller(panel_keys, keys - j), panels + j * D);
  }
  for (int64_t j = 0; j < keys; ++j) {
    const int64_t row = x.start + first + j;
    const float by = bf16_at(s.v, row), from = s.v_zeros.data ? bf16_at(s.v_zeros, row) : 0.0f;
    float* to = values + j * D;
    widen_codes<D>(rows.v_rows.data, s.codes, row, to);
    for (int d = 0; d < D; ++d) {
      to[d] = to[d] * by + from;
    }
  }
  return {first, keys, panels, values, D};
}

}  // namespace pcbench::PCBENCH_ISA
