// What the glue asks of a platform, answered by the emulator.
#include "gpu/stream.h"
#include "gpu/visible.h"
#include "memory.h"

namespace pcbench::device {

using emulator::Access;

void make_input_visible(const void* data, int64_t bytes) {
  emulator::memory().expose(data, bytes, Access::input);
}

void make_changed_visible(const void* data, int64_t bytes) {
  emulator::memory().expose(data, bytes, Access::changed);
}

void make_output_visible(const void* data, int64_t bytes) {
  emulator::memory().expose(data, bytes, Access::output);
}

void hide_all() {
  emulator::memory().clear();
}

Stream current_stream(int32_t) {
  return nullptr;
}

}  // namespace pcbench::device
