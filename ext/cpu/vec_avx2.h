// Eight floats: AVX2, FMA and F16C. Compiled only into cpu/kernels_avx2.cpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/half.h"

namespace pcbench::PCBENCH_ISA {

// query rows and keys that are worked on together: they stay in a level-2 cache of 512 KiB
constexpr int block_rows = 192;
constexpr int block_keys = 256;

// rows of the register tile, two vectors wide: 12 of 16 registers accumulate
constexpr int tile_rows = 6;

struct Vec {
  static constexpr int width = 8;
  __m256 v;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec all(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const uint16_t* bf16) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bf16)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
  }
  static Vec load(const Half* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
};

// a·b + c, rounded once.
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}

// The larger lane; b where either is NaN.
inline Vec max(Vec a, Vec b) {
  return {_mm256_max_ps(a.v, b.v)};
}

inline float sum(Vec a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

// The largest lane; a NaN may be lost.
inline float largest(Vec a) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

#include "cpu/exp2_fraction.inc"

// Lanes whose bit is 1 become x.
inline Vec replace(Vec a, uint32_t bits, float x) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane);
  return {_mm256_blendv_ps(a.v, _mm256_set1_ps(x), _mm256_castsi256_ps(set))};
}

// The largest power that exp2 takes.
constexpr float exp2_end = 128.0f;

// 2^x for x up to the end, where it is infinite; 0 for −inf, NaN for NaN.
inline Vec exp2(Vec x) {
  // 2^−127 has the bits of 0
  x = max(Vec::all(-127.0f), x);
  Vec whole{_mm256_floor_ps(x.v)};
  __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvttps_epi32(whole.v), _mm256_set1_epi32(127)), 23);
  return exp2_fraction(x - whole) * Vec{_mm256_castsi256_ps(power)};
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
inline void transpose(Vec (&x)[8]) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(x[i].v, x[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    x[i].v = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    x[i + 4].v = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

}  // namespace pcbench::PCBENCH_ISA
