// The instructions of ext/cuda/ptx.h on the emulator.
//
// Fragments as NVIDIA documents them: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and
// "ldmatrix". Products are exact, sums are float32. Counts: one a warp for ldmatrix and mma, one a thread for copies.
#pragma once

#include "platform.h"

namespace pcbench::device {

struct Fragment {
  uint32_t r[4];
};

template <class T>
void cp_async16(Shared<T> to, const void* from, bool valid) {
  static int64_t& count = emulator::counter("cp_async16");
  ++count;
  emulator::block().async_copy(to.offset(), from, 16, valid);
}

inline void cp_async_commit() {
  emulator::block().async_commit();
}

template <int pending>
void cp_async_wait() {
  emulator::block().async_wait(pending);
}

// The four matrices, a row of 8 elements from each lane's place.
struct Matrices {
  uint16_t rows[32][8];

  template <class Offsets>
  explicit Matrices(Offsets offset) {
    int64_t offsets[32];
    for (int i = 0; i < 32; ++i) {
      offsets[i] = offset(i);
      std::memcpy(rows[i], emulator::block().shared(offsets[i], 16, 16), 16);
    }
    emulator::count_bank_conflicts(offsets, 32);
  }
};

template <class T>
Fragment ldmatrix_x4(Shared<T> row) {
  return emulator::collective<Fragment>("ldmatrix_x4", row.offset(), [](auto in, auto out, int lanes) {
    static int64_t& count = emulator::counter("ldmatrix_x4");
    ++count;
    const Matrices x(in);
    for (int i = 0; i < lanes; ++i) {
      for (int m = 0; m < 4; ++m) {
        const uint16_t* from = x.rows[8 * m + i / 4] + i % 4 * 2;
        out(i).r[m] = from[0] | static_cast<uint32_t>(from[1]) << 16;
      }
    }
  });
}

template <class T>
Fragment ldmatrix_x4_trans(Shared<T> row) {
  return emulator::collective<Fragment>("ldmatrix_x4_trans", row.offset(), [](auto in, auto out, int lanes) {
    static int64_t& count = emulator::counter("ldmatrix_x4_trans");
    ++count;
    const Matrices x(in);
    for (int i = 0; i < lanes; ++i) {
      for (int m = 0; m < 4; ++m) {
        const auto* from = x.rows + 8 * m + i % 4 * 2;
        out(i).r[m] = from[0][i / 4] | static_cast<uint32_t>(from[1][i / 4]) << 16;
      }
    }
  });
}

template <class T>
float widen_bits(uint32_t x) {
  return widen(T{static_cast<uint16_t>(x)});
}

struct MmaOperands {
  float c[4];
  Fragment a;
  uint32_t b[2];
};

template <class T>
void mma_m16n8k16(float (&c)[4], const Fragment& a, uint32_t b0, uint32_t b1) {
  struct Sums {
    float c[4];
  };
  const MmaOperands mine{{c[0], c[1], c[2], c[3]}, a, {b0, b1}};
  const Sums sums = emulator::collective<Sums>("mma_m16n8k16", mine, [](auto in, auto out, int lanes) {
    static int64_t& count = emulator::counter("mma_m16n8k16");
    ++count;
    float left[16][16], right[16][8], sum[16][8];
    for (int i = 0; i < lanes; ++i) {
      const MmaOperands& x = in(i);
      const int g = i / 4, t = i % 4;
      for (int j = 0; j < 4; ++j) {
        left[g + j % 2 * 8][2 * t + j / 2 * 8] = widen_bits<T>(x.a.r[j]);
        left[g + j % 2 * 8][2 * t + j / 2 * 8 + 1] = widen_bits<T>(x.a.r[j] >> 16);
        sum[g + j / 2 * 8][2 * t + j % 2] = x.c[j];
      }
      for (int j = 0; j < 2; ++j) {
        right[2 * t + j * 8][g] = widen_bits<T>(x.b[j]);
        right[2 * t + j * 8 + 1][g] = widen_bits<T>(x.b[j] >> 16);
      }
    }
    for (int row = 0; row < 16; ++row) {
      for (int k = 0; k < 16; ++k) {
        for (int column = 0; column < 8; ++column) {
          sum[row][column] += left[row][k] * right[k][column];
        }
      }
    }
    for (int i = 0; i < lanes; ++i) {
      for (int j = 0; j < 4; ++j) {
        out(i).c[j] = sum[i / 4 + j / 2 * 8][2 * (i % 4) + j % 2];
      }
    }
  });
  for (int j = 0; j < 4; ++j) {
    c[j] = sums.c[j];
  }
}

inline int afresh(int x) {
  return x;
}

template <class T>
uint32_t narrow_pair(float low, float high) {
  return narrow<T>(low).bits | static_cast<uint32_t>(narrow<T>(high).bits) << 16;
}

}  // namespace pcbench::device
