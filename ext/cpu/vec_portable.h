// Four floats in the compiler's vector extension: every CPU that GCC or Clang knows.
#pragma once

#include <cstdint>

#include "cpu/half.h"

namespace pcbench::PCBENCH_ISA {

// query rows and keys that are worked on together: they stay in a level-2 cache of 512 KiB
constexpr int block_rows = 192;
constexpr int block_keys = 256;

// rows of the register tile, two vectors wide: 12 of 16 registers accumulate
constexpr int tile_rows = 6;

struct Vec {
  static constexpr int width = 4;
  typedef float Floats __attribute__((vector_size(16)));
  typedef int32_t Ints __attribute__((vector_size(16)));
  Floats v;

  static Vec zero() { return all(0.0f); }
  static Vec all(float x) { return {Floats{x, x, x, x}}; }
  static Vec load(const float* p) {
    Vec x;
    __builtin_memcpy(&x.v, p, sizeof x.v);
    return x;
  }
  static Vec load(const uint16_t* bf16) {
    Ints wide{bf16[0], bf16[1], bf16[2], bf16[3]};
    wide = wide << 16;
    return {reinterpret_cast<Floats>(wide)};
  }
  static Vec load(const Half* p) {
    const Ints bits{p[0].bits, p[1].bits, p[2].bits, p[3].bits}, exponent = bits & 0x7c00;
    // exponents count from 127 in place of 15; those of infinities and NaN are the largest of all
    const Ints normal = ((bits & 0x7fff) << 13) + (112 << 23) + ((exponent == 0x7c00) & (112 << 23));
    // a denormal half is a whole number of 2^-24
    const Floats whole = __builtin_convertvector(bits & 0x3ff, Floats) * 0x1p-24f;
    const Ints magnitude = exponent == 0 ? reinterpret_cast<Ints>(whole) : normal;
    return {reinterpret_cast<Floats>(magnitude | (bits & 0x8000) << 16)};
  }
  void store(float* p) const { __builtin_memcpy(p, &v, sizeof v); }

  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
};

// a·b + c, rounded once or twice.
inline Vec fma(Vec a, Vec b, Vec c) {
  return {a.v * b.v + c.v};
}

// The larger lane; b where either is NaN.
inline Vec max(Vec a, Vec b) {
  return {a.v > b.v ? a.v : b.v};
}

inline float sum(Vec a) {
  return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}

// The largest lane; a NaN may be lost.
inline float largest(Vec a) {
  float x = a.v[0] > a.v[1] ? a.v[0] : a.v[1], y = a.v[2] > a.v[3] ? a.v[2] : a.v[3];
  return x > y ? x : y;
}

#include "cpu/exp2_fraction.inc"

// Lanes whose bit is 1 become x.
inline Vec replace(Vec a, uint32_t bits, float x) {
  const Vec::Ints lane{1, 2, 4, 8};
  Vec::Ints word = Vec::Ints{} + static_cast<int32_t>(bits);
  return {(word & lane) == lane ? Vec::all(x).v : a.v};
}

// The largest power that exp2 takes.
constexpr float exp2_end = 128.0f;

// 2^x for x up to the end, where it is infinite; 0 for −inf, NaN for NaN.
inline Vec exp2(Vec x) {
  // 2^−127 has the bits of 0
  x = max(Vec::all(-127.0f), x);
  // a NaN has no integer: its fraction carries it
  Vec::Ints power = __builtin_convertvector(x.v == x.v ? x.v : Vec::zero().v, Vec::Ints);
  Vec::Floats whole = __builtin_convertvector(power, Vec::Floats);
  // the conversion truncates; all ones is −1
  Vec::Ints above = whole > x.v;
  power = power + above;
  whole = whole + __builtin_convertvector(above, Vec::Floats);
  power = (power + 127) << 23;
  return exp2_fraction({x.v - whole}) * Vec{reinterpret_cast<Vec::Floats>(power)};
}

// Denormal numbers stay: there is no portable way to flush them.
struct FlushDenormals {
  FlushDenormals() {}
};

// out[j] lane i = in[i] lane j.
inline void transpose(Vec (&x)[4]) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < i; ++j) {
      float t = x[i].v[j];
      x[i].v[j] = x[j].v[i];
      x[j].v[i] = t;
    }
  }
}

}  // namespace pcbench::PCBENCH_ISA
