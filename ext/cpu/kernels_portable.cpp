#include "cpu/vec_portable.h"

#define PCBENCH_ISA portable

#include "cpu/kernels.inc"
