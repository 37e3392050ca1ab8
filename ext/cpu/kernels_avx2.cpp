#include "cpu/vec_avx2.h"

#define PCBENCH_ISA avx2

#include "cpu/kernels.inc"
