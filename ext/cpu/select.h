// Selections: integer work that needs no instruction set of its own.
#pragma once

#include <cstdint>

#include "params.h"

namespace pcbench::plain {

void select_tokens(const SelectTokens& p);
void chunk_topk(const ChunkTopk& p);

}  // namespace pcbench::plain
