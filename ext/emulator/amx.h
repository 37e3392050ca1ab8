// AMX tiles of bfloat16 without the unit: every thread has eight of 16 rows of 64 bytes. Sums are made as VDPBF16PS
// makes them. Sizes other than these are not emulated.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace pcbench::emulator {

struct Tile {
  alignas(64) uint8_t rows[16][64];
};

inline Tile& tile(int number) {
  static thread_local Tile tiles[8];
  return tiles[number];
}

inline void load(int number, const void* from, int64_t stride) {
  for (int i = 0; i < 16; ++i) {
    std::memcpy(tile(number).rows[i], static_cast<const uint8_t*>(from) + i * stride, 64);
  }
}

inline void store(int number, void* to, int64_t stride) {
  for (int i = 0; i < 16; ++i) {
    std::memcpy(static_cast<uint8_t*>(to) + i * stride, tile(number).rows[i], 64);
  }
}

inline void multiply(int sums, int left, int right) {
  for (int i = 0; i < 16; ++i) {
    __m512 sum = _mm512_load_ps(tile(sums).rows[i]);
    for (int k = 0; k < 16; ++k) {
      int pair;
      std::memcpy(&pair, tile(left).rows[i] + 4 * k, 4);
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)),
                             reinterpret_cast<__m512bh>(_mm512_load_si512(tile(right).rows[k])));
    }
    _mm512_store_ps(tile(sums).rows[i], sum);
  }
}

}  // namespace pcbench::emulator

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) static_cast<void>(config)
#define _tile_release() static_cast<void>(0)
#define _tile_zero(number) std::memset(&pcbench::emulator::tile(number), 0, sizeof(pcbench::emulator::Tile))
#define _tile_loadd(number, from, stride) pcbench::emulator::load(number, from, stride)
#define _tile_stored(number, to, stride) pcbench::emulator::store(number, to, stride)
#define _tile_dpbf16ps(sums, left, right) pcbench::emulator::multiply(sums, left, right)
