// Sixteen floats: AVX-512 F, DQ, BW, VL. Compiled only into cpu/kernels_avx512.cpp, _avx512_bf16.cpp and _amx.cpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/half.h"

namespace pcbench::PCBENCH_ISA {

// query rows and keys that are worked on together: they stay in a level-2 cache of 1 MiB
constexpr int block_rows = 192;
constexpr int block_keys = 512;

// rows of the register tile, two vectors wide: 24 of 32 registers accumulate
constexpr int tile_rows = 12;

struct Vec {
  static constexpr int width = 16;
  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec all(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const uint16_t* bf16) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bf16)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  static Vec load(const Half* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
};

// a·b + c, rounded once.
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

// The larger lane; b where either is NaN.
inline Vec max(Vec a, Vec b) {
  return {_mm512_max_ps(a.v, b.v)};
}

inline float sum(Vec a) {
  return _mm512_reduce_add_ps(a.v);
}

// The largest lane; a NaN may be lost.
inline float largest(Vec a) {
  return _mm512_reduce_max_ps(a.v);
}

#include "cpu/exp2_fraction.inc"

// Lanes whose bit is 1 become x.
inline Vec replace(Vec a, uint32_t bits, float x) {
  return {_mm512_mask_mov_ps(a.v, static_cast<__mmask16>(bits), _mm512_set1_ps(x))};
}

// The largest power that exp2 takes: any.
constexpr float exp2_end = __builtin_inff();

// 2^x; 0 for −inf, NaN for NaN.
inline Vec exp2(Vec x) {
  constexpr int round_down = 1;
  Vec fraction{_mm512_reduce_ps(x.v, round_down)};
  return {_mm512_scalef_ps(exp2_fraction(fraction).v, x.v)};
}

// Denormal numbers are 0 while it lives: they cost a hundred cycles each.
class FlushDenormals {
 public:
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

// out[j] lane i = in[i] lane j.
inline void transpose(Vec (&x)[16]) {
  __m512 a[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  __m512 b[16];
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  for (int j = 0; j < 4; ++j) {
    __m512 even01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), odd01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
    __m512 even23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
    __m512 odd23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    x[j].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    x[4 + j].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    x[8 + j].v = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    x[12 + j].v = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}

}  // namespace pcbench::PCBENCH_ISA
