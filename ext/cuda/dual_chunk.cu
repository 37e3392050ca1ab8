// dual_chunk_attention_fast of CUDA: what the kernel takes, how its blocks are laid out, and their scratch memory.
#include "attention_limits.h"
#include "device/kernels.h"
#include "device/launch.h"
#include "gpu/attention.h"

namespace pcbench::device {
namespace {

// of a tile
constexpr int64_t rows_of_block = 128, keys_of_tile = 64;
// two blocks fit a multiprocessor, and those of early rows end early
constexpr int64_t blocks_wanted = 4;

bool empty(const DualChunkAttention& p) {
  return p.keys.batch * p.heads * p.rows == 0;
}

DualChunkLaunch plan(const DualChunkAttention& p, void* scratch) {
  const ChunkGrid grid = chunk_grid(p, rows_of_block);
  const int64_t blocks = p.keys.batch * p.keys.kv_heads * grid.blocks();
  return {
      .p = p,
      .grid = grid,
      .scale = p.scale * 1.44269504f,
      .pack = static_cast<int32_t>(p.heads / p.keys.kv_heads),
      .splits = splits_of(blocks_wanted, blocks, ceil_div(p.keys.stored_rows, keys_of_tile)),
      .partials = static_cast<float*>(scratch),
  };
}

// Of a call that is not empty.
const char* refusal_of(const DualChunkAttention& p) {
  const KeyRows& keys = p.keys;
  const int64_t group = p.heads / keys.kv_heads;
  const bool many = p.rows * group >= most_items || keys.stored_rows >= most_items;
  if (const char* refusal = first_of(refusal_of_inputs(keys.dtype, p.scale), refusal_of_near_rows(p.q, 3),
                                     refusal_of_near_rows(keys.k_rows, 1), refusal_of_near_rows(keys.v_rows, 1),
                                     group > most_packed ? "more than 128 heads of a group" : nullptr,
                                     many ? "2^30 rows or keys or more" : nullptr)) {
    return refusal;
  }
  const DualChunkLaunch x = plan(p, nullptr);
  const int64_t blocks = keys.batch * keys.kv_heads * x.grid.blocks();
  return blocks * x.splits >= most_items ? "2^30 blocks or more" : nullptr;
}

}  // namespace

int64_t dual_chunk_attention_scratch(const DualChunkAttention& p) {
  if (empty(p) || refusal_of(p)) {
    return 0;
  }
  const int32_t splits = plan(p, nullptr).splits;
  return splits == 1 ? 0 : partial_bytes(p.keys, p.heads, p.rows, splits);
}

const char* dual_chunk_attention_fast(const DualChunkAttention& p, void* scratch, Stream stream) {
  if (empty(p)) {
    return nullptr;
  }
  if (const char* refusal = refusal_of(p)) {
    return refusal;
  }
  const DualChunkLaunch x = plan(p, scratch);
  by_dtype_and_dim(p.keys.dtype, p.keys.dim, [&]<class T, int D>() { launch_dual_chunk<T, D>(x, stream); });
  if (x.splits > 1) {
    merge_dual_chunk_splits(p, x.splits, x.partials, stream);
  }
  return nullptr;
}

}  // namespace pcbench::device
