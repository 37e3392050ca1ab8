// Rows of codes as float32.
#pragma once

#include "device/row_tile.h"

namespace pcbench::device::portable {

// The number that a byte of e4m3fn holds.
PCBENCH_DEVICE float from_fp8(uint32_t code) {
  const uint32_t sign = (code & 0x80u) << 24, exponent = code >> 3 & 15u;
  // an exponent of 0 counts eighths of 2^-6; others count from 7 in place of 127
  const float wide = float_of_bits(sign | (((code & 0x7fu) << 20) + (120u << 23)));
  const float small = static_cast<float>(code & 7u) * (sign ? -0x1p-9f : 0x1p-9f);
  // the one code of either sign that is no number
  return (code & 0x7fu) == 0x7fu ? float_of_bits(sign | 0x7fc00000u) : exponent ? wide : small;
}

// Keys or values of a quantised store from row `first` on, `count` of them, as a source of RowTile.
template <int D, bool keys>
struct CodeRows {
  const KeyRows& rows;
  int64_t first;
  int32_t count;

  PCBENCH_DEVICE void operator()(int row, int column, float (&x)[8]) const {
    if (row >= count) {
      return;
    }
    const Scales& s = rows.scales;
    const int64_t at = first + row;
    widen(keys ? rows.k_rows.data : rows.v_rows.data, s.codes, at, column, x);
    float scale[8], zero[8] = {};
    if constexpr (keys) {
      const int64_t channel = at / scale_rows * D + column;
      load_scales(s.k, channel, scale);
      if (s.k_zeros.data) {
        load_scales(s.k_zeros, channel, zero);
      }
    } else {
      const float by = element(s.v.data, Float::bf16, at);
      const float from = s.v_zeros.data ? element(s.v_zeros.data, Float::bf16, at) : 0.0f;
      for (int i = 0; i < 8; ++i) {
        scale[i] = by;
        zero[i] = from;
      }
    }
    for (int i = 0; i < 8; ++i) {
      x[i] = x[i] * scale[i] + zero[i];
    }
  }

 private:
  static PCBENCH_DEVICE void load_scales(const Floats& scales, int64_t at, float (&x)[8]) {
    load8(scales.data, Float::bf16, at, x);
  }

  static PCBENCH_DEVICE void widen(const void* data, Codes codes, int64_t row, int column, float (&x)[8]) {
    const uint8_t* bytes = static_cast<const uint8_t*>(data);
    const bool high = codes == Codes::int4 && column >= D / 2;
    bytes += codes == Codes::int4 ? row * (D / 2) + column - (high ? D / 2 : 0) : row * D + column;
    uint64_t eight = 0;
    if (reinterpret_cast<uintptr_t>(bytes) % 8 == 0) {
      eight = load(reinterpret_cast<const uint64_t*>(bytes));
    } else {
      for (int i = 0; i < 8; ++i) {
        eight |= uint64_t{load(bytes + i)} << 8 * i;
      }
    }
    for (int i = 0; i < 8; ++i) {
      const uint32_t byte = static_cast<uint32_t>(eight >> 8 * i & 255u);
      if (codes == Codes::int8) {
        x[i] = static_cast<float>(static_cast<int8_t>(byte));
      } else if (codes == Codes::int4) {
        x[i] = static_cast<float>(high ? byte >> 4 : byte & 15u);
      } else {
        x[i] = from_fp8(byte);
      }
    }
  }
};

}  // namespace pcbench::device::portable
