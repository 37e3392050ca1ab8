#include "cpu/vec_avx512.h"

#define PCBENCH_ISA avx512

#include "cpu/kernels.inc"
