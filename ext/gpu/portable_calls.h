// Calls that run a portable kernel although their dtype has a tensor-core kernel: nothing else would show them.
#pragma once

#include "params.h"

namespace pcbench {

// Whether a tensor-core kernel was started: `refusal` is null then. Counts a refusal of 16-bit inputs.
bool started(const char* op, Float dtype, const char* refusal);

}  // namespace pcbench
