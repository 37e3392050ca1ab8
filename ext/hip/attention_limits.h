// What the matrix-core attention of HIP takes.
#pragma once

#include "device/refusals.h"

namespace pcbench::device {

// Rows that lie one after the other, near enough for 32-bit offsets within a tile.
inline const char* refusal_of_keys(const Floats& x, int leading, int64_t dim) {
  const int64_t stride = x.strides[leading - 1];
  return first_of(refusal_of_rows(x, leading), stride < dim        ? "rows of keys that overlap"
                                               : stride >= 1 << 20 ? "rows of keys that are 2^20 elements apart or more"
                                                                   : nullptr);
}

}  // namespace pcbench::device
