// What emulated kernels did, by name: instructions, blocks, bank conflicts.
#pragma once

#include <cstdint>
#include <string>

namespace pcbench::emulator {

// A count that starts at 0; the reference stays good. Instructions keep it in a static: `++counter` is all they pay.
int64_t& counter(const std::string& name);

// Adds the bank conflicts of lanes that access 16 bytes each: eight lanes go at a time, and each further address in a
// bank costs one more turn. An offset of −1 is a lane that does not take part.
void count_bank_conflicts(const int64_t* offsets, int lanes);

}  // namespace pcbench::emulator
