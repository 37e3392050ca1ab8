// Register tiles of a matrix product, and the packed layout of keys they read.
#pragma once

#include <cstdint>

namespace pcbench::PCBENCH_ISA {

// keys of a panel: one word of eviction bits
constexpr int panel_keys = 32;
constexpr int tile_columns = 2 * Vec::width;
// a row block that is no multiple of tile_rows ends in a smaller tile
constexpr int tile_step = tile_rows / 3;

template <class T>
inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
inline T larger(T a, T b) {
  return a > b ? a : b;
}

// c[i, :] = keep[i]·c[i, :] + a[i, :depth]·b for Rows rows and tile_columns columns; without keep, c is not read.
template <int Rows, int AStride, int CStride>
[[gnu::always_inline]] inline void multiply_tile(const float* a, const float* b, int64_t b_stride, int64_t depth,
                                                 float* c, const float* keep) {
  constexpr int width = Vec::width;
  Vec sums[Rows][2];
  for (int i = 0; i < Rows; ++i) {
    sums[i][0] = sums[i][1] = Vec::zero();
  }
  auto multiply = [&](int64_t count, Vec(&to)[Rows][2]) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < count; ++k, ++a, b += b_stride) {
      Vec left = Vec::load(b), right = Vec::load(b + width);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        Vec x = Vec::all(a[i * AStride]);
        to[i][0] = fma(x, left, to[i][0]);
        to[i][1] = fma(x, right, to[i][1]);
      }
    }
  };
  if constexpr (Rows == tile_step) {
    // it has registers to spare: sums of short stretches round less than one long sum
    constexpr int64_t stretch = 16;
    for (; depth > 0; depth -= stretch) {
      Vec part[Rows][2];
      for (int i = 0; i < Rows; ++i) {
        part[i][0] = part[i][1] = Vec::zero();
      }
      multiply(smaller(depth, stretch), part);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        sums[i][0] = sums[i][0] + part[i][0];
        sums[i][1] = sums[i][1] + part[i][1];
      }
    }
  } else {
    multiply(depth, sums);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    float* out = c + i * CStride;
    if (keep) {
      Vec share = Vec::all(keep[i]);
      sums[i][0] = fma(share, Vec::load(out), sums[i][0]);
      sums[i][1] = fma(share, Vec::load(out + width), sums[i][1]);
    }
    sums[i][0].store(out);
    sums[i][1].store(out + width);
  }
}

// The same for `rows` rows, a multiple of tile_step up to tile_rows.
template <int AStride, int CStride>
inline void multiply_rows(int rows, const float* a, const float* b, int64_t b_stride, int64_t depth, float* c,
                          const float* keep) {
  if (rows == tile_rows) {
    multiply_tile<tile_rows, AStride, CStride>(a, b, b_stride, depth, c, keep);
    return;
  }
  for (int top = 0; top < rows; top += tile_step) {
    multiply_tile<tile_step, AStride, CStride>(a + top * AStride, b, b_stride, depth, c + top * CStride,
                                               keep ? keep + top : nullptr);
  }
}

// One panel of keys, transposed: to[d, j] = k[j, d] for j < keys, 0 for the rest of the panel.
template <int D, class T>
inline void pack_panel(const T* k, int64_t row, int keys, float* to) {
  constexpr int width = Vec::width;
  for (int first = 0; first < panel_keys; first += width) {
    for (int d = 0; d < D; d += width) {
      Vec block[width];
      for (int j = 0; j < width; ++j) {
        block[j] = first + j < keys ? Vec::load(k + (first + j) * row + d) : Vec::zero();
      }
      transpose(block);
      for (int j = 0; j < width; ++j) {
        block[j].store(to + (d + j) * panel_keys + first);
      }
    }
  }
}

// Rounded to nearest even.
inline uint16_t to_bf16(float x) {
  if (x != x) {
    return 0x7fc0;
  }
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// to[j, :] = from[j, :] in float32.
template <int D, class T>
inline void copy_rows(const T* from, int64_t row, int64_t rows, float* to) {
  for (int64_t j = 0; j < rows; ++j) {
    for (int d = 0; d < D; d += Vec::width) {
      Vec::load(from + j * row + d).store(to + j * D + d);
    }
  }
}

}  // namespace pcbench::PCBENCH_ISA
