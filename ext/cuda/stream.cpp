// The current stream on CUDA.
#include "gpu/torch_stream.h"

namespace pcbench::device {

Stream current_stream(int32_t device) {
  static const TorchStream torch("libtorch_cuda.so");
  return torch.of(device);
}

}  // namespace pcbench::device
