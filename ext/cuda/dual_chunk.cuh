// dual_chunk_attention on tensor cores.
//
// A block owns 128 rows (position, head of the group) of one pair that stand in one chunk (ChunkRows), and walks over a
// split of the keys that they see in tiles of 64: its own chunk first, then the one before, then those further back.
// Where the next keys ask for another turn the rows are read again and turned in float32 while the first of these keys
// come; shifts, sums and outputs go on. Turned rows are no numbers of T: they are the sum of two, whose products are
// added up. Splits are as many as the GPU needs beside the blocks of rows; their merge is that of the portable kernel.
// Grid: row blocks × splits × B·Hkv, rows that see most first. Shared memory: AttentionTile with two terms. Scratch:
// D + 2 floats a row and split where there is more than one. Shapes: DualChunkAttention in params.h. float32 scores and
// sums. Equals pcbench.reference.dual_chunk_attention. Dual Chunk Attention, arXiv:2402.17463.
#pragma once

#include "attention_launch.h"
#include "attention_store.cuh"
#include "device/chunk_rows.h"

namespace pcbench::device {

template <class T>
constexpr float largest = 3.38953139e38f;
template <>
constexpr float largest<half> = 65504.0f;

template <class T, int D>
class DualChunkTiles {
 public:
  using Tile = AttentionTile<T, D, true, 2>;

  PCBENCH_DEVICE explicit DualChunkTiles(const DualChunkLaunch& x) : x_(x), p_(x.p) {}

  PCBENCH_DEVICE void run() {
    begin();
    tile_.reset();
    const int32_t k_stride = static_cast<int32_t>(p_.keys.k_rows.strides[0]);
    const int32_t v_stride = static_cast<int32_t>(p_.keys.v_rows.strides[0]);
    if (plan_[count] > 0) {
      load_rows(static_cast<Turn>(plan_[turn]));
      tile_.load_keys(tile_.k_tile, row_of(p_.keys.k_rows, plan_[first]), k_stride, plan_[count]);
      cp_async_commit();
    }
    while (plan_[count] > 0) {
      for (int32_t from = plan_[first], next; from < plan_[end]; from = next) {
        next = from + tile_keys;
        const bool last = next >= plan_[end];
        const T* next_k = row_of(p_.keys.k_rows, last ? plan_[then_first] : next);
        const int32_t next_count = last ? plan_[then_count] : plan_[end] - next;
        auto visible = [&](int r) {
          return Visible{smaller(tile_.notes[tile_.row_of(r)], plan_[end]) - from, {0u, 0u}};
        };
        // the first row sees the fewest keys
        const bool masked = smaller(tile_.notes[0], plan_[end]) < next;
        tile_.step(row_of(p_.keys.v_rows, from), v_stride, plan_[end] - from, next_k, k_stride, next_count, masked,
                   visible, x_.scale);
      }
      if (plan_[then_count] > 0 && plan_[then_turn] != plan_[turn]) {
        // the last tile has read the rows, and the next waits for these
        load_rows(static_cast<Turn>(plan_[then_turn]));
      }
      advance();
    }
    tile_.join_sums();
    const Place place = place_of();
    const ChunkRows rows = rows_of(place);
    const PackedRows packed(x_.pack, rows.first);
    forget(rows, packed);
    if (x_.splits == 1) {
      put(place, rows, packed);
    } else {
      put_partial(place, rows);
    }
  }

  // In shared memory, for registers are full: first row of the segment; the keys that are under way and those behind
  // them; the place of the keys behind those, tiles that other splits take before it, tiles that are left to this one.
  enum { start, first, end, count, turn, then_first, then_count, then_turn, next_place, skipped, left, numbers };
  static constexpr int shared_bytes = Tile::shared_bytes + numbers * static_cast<int>(sizeof(int32_t));

