// Register tiles of a matrix product, and the packed layout of keys they read.
#pragma once

#include <cstdint>

namespace pcbench::PCBENCH_ISA {

// keys of a panel: one word of eviction bits
constexpr int panel_keys = 32;
constexpr int tile_columns = 2 * Vec::width;

// What products of bfloat16 are made of: two neighbours along the sum where the instruction set multiplies such pairs,
// else floats, as those of float16 and float32 everywhere.
#ifdef PCBENCH_PAIRS
using Narrow = uint32_t;
#else
using Narrow = float;
#endif

// What a thread has set while it runs a task.
#ifdef PCBENCH_TILES
struct TaskGuard {
  FlushDenormals denormals;
  Tiles tiles;
};
#else
using TaskGuard = FlushDenormals;
#endif

template <class T>
struct ElementOf {
  using type = float;
};
template <>
struct ElementOf<uint16_t> {
  using type = Narrow;
};

template <class E>
constexpr bool is_pair = false;
template <>
constexpr bool is_pair<uint32_t> = true;

template <class T>
using Element = ElementOf<T>::type;

// Elements of a row of D.
template <int D, class E>
constexpr int depth_of = is_pair<E> ? D / 2 : D;

// Rows of a register tile; a row block that is no multiple ends in a smaller tile, a multiple of the step.
template <class E>
constexpr int tile_rows_of = tile_rows;
template <class E>
constexpr int tile_step_of = tile_rows / 3;
#ifdef PCBENCH_PAIRS
template <>
constexpr int tile_rows_of<uint32_t> = pair_tile_rows;
template <>
constexpr int tile_step_of<uint32_t> = pair_tile_step;
#endif

inline Vec load(const float* p) {
  return Vec::load(p);
}

inline Vec broadcast(const float* p) {
  return Vec::all(*p);
}

template <class T>
inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
inline T larger(T a, T b) {
  return a > b ? a : b;
}

// Asks for nothing that is read later.
struct NoFetch {
  void operator()(int64_t, int64_t) const {}
};

// Asks for the line of memory at p, which is read soon; it may lie beyond what is there.
inline void fetch_line(const void* p) {
  // not into level 1, where lines would displace each other before they are read
  constexpr int reading = 0, into_level_2 = 2;
  __builtin_prefetch(p, reading, into_level_2);
}

// c[i, :] = keep[i]·c[i, :] + a[i, :depth]·b for Rows rows and tile_columns columns; without keep, c is not read.
// fetch(k, column) goes with each vector of b.
template <int Rows, int AStride, int CStride, class E, class Fetch>
[[gnu::always_inline]] inline void multiply_tile(const E* a, const E* b, int64_t b_stride, int64_t depth, float* c,
                                                 const float* keep, Fetch fetch) {
  constexpr int width = Vec::width;
  Vec sums[Rows][2];
  for (int i = 0; i < Rows; ++i) {
    sums[i][0] = sums[i][1] = Vec::zero();
  }
  int64_t row = 0;
  auto multiply = [&](int64_t count, Vec(&to)[Rows][2]) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < count; ++k, ++a, b += b_stride, ++row) {
      auto left = load(b), right = load(b + width);
      fetch(row, 0);
      fetch(row, width);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        auto x = broadcast(a + i * AStride);
        to[i][0] = fma(x, left, to[i][0]);
        to[i][1] = fma(x, right, to[i][1]);
      }
    }
  };
  if constexpr (Rows == tile_step_of<E> && !is_pair<E>) {
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

// The same for `rows` rows, a multiple of the step up to a whole tile.
template <int AStride, int CStride, class E, class Fetch = NoFetch>
inline void multiply_rows(int rows, const E* a, const E* b, int64_t b_stride, int64_t depth, float* c,
                          const float* keep, Fetch fetch = {}) {
  constexpr int whole = tile_rows_of<E>, step = tile_step_of<E>;
  if (rows == whole) {
    multiply_tile<whole, AStride, CStride>(a, b, b_stride, depth, c, keep, fetch);
    return;
  }
  for (int top = 0; top < rows; top += step) {
    multiply_tile<step, AStride, CStride>(a + top * AStride, b, b_stride, depth, c + top * CStride,
                                          keep ? keep + top : nullptr, fetch);
  }
}

// One panel of keys, transposed: to[d, j] is element d of key j for j < keys, 0 for the rest of the panel.
// fetch(j, d) goes with each vector of it.
template <int D, class E, class T, class Fetch = NoFetch>
inline void pack_panel(const T* k, int64_t row, int keys, E* to, Fetch fetch = {}) {
  constexpr int width = Vec::width;
  for (int first = 0; first < panel_keys; first += width) {
    for (int d = 0; d < depth_of<D, E>; d += width) {
      Vec block[width];
      for (int j = 0; j < width; ++j) {
        const T* key = k + (first + j) * row;
        fetch(first + j, is_pair<E> ? 2 * d : d);
        if constexpr (is_pair<E>) {
          // 32 bits of any kind
          block[j] = first + j < keys ? load(reinterpret_cast<const float*>(key + 2 * d)) : Vec::zero();
        } else {
          block[j] = first + j < keys ? Vec::load(key + d) : Vec::zero();
        }
      }
      transpose(block);
      for (int j = 0; j < width; ++j) {
        block[j].store(reinterpret_cast<float*>(to + (d + j) * panel_keys + first));
      }
    }
  }
}

// Rows of values as products read them: in float32, or pairs of rows up to the end of a panel, where they are 0.
// fetch(j, d) goes with each vector of them.
template <int D, class E, class T, class Fetch = NoFetch>
inline void pack_values(const T* from, int64_t row, int64_t rows, E* to, Fetch fetch = {}) {
  if constexpr (is_pair<E>) {
    static constexpr T none[D] = {};
    for (int64_t j = 0; j < (rows + panel_keys - 1) / panel_keys * panel_keys; j += 2) {
      const T* even = j < rows ? from + j * row : none;
      const T* odd = j + 1 < rows ? from + (j + 1) * row : none;
      for (int d = 0; d < D; d += Vec::width) {
        fetch(j, d);
        fetch(j + 1, d);
        zip(even + d, odd + d, to + j / 2 * D + d);
      }
    }
  } else {
    for (int64_t j = 0; j < rows; ++j) {
      for (int d = 0; d < D; d += Vec::width) {
        fetch(j, d);
        Vec::load(from + j * row + d).store(to + j * D + d);
      }
    }
  }
}

}  // namespace pcbench::PCBENCH_ISA
