// Argument checks of the compiled ops: what the Python wrappers check in words, once more for direct calls.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "params.h"

namespace pcbench {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The dtype of a tensor that `Arguments::floats` has checked.
inline Float float_of(const Tensor& x) {
  return x.scalar_type() == ScalarType::Float      ? Float::f32
         : x.scalar_type() == ScalarType::BFloat16 ? Float::bf16
                                                   : Float::f16;
}

// From the first to the last element.
inline int64_t extent_bytes(const Tensor& x) {
  int64_t last = 0;
  for (int64_t i = 0; i < x.dim(); ++i) {
    if (x.size(i) == 0) {
      return 0;
    }
    last += (x.size(i) - 1) * x.stride(i);
  }
  return (last + 1) * static_cast<int64_t>(x.element_size());
}

// Binds shape letters while the arguments of one call are checked.
class Arguments {
 public:
  // Its tensors must be on a GPU, or on the CPU.
  explicit Arguments(const char* op, bool on_gpu = false) : op_(op), on_gpu_(on_gpu) {}

  template <class Actual>
  [[noreturn]] void fail(const std::string& expected, const Actual& actual) const {
    std::ostringstream text;
    text << op_ << ": " << expected << ", got " << actual << "; see help(pcbench.reference." << op_ << ")";
    throw std::runtime_error(text.str());
  }

  // `x` is where the op runs and has the letters of `shape` ("B Hkv S D", a literal), one of `dtypes` and a contiguous
  // last dimension.
  void tensor(const char* name, const Tensor& x, const char* shape, std::initializer_list<ScalarType> dtypes) {
    place(name, x);
    spans_.add({name, static_cast<const char*>(x.const_data_ptr()), extent_bytes(x), false});
    int64_t dim = 0;
    for (std::string_view rest = shape; !rest.empty(); ++dim) {
      std::string_view letter = rest.substr(0, rest.find(' '));
      rest.remove_prefix(std::min(rest.size(), letter.size() + 1));
      if (dim >= x.dim() || bind(letter, x.size(dim)) != x.size(dim)) {
        fail(std::string(name) + " must be [" + shape + "]" + bound(letter), sizes_of(x));
      }
    }
    if (dim != x.dim()) {
      fail(std::string(name) + " must be [" + shape + "]", sizes_of(x));
    }
    if (std::find(dtypes.begin(), dtypes.end(), x.scalar_type()) == dtypes.end()) {
      fail(std::string(name) + " must have a dtype that this op takes", torch::headeronly::toString(x.scalar_type()));
    }
    if (dim && x.size(dim - 1) > 1 && x.stride(dim - 1) != 1) {
      fail(std::string(name) + " must have a contiguous last dimension", x.stride(dim - 1));
    }
  }

  void floats(const char* name, const Tensor& x, const char* shape) {
    tensor(name, x, shape, {ScalarType::Float, ScalarType::BFloat16, ScalarType::Half});
  }

  void state(const char* name, const Tensor& x, const char* shape) { tensor(name, x, shape, {ScalarType::Float}); }

  // All of `x` lies together, row by row.
  void contiguous(const char* name, const Tensor& x) const {
    int64_t step = 1;
    bool together = true;
    for (int64_t i = x.dim(); i-- > 0; step *= x.size(i)) {
      together = together && (x.size(i) == 1 || x.stride(i) == step);
    }
    if (!together && step) {
      fail(std::string(name) + " must be contiguous",
           "strides " + listed(x, [](const Tensor& t, int64_t i) { return t.stride(i); }));
    }
  }

  void ints(const char* name, const Tensor& x, const char* shape) { tensor(name, x, shape, {ScalarType::Int}); }

  void ints(const char* name, const std::optional<Tensor>& x, const char* shape) {
    if (x) {
      ints(name, *x, shape);
    }
  }

  void same_dtype(const char* name, const Tensor& x, const Tensor& like) const {
    if (x.scalar_type() != like.scalar_type()) {
      fail(std::string(name) + " must be " + torch::headeronly::toString(like.scalar_type()),
           torch::headeronly::toString(x.scalar_type()));
    }
  }

  // The argument that was checked last is written to.
  void changed() { spans_.last().changed = true; }

