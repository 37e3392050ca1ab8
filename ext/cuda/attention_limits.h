// What the tensor-core attention of CUDA takes.
#pragma once

#include <cmath>
#include <initializer_list>

#include "attention_launch.h"

namespace pcbench::device {

// 32-bit indices, with room for a tile.
constexpr int64_t most_items = int64_t{1} << 30;
// 64 rows of a tile are reached by 32-bit offsets.
constexpr int64_t most_stride = int64_t{1} << 24;
// PackedRows
constexpr int64_t most_packed = 128;

// Maxima are taken before scores are scaled.
inline bool takes_inputs(Float dtype, int64_t dim, float scale) {
  return dtype != Float::f32 && (dim == 64 || dim == 96 || dim == 128) && scale > 0.0f && std::isfinite(scale);
}

// Rows that can be read 16 bytes at a time; `sizes` of the leading dimensions. A copy names the rows beyond the last
// too, without reading them: their addresses must be aligned as well.
inline bool takes_rows(const Floats& x, std::initializer_list<int64_t> sizes) {
  const int last = static_cast<int>(sizes.size()) - 1;
  int i = 0;
  for (int64_t size : sizes) {
    if ((size > 1 || i == last) && x.strides[i] % 8) {
      return false;
    }
    ++i;
  }
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && (*(sizes.end() - 1) <= 1 || x.strides[i - 1] <= most_stride);
}

// Calls launch<T, D>() for a 16-bit dtype and a head dim that it takes.
template <class Launch>
void by_dtype_and_dim(Float dtype, int64_t dim, Launch launch) {
  auto by_dim = [&]<class T>() {
    switch (dim) {
      case 64:
        return launch.template operator()<T, 64>();
      case 96:
        return launch.template operator()<T, 96>();
      default:
        return launch.template operator()<T, 128>();
    }
  };
  dtype == Float::bf16 ? by_dim.template operator()<bf16>() : by_dim.template operator()<half>();
}

}  // namespace pcbench::device
