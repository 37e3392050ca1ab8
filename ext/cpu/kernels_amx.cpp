#define PCBENCH_ISA amx

#include "cpu/tiles_amx.h"

#include "cpu/kernels.inc"
