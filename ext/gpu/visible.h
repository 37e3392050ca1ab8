// Tells the emulator what the kernels of a call may touch. On a GPU nobody asks.
#pragma once

#include <cstdint>

namespace pcbench::device {

void make_input_visible(const void* data, int64_t bytes);
void make_changed_visible(const void* data, int64_t bytes);
// Holds nothing until a kernel writes to it.
void make_output_visible(const void* data, int64_t bytes);
void hide_all();

}  // namespace pcbench::device
