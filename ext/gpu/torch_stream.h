// The current stream as torch's GPU library tells it.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "gpu/stream.h"

namespace pcbench::device {

// The function is found in the library that torch has loaded: linking it would keep ours from loading into a CPU torch.
class TorchStream {
 public:
  explicit TorchStream(const char* library) : library_(library) {
    if (void* loaded = dlopen(library, RTLD_LAZY | RTLD_NOLOAD)) {
      current_ = reinterpret_cast<Current>(dlsym(loaded, function));
    }
  }

  Stream of(int32_t device) const {
    if (!current_) {
      throw std::runtime_error(std::string("current stream: ") + library_ + " with " + function +
                               " must be loaded, got none; install a torch for this GPU");
    }
    Stream stream = nullptr;
    if (current_(device, &stream) != 0) {
      throw std::runtime_error("current stream: torch must have one for GPU " + std::to_string(device) +
                               ", got an error");
    }
    return stream;
  }

 private:
  using Current = int32_t (*)(int32_t device, void** stream);
  static constexpr const char* function = "aoti_torch_get_current_cuda_stream";

  const char* library_;
  Current current_ = nullptr;
};

}  // namespace pcbench::device
