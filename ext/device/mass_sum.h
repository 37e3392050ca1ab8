// The mass of keys on matrix units: window_mass, key_mass, and the mass of calibrated_attention once its lse is known.
//
// A block owns 128 keys of one (b, hkv), of one listed segment in a store; each of its warps keeps some of them in
// registers and takes the rows of all heads of the group past them: each key's sum is made by one warp, in a fixed
// order. A head's rows are padded to full steps of eight. Grid: key tiles × Hkv × B (× P). Shared: the platform's
// MassTile<T, D>. Scores and sums are float32. Shapes: CalibratedAttention and WindowMass of params.h. Equal the
// functions of pcbench.reference of their names. The observation window is SnapKV's, arXiv:2404.14469.
#pragma once

#include "device/calibrated_attention.h"
#include "device/launch.h"
#include "device/refusals.h"
#include "device/segments.h"

namespace pcbench::device::mass {

using portable::CalibratedRows;
using portable::Segment;

constexpr int block_keys = 128;
constexpr int step_rows = 8;
constexpr int chunk_rows = 64;  // in shared memory at a time
constexpr int chunk_steps = chunk_rows / step_rows;

// What a platform's MassTile<T, D> offers:
//   threads, warp_keys, lses_at, limits_at, shared_bytes    the log-sum-exps to base 2 and limits of two chunks of rows
//   start_keys(from), keep_keys()          keys to registers; from(n) is where key n begins, null for zeros
//   start_rows(buffer, from), wait()       a chunk of rows to shared memory
//   take<Masked>(buffer, steps, scale, done)    adds the weights of a chunk's rows; done(n) after step n
//   put(to, count, hidden)                 writes the warp's sums, but 0 for hidden keys, and starts again from 0

// The rows of a block, in chunks.
struct MassRows {
  int32_t heads, rows, steps;  // steps of a head

  PCBENCH_DEVICE MassRows(int64_t heads, int64_t rows)
      : heads(static_cast<int32_t>(heads)),
        rows(static_cast<int32_t>(rows)),
        steps(static_cast<int32_t>((rows + step_rows - 1) / step_rows)) {}