 private:
  // Found again where it is needed: registers are full in the loop.
  PCBENCH_DEVICE Place place_of() const {
    const int32_t index = afresh(block_index()), blocks = static_cast<int32_t>(x_.grid.blocks());
    return {index % blocks, index / blocks % x_.splits, index / blocks / x_.splits};
  }
  PCBENCH_DEVICE ChunkRows rows_of(const Place& place) const {
    const int32_t kv_heads = static_cast<int32_t>(p_.keys.kv_heads);
    const int32_t index = static_cast<int32_t>(x_.grid.blocks()) - 1 - place.x;
    return ChunkRows(p_, x_.grid, index, place.z / kv_heads, place.z % kv_heads);
  }

  static PCBENCH_DEVICE int32_t tiles_of(int32_t keys) { return (keys + tile_keys - 1) / tile_keys; }

  // Lays the split out.
  PCBENCH_DEVICE void begin() {
    const Place place = place_of();
    const ChunkRows rows = rows_of(place);
    const int at = thread_index();
    tile_.notes[at] = at < rows.count ? rows.seen((rows.first + at) / x_.pack) : 0;
    if (at == 0) {
      int32_t tiles = 0;
      for (int32_t i = 0; i < rows.places(); ++i) {
        tiles += tiles_of(rows.keys(i).count);
      }
      const int32_t before = static_cast<int32_t>(int64_t{tiles} * place.y / x_.splits);
      plan_[start] = static_cast<int32_t>(rows.start);
      plan_[next_place] = rows.places() - 1;
      plan_[skipped] = before;
      plan_[left] = static_cast<int32_t>(int64_t{tiles} * (place.y + 1) / x_.splits) - before;
      plan_[then_first] = plan_[then_count] = plan_[then_turn] = 0;
    }
    advance();
    advance();
  }

  // Goes on to the keys behind those under way, and finds which come then: none at the end of the split.
  PCBENCH_DEVICE void advance() const {
    barrier();
    if (thread_index() == 0) {
      plan_[first] = plan_[then_first];
      plan_[count] = plan_[then_count];
      plan_[end] = plan_[then_first] + plan_[then_count];
      plan_[turn] = plan_[then_turn];
      plan_[then_count] = 0;
      const ChunkRows rows = rows_of(place_of());
      for (int32_t place = plan_[next_place]; plan_[left] > 0 && plan_[then_count] == 0; --place) {
        const ChunkKeys keys = rows.keys(place);
        const int32_t tiles = tiles_of(keys.count), others = smaller(tiles, plan_[skipped]);
        const int32_t mine = smaller(tiles - others, plan_[left]);
        plan_[then_first] = keys.first + others * tile_keys;
        plan_[then_count] = larger(0, smaller(keys.count - others * tile_keys, mine * tile_keys));
        plan_[then_turn] = static_cast<int32_t>(keys.turn);
        plan_[skipped] -= others;
        plan_[left] -= mine;
        plan_[next_place] = place - 1;
      }
    }
    barrier();
  }

  PCBENCH_DEVICE const T* row_of(const Floats& store, int32_t key) const {
    return static_cast<const T*>(store.data) + int64_t{plan_[start] + key} * store.strides[0];
  }

  // The rows as keys of a kind ask for them, times their gains, in two terms unless they stay as they are.
  PCBENCH_DEVICE void load_rows(Turn wanted) {
    const Place place = place_of();
    const ChunkRows rows = rows_of(place);
    const PackedRows packed(x_.pack, rows.first);
    const int32_t kv_heads = static_cast<int32_t>(p_.keys.kv_heads), batch = place.z / kv_heads;
    const int32_t head = place.z % kv_heads * x_.pack;
    const T* q = static_cast<const T*>(p_.q.data) + batch * p_.q.strides[0] + head * p_.q.strides[1];
    const float* gains = static_cast<const float*>(p_.gains.data) + batch * p_.gains.strides[0];
    const int half = wanted == Turn::own ? 0 : static_cast<int>(p_.turning / 2);
    if (half == 0 && !p_.gains.data) {
      tile_.terms = 1;
      tile_.load_rows(q, p_.q, packed, packed.position_of(rows.count - 1) + 1);
      cp_async_commit();
      return;
    }
    tile_.terms = 2;
    // rows of a warp that are not there: all its rows follow when the scores of one grow, so theirs must not be
    // anything
    const int some = (rows.count + 31) / 32 * 32;
    for (int n = thread_index(); n < some * (D / 2); n += tile_threads) {
      const int at = n / (D / 2), pair = n % (D / 2);
      const bool turns = pair < half, apart = turns && !p_.interleaved;
      const int c = apart ? pair : 2 * pair, d = c + (apart ? half : 1);
      float x = 0.0f, y = 0.0f;
      if (at < rows.count) {
        const int32_t r = packed.position_of(at);
        const T* from = q + packed.member_of(at) * p_.q.strides[1] + r * p_.q.strides[2];
        const float gain = p_.gains.data ? load(gains + r) : 1.0f;
        x = widen(load(from + c)) * gain;
        y = widen(load(from + d)) * gain;
        if (turns) {
          const float* by =
              static_cast<const float*>(p_.turns.data) + rows.turned_by(r, wanted) * p_.turns.strides[0] + pair;
          const float cosine = load(by), sine = load(by + half), before = x;
          x = before * cosine - y * sine;
          y = y * cosine + before * sine;
        }
      }
      put_terms(at, c, x);
      put_terms(at, d, y);
    }
  }

