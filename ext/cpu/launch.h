// From torch's tensors to the plain structs of params.h.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "allocate.h"
#include "params.h"

namespace pcbench {

using torch::stable::Tensor;

inline Floats floats(const Tensor& x) {
  Floats view{const_cast<void*>(x.const_data_ptr()), {}};
  for (int64_t i = 0; i + 1 < x.dim(); ++i) {
    view.strides[i] = x.stride(i);
  }
  return view;
}

inline Floats floats(const std::optional<Tensor>& x) {
  return x ? floats(*x) : Floats{nullptr, {}};
}

inline Ints ints(const Tensor& x) {
  Ints view{static_cast<const int32_t*>(x.const_data_ptr()), {1, 1}};
  for (int64_t i = 0; i + 1 < x.dim(); ++i) {
    view.strides[i] = x.stride(i);
  }
  return view;
}

inline Ints ints(const std::optional<Tensor>& x) {
  return x ? ints(*x) : Ints{nullptr, {}};
}

inline TileLists tile_lists(const std::optional<Tensor>& x) {
  return x ? TileLists{static_cast<const int32_t*>(x->const_data_ptr()), {x->stride(0), x->stride(1), x->stride(2)}}
           : TileLists{nullptr, {}};
}

inline float* data(const Tensor& x) {
  return static_cast<float*>(x.mutable_data_ptr());
}

inline Tensor scratch(const Tensor& like, int64_t floats) {
  return allocate(like, {floats}, torch::headeronly::ScalarType::Float);
}

}  // namespace pcbench
