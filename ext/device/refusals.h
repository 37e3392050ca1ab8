// Why a tensor-core kernel does not take a call; null where it does. The glue has refused other head dims.
#pragma once

#include <cmath>

#include "params.h"

namespace pcbench::device {

// Maxima are taken before scores are scaled.
inline const char* refusal_of_inputs(Float dtype, float scale) {
  return dtype == Float::f32                        ? "float32 inputs"
         : !(scale > 0.0f) || !std::isfinite(scale) ? "a scale that is not positive and finite"
                                                    : nullptr;
}

// Rows that can be read 16 bytes at a time; `leading` dimensions have strides.
inline const char* refusal_of_rows(const Floats& x, int leading, int64_t elements = 8) {
  bool aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  for (int i = 0; i < leading; ++i) {
    aligned = aligned && x.strides[i] % elements == 0;
  }
  return aligned ? nullptr : "rows that are not 16-byte aligned";
}

// The first that is not null.
template <class... More>
const char* first_of(const char* refusal, More... more) {
  if constexpr (sizeof...(more) == 0) {
    return refusal;
  } else {
    return refusal ? refusal : first_of(more...);
  }
}

}  // namespace pcbench::device