  // An element of a row as the sum of two numbers of T. Beyond the largest the second one goes on: turned, a row of
  // fp16 can have elements of 92640.
  PCBENCH_DEVICE void put_terms(int at, int column, float x) const {
    const int place = tile_.place(at, column / 8) + column % 8;
    const T high = narrow<T>(fmaxf(-largest<T>, fminf(x, largest<T>)));
    tile_.rows[place] = high;
    tile_.rows[tile_rows * Tile::row + place] = narrow<T>(x - widen(high));
  }

  // Rows beyond the query length have seen nothing, whatever they computed.
  PCBENCH_DEVICE void forget(const ChunkRows& rows, const PackedRows& packed) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      if (packed.position_of(tile_.row_of(r)) >= rows.query_length) {
        tile_.shift[r] = -infinity;
        tile_.sum[r] = 0.0f;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          tile_.out[r / 2][n][r % 2 * 2] = tile_.out[r / 2][n][r % 2 * 2 + 1] = 0.0f;
        }
      }
    }
  }

  PCBENCH_DEVICE void put(const Place& place, const ChunkRows& rows, const PackedRows& packed) const {
    const int64_t first_head = int64_t{place.z} * x_.pack;
    store_rows(tile_, static_cast<T*>(p_.out), p_.lse, [&](int at) {
      const int64_t to = (first_head + packed.member_of(at)) * p_.rows + packed.position_of(at);
      return at < rows.count ? to : int64_t{-1};
    });
  }

  PCBENCH_DEVICE void put_partial(const Place& place, const ChunkRows& rows) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int at = tile_.row_of(r);
      if (at < rows.count) {
        const int64_t row = place.z * p_.rows * x_.pack + rows.first + at;
        float* to = x_.partials + (row * x_.splits + place.y) * (D + 2);
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          const float* o = tile_.out[r / 2][n] + r % 2 * 2;
          store(to + n * 8 + lane() % 4 * 2, o[0]);
          store(to + n * 8 + lane() % 4 * 2 + 1, o[1]);
        }
        if (lane() % 4 == 0) {
          store(to + D, tile_.shift[r] * ln_2);
          store(to + D + 1, tile_.sum[r]);
        }
      }
    }
  }

  const DualChunkLaunch& x_;
  const DualChunkAttention& p_;
  const Shared<int32_t> plan_ = shared<int32_t>(Tile::shared_bytes);
  Tile tile_;
};

template <class T, int D>
PCBENCH_KERNEL(tile_threads, 2)
void dual_chunk_tiles(PCBENCH_PARAM DualChunkLaunch x) {
  DualChunkTiles<T, D>(x).run();
}

template <class T, int D>
void launch_dual_chunk(const DualChunkLaunch& x, Stream stream) {
  const int64_t blocks = x.grid.blocks() * x.splits * x.p.keys.batch * x.p.keys.kv_heads;
  launch(dual_chunk_tiles<T, D>, blocks, tile_threads, DualChunkTiles<T, D>::shared_bytes, stream, x);
}

}  // namespace pcbench::device
