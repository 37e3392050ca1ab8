// Which instruction set the kernels run on.
#pragma once

#include "cpu/kernels.h"

namespace pcbench {

// The kernels of the best instruction set of this CPU, or of the one that PCBENCH_CPU_ISA names.
// Throws std::runtime_error in words where that one cannot run here.
const Kernels& kernels();

}  // namespace pcbench
