// The stream that torch runs on.
#pragma once

#include <cstdint>

namespace pcbench::device {

// cudaStream_t or hipStream_t, so that the glue needs no vendor header.
using Stream = void*;

// Of a device of torch; throws where the loaded torch has none.
Stream current_stream(int32_t device);

}  // namespace pcbench::device
