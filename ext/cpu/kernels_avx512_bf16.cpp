#define PCBENCH_ISA avx512_bf16

#include "cpu/pairs_avx512.h"

#include "cpu/kernels.inc"