  // What is written to shares no memory with another argument.
  void apart() const {
    for (const Span& to : spans_) {
      for (const Span& other : spans_) {
        const bool meet = to.begin < other.begin + other.bytes && other.begin < to.begin + to.bytes;
        if (to.changed && &to != &other && meet) {
          fail(std::string(to.name) + " must not overlap " + other.name, "the same memory");
        }
      }
    }
  }

  // The GPU that the tensors are on.
  int32_t device() const { return device_; }

  // Head dims that kernels exist for.
  void head_dim() const {
    int64_t dim = size("D");
    if (dim != 64 && dim != 96 && dim != 128) {
      fail("head_dim must be 64, 96 or 128", dim);
    }
  }

  // H is a multiple of Hkv.
  void grouped() const {
    if (size("H") == 0 || size("Hkv") == 0 || size("H") % size("Hkv")) {
      fail("H must be a multiple of Hkv = " + std::to_string(size("Hkv")), size("H"));
    }
  }

  // Eviction bits by kv-head or by query head: `shared` and `own` are the two shapes.
  void evicted(const std::optional<Tensor>& x, const char* shared, const char* own) {
    if (x) {
      ints("evicted", *x, x->dim() == 3 && x->size(1) == size("Hkv") ? shared : own);
    }
  }

  void number(const char* name, bool fits, const char* expected, int64_t actual) const {
    if (!fits) {
      fail(std::string(name) + " must be " + expected, actual);
    }
  }

  // The size that a letter is bound to.
  int64_t size(std::string_view letter) const {
    auto found = find(letter);
    if (found == sizes_.end()) {
      throw std::logic_error(std::string(letter) + " is not bound");
    }
    return found->second;
  }

  // Binds a letter that is not bound yet; returns the size it is bound to. A 1 is bound to itself.
  int64_t bind(std::string_view letter, int64_t size) {
    if (letter == "1") {
      return 1;
    }
    auto found = find(letter);
    if (found != sizes_.end()) {
      return found->second;
    }
    sizes_.add({letter, size});
    return size;
  }

 private:
  // A short list without memory of its own: calls are checked in less than a microsecond.
  template <class T>
  class Few {
   public:
    void add(const T& x) {
      if (count_ == items_.size()) {
        throw std::logic_error("more arguments or letters than any op has");
      }
      items_[count_++] = x;
    }

    bool empty() const { return count_ == 0; }
    T& last() { return items_[count_ - 1]; }
    const T& operator[](std::size_t i) const { return items_[i]; }
    const T* begin() const { return items_.data(); }
    const T* end() const { return items_.data() + count_; }

   private:
    std::array<T, 16> items_;
    std::size_t count_ = 0;
  };

  using Size = std::pair<std::string_view, int64_t>;

  const Size* find(std::string_view letter) const {
    return std::find_if(sizes_.begin(), sizes_.end(), [&](const Size& entry) { return entry.first == letter; });
  }

  struct Span {
    const char* name;
    const char* begin;
    int64_t bytes;
    bool changed;
  };

  void place(const char* name, const Tensor& x) {
    if (!on_gpu_) {
      if (!x.is_cpu()) {
        fail(std::string(name) + " must be on the CPU", "another device");
      }
      return;
    }
    if (!x.is_cuda()) {
      fail(std::string(name) + " must be on the GPU", "another device");
    }
    device_ = spans_.empty() ? x.get_device_index() : device_;
    if (x.get_device_index() != device_) {
      fail(std::string(name) + " must be on GPU " + std::to_string(device_) + " as " + spans_[0].name + " is",
           x.get_device_index());
    }
  }

  std::string bound(std::string_view letter) const {
    auto found = find(letter);
    return found == sizes_.end() ? "" : " with " + std::string(letter) + " = " + std::to_string(found->second);
  }

  static std::string sizes_of(const Tensor& x) {
    return listed(x, [](const Tensor& t, int64_t i) { return t.size(i); });
  }

  // number(x, i) of each dimension.
  template <class Number>
  static std::string listed(const Tensor& x, Number number) {
    std::string text = "[";
    for (int64_t i = 0; i < x.dim(); ++i) {
      text += (i ? ", " : "") + std::to_string(number(x, i));
    }
    return text + "]";
  }

  const char* op_;
  bool on_gpu_;
  Few<Size> sizes_;
  Few<Span> spans_;
  int32_t device_ = -1;
};

}  // namespace pcbench
