#define PCBENCH_ISA portable

#include "cpu/vec_portable.h"

#include "cpu/kernels.inc"
