// Products of pairs of bfloat16 on AMX tiles: 16 rows of 16 pairs times 16 pairs of 16 columns.
#pragma once

#define PCBENCH_TILES

#include "cpu/pairs_avx512.h"

#ifdef PCBENCH_EMULATED_AMX
#include "emulator/amx.h"
#endif

namespace pcbench::PCBENCH_ISA {

// two tiles of rows
constexpr int pair_tile_rows = 32, pair_tile_step = 16;

struct TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

// A thread's tiles while it lives: 0 … 3 accumulate, 4 and 5 hold rows, 6 and 7 columns.
class Tiles {
 public:
  Tiles() {
    // a constant: the intrinsic tells the compiler of its first bytes only
    alignas(64) static constexpr TileConfig config{
        1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

// Tiles 0 … 3 += 16 pairs of `rows` rows, 16 or 32, times those of 32 columns; strides are bytes.
inline void add_products(int rows, const void* a, int64_t a_stride, const uint32_t* b, int64_t b_stride) {
  _tile_loadd(6, b, b_stride);
  _tile_loadd(7, b + Vec::width, b_stride);
  _tile_loadd(4, a, a_stride);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if (rows > 16) {
    _tile_loadd(5, static_cast<const char*>(a) + 16 * a_stride, a_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void store_sums(int rows, float* c, int64_t stride) {
  const int64_t bytes = stride * static_cast<int64_t>(sizeof *c);
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + Vec::width, bytes);
  if (rows > 16) {
    _tile_stored(2, c + 16 * stride, bytes);
    _tile_stored(3, c + 16 * stride + Vec::width, bytes);
  }
}

// c[i, :] = keep[i]·c[i, :] + a[i, :depth]·b for `rows` rows, 16 or 32, and 32 columns; depth, in pairs, is filled up
// to a multiple of 16. Without keep, c is not read.
template <int AStride, int CStride>
inline void multiply_rows(int rows, const uint32_t* a, const uint32_t* b, int64_t b_stride, int64_t depth, float* c,
                          const float* keep) {
  constexpr int width = Vec::width, row = 4;
  if (keep) {
    for (int i = 0; i < rows; ++i) {
      for (int half = 0; half < 2; ++half) {
        float* place = c + i * CStride + half * width;
        (Vec::all(keep[i]) * Vec::load(place)).store(place);
      }
    }
  }
  // the intrinsics that load tiles do not say that they read memory
  __asm__ volatile("" ::: "memory");
  // tiles go by their numerals
  if (keep) {
    _tile_loadd(0, c, CStride * row);
    _tile_loadd(1, c + width, CStride * row);
    if (rows > 16) {
      _tile_loadd(2, c + 16 * CStride, CStride * row);
      _tile_loadd(3, c + 16 * CStride + width, CStride * row);
    }
  } else {
    zero_sums();
  }
  for (int64_t k = 0; k < depth; k += 16, a += 16, b += 16 * b_stride) {
    add_products(rows, a, AStride * row, b, b_stride * row);
  }
  store_sums(rows, c, CStride);
}

}  // namespace pcbench::PCBENCH_ISA
