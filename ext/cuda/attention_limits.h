// What the tensor-core attention of CUDA takes.
#pragma once

#include "attention_launch.h"
#include "device/refusals.h"

namespace pcbench::device {

// 32-bit indices, with room for a tile.
constexpr int64_t most_items = int64_t{1} << 30;
// 64 rows of a tile are reached by 32-bit offsets.
constexpr int64_t most_stride = int64_t{1} << 24;
// PackedRows
constexpr int64_t most_packed = 128;

inline const char* refusal_of_near_rows(const Floats& x, int leading) {
  const bool far = x.strides[leading - 1] > most_stride;
  return first_of(refusal_of_rows(x, leading), far ? "rows that are more than 2^24 elements apart" : nullptr);
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
