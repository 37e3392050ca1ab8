// The names of ext/hip/gcn.h on emulated waves of 64 lanes.
#pragma once

#include "matrix_inputs.h"
#include "platform.h"

#define PCBENCH_UNROLL

namespace pcbench::device {

// As on gfx942.
constexpr int dies = 8;

struct alignas(8) Operand {
  uint32_t words[2];
};

struct Tile {
  float values[16];

  float& operator[](int i) { return values[i]; }
  float operator[](int i) const { return values[i]; }
};

inline Tile& operator*=(Tile& x, float factor) {
  for (float& value : x.values) {
    value *= factor;
  }
  return x;
}

struct Pair {
  float x, y;
};

inline Pair& operator+=(Pair& a, Pair b) {
  return a = {a.x + b.x, a.y + b.y};
}
inline Pair multiply_add(Pair a, float factor, float more) {
  return {std::fma(a.x, factor, more), std::fma(a.y, factor, more)};
}

struct MatrixOperands {
  Operand a, b;
  Tile sum;
};

template <class T>
void multiply_32x32x8(Tile& sum, Operand a, Operand b) {
  static_assert(warp_width == 64);
  sum = emulator::collective<Tile>("mfma", MatrixOperands{a, b, sum}, [](auto in, auto out, int) {
    static int64_t& count = emulator::counter("mfma_32x32x8");
    ++count;
    constexpr int rows = 32, depth = 8;
    const bool flushes = emulator::flushes_subnormal_inputs();
    const auto number = [&](uint32_t word, int i) {
      const float x = widen(T{static_cast<uint16_t>(word >> 16 * (i % 2))});
      return std::is_same_v<T, half> && flushes && std::fabs(x) < 0x1p-14f ? 0.0f : x;
    };
    float a[rows][depth], b[depth][rows];
    for (int l = 0; l < 64; ++l) {
      for (int i = 0; i < 4; ++i) {
        const int k = 4 * (l / 32) + i;
        a[l % 32][k] = number(in(l).a.words[i / 2], i);
        b[k][l % 32] = number(in(l).b.words[i / 2], i);
      }
    }
    for (int l = 0; l < 64; ++l) {
      for (int r = 0; r < 16; ++r) {
        float x = in(l).sum[r];
        for (int k = 0; k < depth; ++k) {
          x += a[8 * (r / 4) + 4 * (l / 32) + r % 4][k] * b[k][l % 32];
        }
        out(l)[r] = x;
      }
    }
  });
}

template <class T>
uint32_t pack_weights(float low, float high) {
  static int64_t& count = emulator::counter("packed weights");
  ++count;
  if constexpr (std::is_same_v<T, bf16>) {
    return (bits_of(low) + 0x8000u) >> 16 | ((bits_of(high) + 0x8000u) & 0xffff0000u);
  } else {
    return narrow<half>(low).bits | static_cast<uint32_t>(narrow<half>(high).bits) << 16;
  }
}

inline uint32_t low_halves(uint32_t first, uint32_t second) {
  return (first & 0xffffu) | second << 16;
}
inline uint32_t high_halves(uint32_t first, uint32_t second) {
  return first >> 16 | (second & 0xffff0000u);
}

struct Buffer {
  const char* from;
  int bytes;
};

inline Buffer buffer(const void* from, int bytes) {
  return {static_cast<const char*>(from), bytes};
}

template <class T>
T load_within(const Buffer& from, int offset) {
  if (offset < 0) {
    emulator::block().fail("an offset into a buffer must be >= 0, got " + std::to_string(offset));
  }
  return offset + static_cast<int>(sizeof(T)) <= from.bytes ? load(reinterpret_cast<const T*>(from.from + offset))
                                                            : T{};
}
inline uint32_t load4(Buffer from, int offset) {
  return load_within<uint32_t>(from, offset);
}
inline Pack16 load16(Buffer from, int offset) {
  return load_within<Pack16>(from, offset);
}

template <int level>
void priority() {}

inline float other_half(float x) {
  static int64_t& count = emulator::counter("exchanges");
  count += lane() == 0;
  return shuffle_xor(x, 32);
}

template <int reads, int multiplications>
void schedule() {}

inline void keep_order() {}
inline void made_first(Tile&) {}
inline void phase_barrier() {
  barrier();
}

}  // namespace pcbench::device