  PCBENCH_DEVICE int32_t chunks() const { return (heads * steps + chunk_steps - 1) / chunk_steps; }
  // Of a line of a chunk.
  PCBENCH_DEVICE int32_t head(int chunk, int line) const { return (chunk * chunk_steps + line / step_rows) / steps; }
  PCBENCH_DEVICE int32_t row(int chunk, int line) const {
    return (chunk * chunk_steps + line / step_rows) % steps * step_rows + line % step_rows;
  }
  PCBENCH_DEVICE bool there(int chunk, int line) const { return head(chunk, line) < heads && row(chunk, line) < rows; }
};

// Takes all rows past the block's keys.
//
// key(n) is where key n begins, query(g, i) row i of head g of the group, lse(g, i) its log-sum-exp, limit(i) how many
// of the block's keys it sees, never fewer than the row before; mass(g) where the sums of `count` keys go; hidden(g)
// the warp's evicted keys.
template <class Tile, class Key, class Query, class Lse, class Limit, class Mass, class Hidden>
PCBENCH_DEVICE void sum_rows(const MassRows& rows, float scale, Key key, Query query, Lse lse, Limit limit, Mass mass,
                             int count, Hidden hidden) {
  const auto start_chunk = [&](int chunk) {
    const int buffer = chunk % 2, line = thread_index();
    Tile::start_rows(
        buffer, [&](int n) { return rows.there(chunk, n) ? query(rows.head(chunk, n), rows.row(chunk, n)) : nullptr; });
    if (line < chunk_rows) {
      const bool there = rows.there(chunk, line);
      const float x = there ? lse(rows.head(chunk, line), rows.row(chunk, line)) : -infinity;
      // a row that saw nothing adds nothing
      shared<float>(Tile::lses_at)[buffer * chunk_rows + line] = x == -infinity ? infinity : x * log2_e;
      shared<int32_t>(Tile::limits_at)[buffer * chunk_rows + line] = there ? limit(rows.row(chunk, line)) : 0;
    }
  };
  Tile tile;
  tile.start_keys(key);
  start_chunk(0);
  Tile::wait();
  barrier();
  tile.keep_keys();
  const bool masked = limit(0) < block_keys;
  for (int chunk = 0; chunk < rows.chunks(); ++chunk) {
    if (chunk + 1 < rows.chunks()) {
      start_chunk(chunk + 1);
    }
    const int steps = smaller(chunk_steps, rows.heads * rows.steps - chunk * chunk_steps);
    const auto done = [&](int step) {
      const int next = chunk * chunk_steps + step + 1, g = next / rows.steps - 1;
      if (next % rows.steps == 0 && g < rows.heads) {
        tile.put(mass(g), count, hidden(g));
      }
    };
    if (masked) {
      tile.template take<true>(chunk % 2, steps, scale, done);
    } else {
      tile.template take<false>(chunk % 2, steps, scale, done);
    }
    Tile::wait();
    // the next rows are there, and these are read
    barrier();
  }
}

template <class T, int D, template <class, int> class MassTile>
PCBENCH_KERNEL((MassTile<T, D>::threads), 2)
void calibrated_mass_kernel(PCBENCH_PARAM CalibratedAttention p) {
  using Tile = MassTile<T, D>;
  const Place place = place_in(ceil_div(p.keys, block_keys), p.kv_heads);
  const int64_t b = place.z, kv_head = place.y, group = p.heads / p.kv_heads;
  const int64_t head = b * p.heads + kv_head * group;
  const int32_t from = place.x * block_keys;
  const int count = static_cast<int>(smaller<int64_t>(block_keys, p.keys - from));
  const CalibratedRows all(p, b, kv_head * group);
  if (all.rows == 0) {
    for (int n = thread_index(); n < group * count; n += Tile::threads) {
      store(p.mass + (head + n / count) * p.keys + from + n % count, 0.0f);
    }
    return;
  }
  const T* k = static_cast<const T*>(p.k.data) + b * p.k.strides[0] + kv_head * p.k.strides[1];
  const T* q = static_cast<const T*>(p.q.data) + b * p.q.strides[0] + kv_head * group * p.q.strides[1];
  const int32_t first = static_cast<int32_t>(larger<int64_t>(0, all.rows - p.mass_rows));
  const int32_t word = (from + warp() * Tile::warp_keys) / 32;
  sum_rows<Tile>(
      MassRows(group, all.rows - first), p.scale * log2_e,
      [&](int n) { return from + n < all.keys ? k + (from + n) * p.k.strides[2] : nullptr; },
      [&](int g, int i) { return q + g * p.q.strides[1] + (first + i) * p.q.strides[2]; },
      [&](int g, int i) { return load(p.lse + (head + g) * p.rows + first + i); },
      [&](int i) { return all.visible(p, first + i) - from; },
      [&](int g) { return p.mass + (head + g) * p.keys + from; }, count,
      [&](int g) { return word < p.words ? CalibratedRows(p, b, kv_head * group + g).hidden(word) : 0u; });
}

template <class T, int D, template <class, int> class MassTile>
PCBENCH_KERNEL((MassTile<T, D>::threads), 2)
void window_mass_kernel(PCBENCH_PARAM WindowMass p) {
  using Tile = MassTile<T, D>;
  const Place at = place_in(ceil_div(p.longest, block_keys), p.keys.kv_heads);
  const int64_t b = at.z / p.keys.listed, place = at.z % p.keys.listed;
  const int64_t kv_head = at.y, group = p.heads / p.keys.kv_heads;
  const int64_t head = (b * p.keys.listed + place) * p.heads + kv_head * group;
  const int32_t from = at.x * block_keys;
  const Segment x = portable::segment(p.keys, b, kv_head, place, portable::last_used(p.keys, b));
  const T* k = static_cast<const T*>(p.keys.k_rows.data);
  const T* q = static_cast<const T*>(p.q.data) + b * p.q.strides[0] + kv_head * group * p.q.strides[1];
  const float* lses = static_cast<const float*>(p.lse.data) + b * p.lse.strides[0];
  sum_rows<Tile>(
      MassRows(group, p.rows), p.scale * log2_e,
      [&](int n) { return from + n < x.length ? k + (x.start + from + n) * p.keys.k_rows.strides[0] : nullptr; },
      [&](int g, int i) { return q + g * p.q.strides[1] + i * p.q.strides[2]; },
      [&](int g, int i) { return load(lses + (kv_head * group + g) * p.lse.strides[1] + i); },
      [&](int i) { return x.visible(i, p.rows) - from; }, [&](int g) { return p.mass + (head + g) * p.longest + from; },
      static_cast<int>(smaller<int64_t>(block_keys, p.longest - from)), [&](int) { return 0u; });
}

// Calls start<T, D>() for a 16-bit dtype.
template <class Start>
void with_inputs(Float dtype, int64_t dim, Start start) {
  const auto with_dim = [&]<class T>() {
    dim == 64   ? start.template operator()<T, 64>()
    : dim == 96 ? start.template operator()<T, 96>()
                : start.template operator()<T, 128>();
  };
  dtype == Float::bf16 ? with_dim.template operator()<bf16>() : with_dim.template operator()<half>();
}

template <template <class, int> class Tile>
const char* start_calibrated_mass(const CalibratedAttention& p, Stream stream) {
  const char* refusal = first_of(refusal_of_inputs(p.dtype, 1.0f), refusal_of_rows(p.q, 3), refusal_of_rows(p.k, 3));
  const int64_t blocks = ceil_div(p.keys, block_keys) * p.kv_heads * p.batch;
  if (!refusal) {
    with_inputs(p.dtype, p.dim, [&]<class T, int D>() {
      launch(calibrated_mass_kernel<T, D, Tile>, blocks, Tile<T, D>::threads, Tile<T, D>::shared_bytes, stream, p);
    });
  }
  return refusal;
}

template <template <class, int> class Tile>
const char* start_window_mass(const WindowMass& p, Stream stream) {
  const char* refusal =
      first_of(refusal_of_inputs(p.keys.dtype, 1.0f), refusal_of_rows(p.q, 3), refusal_of_rows(p.keys.k_rows, 1));
  const int64_t blocks = ceil_div(p.longest, block_keys) * p.keys.kv_heads * p.keys.batch * p.keys.listed;
  if (!refusal) {
    with_inputs(p.keys.dtype, p.keys.dim, [&]<class T, int D>() {
      launch(window_mass_kernel<T, D, Tile>, blocks, Tile<T, D>::threads, Tile<T, D>::shared_bytes, stream, p);
    });
  }
  return refusal;
}

}  // namespace pcbench::device::mass
