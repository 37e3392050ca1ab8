// Results and scratch memory of an op.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

namespace pcbench {

// What torch says of its latest error. The stable ABI hands on that there was one; the words came with torch 2.13.
inline std::string torch_error() {
  using What = const char* (*)();
  const auto what = reinterpret_cast<What>(dlsym(RTLD_DEFAULT, "torch_exception_get_what_without_backtrace"));
  if (!what) {
    return "an error that a torch before 2.13 does not tell";
  }
  const std::string text = what();
  return text.substr(0, text.find('\n'));
}

// Uninitialised and contiguous, where `like` is.
inline torch::stable::Tensor allocate(const torch::stable::Tensor& like, std::initializer_list<int64_t> sizes,
                                      torch::headeronly::ScalarType dtype) {
  try {
    // torch::stable::new_empty looks its op up by name, which takes a microsecond
    int32_t device_type, device_index, layout;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_layout(like.get(), &layout));
    int32_t dtype_code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
    AtenTensorHandle made;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_aten_new_empty(like.get(), sizes.begin(),
                                                            static_cast<int64_t>(sizes.size()), &dtype_code, &layout,
                                                            &device_type, device_index, nullptr, &made));
    return torch::stable::Tensor(made);
  } catch (const std::exception&) {
    std::string text;
    for (int64_t size : sizes) {
      text += (text.empty() ? "" : ", ") + std::to_string(size);
    }
    throw std::runtime_error("memory for [" + text + "] must be there, got " + torch_error() + "; split the call");
  }
}

}  // namespace pcbench
