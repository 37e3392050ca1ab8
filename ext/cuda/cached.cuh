// cached_attention of many rows on tensor cores, and the launch of the kernels that it takes.
//
// Blocks share the tiles of all jobs (CachedWork); a job has 128 rows of a pair. Rows are (position, head of the
// group): a group's heads read their keys once. Shared memory: AttentionTile, 512 bytes and CachedWork. Shapes:
// CachedAttention in params.h. float32 scores and sums. Equals pcbench.reference.cached_attention.
#pragma once

#include "cached_few_rows.cuh"
#include "cached_merge.cuh"
#include "device/launch.h"

namespace pcbench::device {

constexpr int words_of_rows_bytes = tile_rows * static_cast<int>(sizeof(int32_t));

template <class T, int D>
PCBENCH_KERNEL(tile_threads, 2)
void cached_many_rows(PCBENCH_PARAM CachedLaunch x) {
  release_next();
  using Tile = AttentionTile<T, D, true>;
  const KeyRows& keys = x.p.keys;
  const int32_t k_stride = static_cast<int32_t>(keys.k_rows.strides[0]);
  const int32_t v_stride = static_cast<int32_t>(keys.v_rows.strides[0]);
  CachedWork<T> work(x, Tile::shared_bytes + words_of_rows_bytes);
  // where the eviction bits of each row are: registers are full
  const Shared<int32_t> words_of_rows = shared<int32_t>(Tile::shared_bytes);
  work.for_each_part([&](const Part& part) {
    const PackedRows packed(x.pack, part.row_block * tile_rows);
    auto k_of = [&](int i) { return static_cast<const T*>(keys.k_rows.data) + work.row(i) * keys.k_rows.strides[0]; };
    auto v_of = [&](int i) { return static_cast<const T*>(keys.v_rows.data) + work.v_row(i) * keys.v_rows.strides[0]; };
    Tile tile;
    tile.reset();
    tile.load_rows(work.queries(part.pair), x.p.q, packed, static_cast<int>(x.p.rows));
    tile.notes[thread_index()] = packed.position_of(thread_index());
    words_of_rows[thread_index()] = work.words_of(packed.member_of(thread_index()));
    for (int32_t done = 0; done < part.count; done += x.described) {
      work.describe(part, done);
      tile.load_keys(tile.k_tile, k_of(0), k_stride, work.keys(0));
      cp_async_commit();
      cp_async_wait<0>();
      barrier();
      tile.keep_rows();
      for (int i = 0; work.keys(i) > 0; ++i) {
        auto visible = [&](int r) {
          const int at = tile.row_of(r);
          const int32_t words = words_of_rows[at];
          return Visible{work.visible(i, tile.notes[at]), {work.word(i, words), work.word(i, words + 1)}};
        };
        const bool masked = work.visible(i, tile.notes[0]) < tile_keys || work.evicts(i);
        tile.step(v_of(i), v_stride, work.keys(i), k_of(i + 1), k_stride, work.keys(i + 1), masked, visible, x.scale);
      }
    }
    tile.join_sums();
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int at = tile.row_of(r);
      if (packed.position_of(at) < x.p.rows) {
        const PartPlace<D> to(x, part.number, at);
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          const float* o = tile.out[r / 2][n] + r % 2 * 2;
          store(reinterpret_cast<Pair*>(to.out + n * 8 + lane() % 4 * 2), Pair{o[0], o[1]});
        }
        if (lane() % 4 == 0) {
          store(reinterpret_cast<Pair*>(to.state), Pair{tile.shift[r], tile.sum[r]});
        }
      }
    }
  });
}

template <class T, int D>
void launch_cached(const CachedLaunch& x, Stream stream) {
  const int work = CachedWork<T>::shared_bytes(x);
  const int64_t rows = x.pairs * x.p.rows * x.pack;
  if (x.block_rows == few_rows) {
    const int bytes = FewRows<T, D>::shared_bytes + FewRows<T, D>::warps * few_rows * static_cast<int>(sizeof(float));
    const auto kernel = x.p.mass ? decode_few_rows<T, D> : cached_few_rows<T, D>;
    launch(kernel, x.blocks, tile_threads, bytes + work, stream, x);
    launch(cached_merge<T, D, 4>, rows, tile_threads, 4 * (D + 1) * static_cast<int>(sizeof(float)), stream, x, true);
  } else {
    const int bytes = AttentionTile<T, D, true>::shared_bytes + words_of_rows_bytes;
    launch(cached_many_rows<T, D>, x.blocks, tile_threads, bytes + work, stream, x);
    launch(cached_merge<T, D, 1>, ceil_div(rows, 4), tile_threads, 0, stream, x, true);
  }
}

}  // namespace pcbench::device
