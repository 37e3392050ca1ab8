// What the launchers of attention.cu, cached.cu and dual_chunk.cu hand to the kernels; one translation unit a dtype and
// head dim instantiates them.
#pragma once

// of the include path: the emulator has its own
#include <platform.h>

#include "device/chunk_rows.h"
#include "params.h"

namespace pcbench::device {

struct CalibratedLaunch {
  CalibratedAttention p;
  float scale;          // to base 2
  int32_t pack;         // query heads of a block
  int32_t head_blocks;  // H / pack
  int32_t row_blocks;   // of a pair
  int32_t pairs;        // B · head_blocks
  int32_t section;      // pairs side by side
};

template <class T, int D>
void launch_calibrated(const CalibratedLaunch& x, Stream stream);

struct CachedLaunch {
  CachedAttention p;
  float scale;          // to base 2
  int32_t pack;         // query heads of a block
  int32_t head_blocks;  // H / pack
  int32_t block_rows;   // 16 or 128
  int32_t row_blocks;   // of a pair
  int32_t pairs;        // B · head_blocks
  int32_t blocks;       // that share the tiles
  int32_t bit_heads;    // heads of a pair with eviction bits of their own, or 1
  int32_t described;    // tiles at a time
  int32_t* before;      // [pairs + 1] tiles of the pairs before
  float* states;        // [blocks + pairs·row_blocks, block_rows, 2] shift and sum of a part
  float* outs;          // [blocks + pairs·row_blocks, block_rows, D] before normalisation
};

template <class T, int D>
void launch_cached(const CachedLaunch& x, Stream stream);

struct DualChunkLaunch {
  DualChunkAttention p;
  ChunkGrid grid;
  float scale;      // to base 2
  int32_t pack;     // query heads of a group
  int32_t splits;   // of the keys of a block of rows
  float* partials;  // as merge_dual_chunk_splits reads them
};

template <class T, int D>
void launch_dual_chunk(const DualChunkLaunch& x, Stream stream);

// Rows that fit one mma take the kernel that is built to read memory, the others that of whole tiles.
constexpr int few_rows = 16;

}  // namespace pcbench::device
