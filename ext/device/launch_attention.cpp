// Starts the portable attention kernels.
#include <type_traits>

#include "device/cached_attention.h"
#include "device/calibrated_attention.h"
#include "device/decode_mass.h"
#include "device/dual_chunk.h"
#include "device/kernels.h"
#include "device/key_mass.h"
#include "device/launch.h"
#include "device/merge_states.h"

namespace pcbench::device {
namespace {

using namespace portable;

template <int N>
using Constant = std::integral_constant<int, N>;

// f(D) for the head dim; the glue has refused others.
template <class F>
void with_dim(int64_t dim, F f) {
  switch (dim) {
    case 64:
      return f(Constant<64>{});
    case 96:
      return f(Constant<96>{});
    default:
      return f(Constant<128>{});
  }
}

// f(D, R): few rows need a low tile only.
template <class F>
void with_tile(int64_t dim, int64_t rows, F f) {
  with_dim(dim, [&](auto d) { rows <= tile_row_threads ? f(d, Constant<1>{}) : f(d, Constant<4>{}); });
}

int64_t blocks_of(int64_t packed_rows) {
  return ceil_div(packed_rows, packed_rows <= tile_row_threads ? tile_row_threads : 4 * tile_row_threads);
}

void merge_splits(const CachedCall& call, Stream stream) {
  constexpr int rows = merge_splits_threads / warp_width;
  const int64_t all = call.p.keys.batch * call.p.keys.kv_heads * call.packed_rows();
  launch(merge_splits_kernel, ceil_div(all, rows), merge_splits_threads, 0, stream, call);
}

CachedCall cached_call(const CachedAttention& p, void* scratch) {
  CachedCall call{p, 1, static_cast<float*>(scratch)};
  const int64_t blocks = p.keys.batch * p.keys.kv_heads * blocks_of(call.packed_rows());
  call.splits = splits_of(8, blocks, p.keys.listed * ceil_div(p.keys.stored_rows, tile_keys));
  return call;
}

DualChunkCall dual_chunk_call(const DualChunkAttention& p, void* scratch) {
  const int64_t group = p.heads / p.keys.kv_heads, tile_rows = p.tile_rows ? smaller(p.tile_rows, p.rows) : p.rows;
  const int64_t block_rows = tile_row_threads * (tile_rows * group <= tile_row_threads ? 1 : 4);
  DualChunkCall call{p, chunk_grid(p, block_rows), 1, static_cast<float*>(scratch)};
  const int64_t blocks = p.keys.batch * p.keys.kv_heads * call.grid.blocks();
  call.splits = splits_of(8, blocks, ceil_div(p.keys.stored_rows, tile_keys));
  return call;
}

}  // namespace

void merge_states(const MergeStates& p, Stream stream) {
  constexpr int rows = merge_threads / warp_width;
  launch(merge_states_kernel, ceil_div(p.batch * p.heads * p.rows, rows), merge_threads, 0, stream, p);
}

void calibrated_attention_portable(const CalibratedAttention& p, Stream stream) {
  with_dim(p.dim, [&](auto d) {
    using Tile = RowTile<d(), 4>;
    const int64_t blocks = ceil_div(p.rows, Tile::rows) * p.heads * p.batch;
    launch(calibrated_attention_kernel<d()>, blocks, tile_threads, Tile::shared_bytes, stream, p);
  });
}

void calibrated_attention_mass(const CalibratedAttention& p, Stream stream) {
  with_tile(p.dim, smaller(p.rows, p.mass_rows), [&](auto d, auto r) {
    const int64_t blocks = ceil_div(p.keys, tile_keys) * p.kv_heads * p.batch;
    launch(calibrated_mass_kernel<d(), r()>, blocks, tile_threads, RowTile<d(), r()>::shared_bytes, stream, p);
  });
}

void window_mass(const WindowMass& p, Stream stream) {
  with_tile(p.keys.dim, p.rows, [&](auto d, auto r) {
    const int64_t blocks = ceil_div(p.longest, tile_keys) * p.keys.kv_heads * p.keys.batch * p.keys.listed;
    launch(window_mass_kernel<d(), r()>, blocks, tile_threads, RowTile<d(), r()>::shared_bytes, stream, p);
  });
}

void decode_mass(const CachedAttention& p, Stream stream) {
  const int64_t blocks = ceil_div(p.longest, decode_mass_threads) * p.keys.kv_heads * p.keys.batch;
  launch(decode_mass_kernel, blocks, decode_mass_threads, 0, stream, p);
}

int64_t cached_attention_portable_scratch(const CachedAttention& p) {
  return partial_bytes(p.keys, p.heads, p.rows, cached_call(p, nullptr).splits);
}

void cached_attention_portable(const CachedAttention& p, void* scratch, Stream stream) {
  const CachedCall call = cached_call(p, scratch);
  const int64_t pairs = p.keys.batch * p.keys.kv_heads;
  with_tile(p.keys.dim, call.packed_rows(), [&](auto d, auto r) {
    const int64_t blocks = blocks_of(call.packed_rows()) * call.splits * pairs;
    launch(cached_attention_kernel<d(), r()>, blocks, tile_threads, RowTile<d(), r()>::shared_bytes, stream, call);
  });
  merge_splits(call, stream);
}

void quantized_attention(const CachedAttention& p, void* scratch, Stream stream) {
  const CachedCall call = cached_call(p, scratch);
  const int64_t pairs = p.keys.batch * p.keys.kv_heads;
  with_tile(p.keys.dim, call.packed_rows(), [&](auto d, auto most) {
    // a high tile of 128 columns is more registers than gfx9 has for two waves
    constexpr Constant<d() == 128 ? 1 : most()> r{};
    const int64_t blocks = ceil_div(call.packed_rows(), tile_row_threads * r()) * call.splits * pairs;
    launch(quantized_attention_kernel<d(), r()>, blocks, tile_threads, RowTile<d(), r()>::shared_bytes, stream, call);
  });
  merge_splits(call, stream);
}

int64_t dual_chunk_attention_portable_scratch(const DualChunkAttention& p) {
  const int32_t splits = dual_chunk_call(p, nullptr).splits;
  return splits == 1 ? 0 : partial_bytes(p.keys, p.heads, p.rows, splits);
}

void dual_chunk_attention_portable(const DualChunkAttention& p, void* scratch, Stream stream) {
  const DualChunkCall call = dual_chunk_call(p, scratch);
  with_tile(p.keys.dim, call.grid.block_rows, [&](auto d, auto r) {
    const int64_t blocks = call.grid.blocks() * call.splits * p.keys.batch * p.keys.kv_heads;
    constexpr int bytes = DualChunkRows<d(), r()>::shared_bytes;
    launch(dual_chunk_kernel<d(), r()>, blocks, tile_threads, bytes, stream, call);
  });
  if (call.splits > 1) {
    merge_dual_chunk_splits(p, call.splits, call.partials, stream);
  }
}

void merge_dual_chunk_splits(const DualChunkAttention& p, int32_t splits, float* partials, Stream stream) {
  const CachedAttention cached{
      .keys = p.keys, .heads = p.heads, .rows = p.rows, .q = p.q, .scale = p.scale, .out = p.out, .lse = p.lse};
  merge_splits({cached, splits, partials}, stream);
}

}  // namespace pcbench::device
