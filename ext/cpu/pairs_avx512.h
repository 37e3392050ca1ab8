// Sixteen pairs of bfloat16, each multiplied with another pair and added to a float: AVX512-BF16.
#pragma once

#include "cpu/vec_avx512.h"

#define PCBENCH_PAIRS

namespace pcbench::PCBENCH_ISA {

#ifndef PCBENCH_TILES
// rows of the register tile, and by how many a smaller one is smaller
constexpr int pair_tile_rows = 12, pair_tile_step = 4;
#endif

struct Pairs {
  __m512i v;
};

inline Pairs load(const uint32_t* p) {
  return {_mm512_loadu_si512(p)};
}

inline Pairs broadcast(const uint32_t* p) {
  int x;
  __builtin_memcpy(&x, p, sizeof x);
  return {_mm512_set1_epi32(x)};
}

inline Vec fma(Pairs a, Pairs b, Vec c) {
  return {_mm512_dpbf16_ps(c.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}

// to[d] = (even[d], odd[d]) for 16 columns.
inline void zip(const uint16_t* even, const uint16_t* odd, uint32_t* to) {
  auto wide = [](const uint16_t* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  };
  _mm512_storeu_si512(to, _mm512_or_si512(wide(even), _mm512_slli_epi32(wide(odd), 16)));
}

// Two vectors rounded to bfloat16, one behind the other; `to` may be where they came from.
inline void store_narrow(Vec first, Vec second, uint32_t* to) {
  _mm512_storeu_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.v, first.v)));
}

// 32 bfloat16 times the sign of a number: −1, 0 or 1.
inline void copy_signed(const uint16_t* from, float number, uint32_t* to) {
  const __m512i sign = _mm512_set1_epi32(number < 0.0f ? static_cast<int>(0x80008000u) : 0);
  _mm512_storeu_si512(to, number == 0.0f ? sign : _mm512_xor_si512(_mm512_loadu_si512(from), sign));
}

}  // namespace pcbench::PCBENCH_ISA
