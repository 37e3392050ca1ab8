// What the matrix cores of a GPU do with their inputs.
#pragma once

namespace pcbench::emulator {

// gfx90a takes subnormal fp16 numbers for 0, gfx942 as they are.
bool flushes_subnormal_inputs();

}  // namespace pcbench::emulator
