// One call of an op on a GPU: where it runs, and torch's tensors as the plain structs of params.h.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string_view>

#include "allocate.h"
#include "checks.h"
#include "gpu/stream.h"
#include "gpu/visible.h"
#include "params.h"
#include "registration.h"

namespace pcbench {

constexpr bool on_gpu = std::string_view(PCBENCH_QUOTED(PCBENCH_KEY)) == "CUDA";

// Makes the GPU of the checked arguments the current one for the scope of a call.
class Call {
 public:
  explicit Call(const Arguments& a) {
    device::hide_all();
    if (on_gpu) {
      guard_.emplace(a.device());
    }
    stream_ = device::current_stream(a.device());
  }
  ~Call() { device::hide_all(); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  device::Stream stream() const { return stream_; }

  // Inputs.
  Floats floats(const Tensor& x) const {
    Floats view{const_cast<void*>(x.const_data_ptr()), {1, 1, 1, 1}};
    device::make_input_visible(view.data, extent_bytes(x));
    for (int64_t i = 0; i + 1 < x.dim(); ++i) {
      // nobody takes a step along one element: this one suits every kernel
      view.strides[i] = x.size(i) > 1 ? x.stride(i) : x.size(x.dim() - 1);
    }
    return view;
  }
  Floats floats(const std::optional<Tensor>& x) const { return x ? floats(*x) : Floats{nullptr, {}}; }

  Ints ints(const Tensor& x) const {
    Ints view{static_cast<const int32_t*>(x.const_data_ptr()), {1, 1}};
    device::make_input_visible(view.data, extent_bytes(x));
    for (int64_t i = 0; i + 1 < x.dim(); ++i) {
      view.strides[i] = x.stride(i);
    }
    return view;
  }
  Ints ints(const std::optional<Tensor>& x) const { return x ? ints(*x) : Ints{nullptr, {}}; }

  TileLists tile_lists(const std::optional<Tensor>& x) const {
    if (!x) {
      return {nullptr, {}};
    }
    TileLists view{static_cast<const int32_t*>(x->const_data_ptr()), {x->stride(0), x->stride(1), x->stride(2)}};
    device::make_input_visible(view.data, extent_bytes(*x));
    return view;
  }

  const bool* bools(const std::optional<Tensor>& x) const {
    if (!x) {
      return nullptr;
    }
    device::make_input_visible(x->const_data_ptr(), extent_bytes(*x));
    return static_cast<const bool*>(x->const_data_ptr());
  }

  // Arguments that the op reads and writes.
  template <class T>
  T* changed(const Tensor& x) const {
    device::make_changed_visible(x.mutable_data_ptr(), extent_bytes(x));
    return static_cast<T*>(x.mutable_data_ptr());
  }

  // Results, contiguous.
  template <class T>
  T* written(const Tensor& x) const {
    device::make_output_visible(x.mutable_data_ptr(), extent_bytes(x));
    return static_cast<T*>(x.mutable_data_ptr());
  }

  // Device memory for the time of the call; torch gives it to nobody else before the stream is done with it.
  Tensor scratch(const Tensor& like, int64_t bytes) const { return allocate(like, {(bytes + 3) / 4}, ScalarType::Int); }

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  device::Stream stream_ = nullptr;
};

}  // namespace pcbench
