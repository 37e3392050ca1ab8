// Selections: what needs no instruction set of its own.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "params.h"

namespace pcbench::plain {

// `scratch` holds kernels.select_indices_scratch(p) = `words` floats for each of task_workers().
void select_tokens(const SelectTokens& p, const Kernels& kernels, float* scratch, int64_t words);
void chunk_topk(const ChunkTopk& p);

}  // namespace pcbench::plain
