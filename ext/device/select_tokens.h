// select_tokens: keeps the keys with the largest pooled mass of each kv-head and gathers them, in reading order.
//
// Up to 16384 keys a row one launch does all: `shares` blocks of a (b, hkv) each rank and select the row, redundantly,
// and copy their share of the kept rows. Beyond that a first launch writes the ranks. Grid: B·Hkv·shares. Shared:
// 4 bytes a key, at least 8 KB and 4 bytes a copied row. Masses are summed in float32 in the order of the heads.
// Shapes: SelectTokens of params.h. Equals pcbench.reference.select_tokens. SnapKV, arXiv:2404.14469; ParallelComp,
// arXiv:2502.14317v2.
#pragma once

#include "device/launch.h"
#include "device/select_rank.h"

namespace pcbench::device {

constexpr int rank_keys = 1024;  // of a block of the first launch
constexpr int rank_threads = 256;

// The first launch beyond 16384 keys. Shared: the masses of the block's keys and of those that pooling reaches.
PCBENCH_KERNEL(rank_threads, 4) void rank_keys_kernel(PCBENCH_PARAM SelectCall call) {
  const SelectTokens& p = call.p;
  const Place place = place_in(ceil_div(p.keys, rank_keys), p.batch * p.kv_heads);
  const int64_t pair = place.y;
  const SelectedHead head(p, pair);
  const int32_t from = place.x * rank_keys, reach = static_cast<int32_t>(p.pool / 2);
  const int32_t first = larger(0, from - reach), last = smaller(head.length, from + rank_keys + reach);
  Shared<float> masses = shared<float>(0);
  for (int32_t j = first + thread_index(); j < last; j += block_threads()) {
    masses[j - first] = head.group_mass(p, j);
  }
  barrier();
  for (int32_t j = from + thread_index(); j < smaller(head.length, from + rank_keys); j += block_threads()) {
    store(call.ranks + pair * p.keys + j, head.rank(p, j, masses, first));
  }
}

// Indices of the kept keys [first, last) into shared memory.
template <int Held>
PCBENCH_DEVICE void list_kept(const Ranks<Held>& ranks, Threshold threshold, int32_t first, int32_t last) {
  Shared<int32_t> list = shared<int32_t>(select_list);
  int32_t larger_before = 0, equal_before = 0, step = 0;
  ranks.for_each([&](int32_t j, uint32_t rank) {
    const bool is_larger = rank > threshold.least, is_equal = rank == threshold.least;
    const uint64_t larger_votes = ballot(is_larger), equal_votes = ballot(is_equal);
    // two halves in turn: whoever writes one again has passed a barrier since it was read
    Shared<int32_t> totals = shared<int32_t>(select_totals) + step++ % 2 * 32;
    if (lane() == 0) {
      totals[warp()] = count_bits(larger_votes) | count_bits(equal_votes) << 16;
    }
    barrier();
    const uint64_t below = (uint64_t{1} << lane()) - 1;
    int32_t place = larger_before + count_bits(larger_votes & below);
    int32_t equals = equal_before + count_bits(equal_votes & below);
    for (int w = 0; w < block_threads() / warp_width; ++w) {
      const int32_t both = totals[w];
      larger_before += both & 0xffff;
      equal_before += both >> 16;
      place += w < warp() ? both & 0xffff : 0;
      equals += w < warp() ? both >> 16 : 0;
    }
    place += smaller(equals, threshold.ties);
    if ((is_larger || (is_equal && equals < threshold.ties)) && place >= first && place < last) {
      list[place - first] = j;
    }
  });
}

// Copies `rows` listed rows, zeros where the list has ended, with Pieces of 16 or 2 bytes.
template <class Piece, class Load, class Store>
PCBENCH_DEVICE void gather(const SelectCall& call, const SelectedHead& head, int32_t first, int32_t rows, int32_t kept,
                           Load load_piece, Store store_piece) {
  constexpr int at_once = 4;
  const SelectTokens& p = call.p;
  Shared<int32_t> list = shared<int32_t>(select_list);
  const int32_t pieces = static_cast<int32_t>(p.row_bytes / static_cast<int64_t>(sizeof(Piece)));
  const char* k = static_cast<const char*>(p.k.data) + (head.b * p.k.strides[0] + head.h * p.k.strides[1]) * p.itemsize;
  const char* v = static_cast<const char*>(p.v.data) + (head.b * p.v.strides[0] + head.h * p.v.strides[1]) * p.itemsize;
  const int64_t to = ((head.b * p.kv_heads + head.h) * p.capacity + first) * p.row_bytes;
  const int32_t threads = block_threads();
  for (int32_t n = thread_index(); n < rows * pieces; n += at_once * threads) {
    Piece from_k[at_once], from_v[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const int32_t row = (n + i * threads) / pieces, piece = (n + i * threads) % pieces;
      from_k[i] = from_v[i] = Piece{};
      if (row < rows && row + first < kept) {
        const int64_t at = piece * static_cast<int64_t>(sizeof(Piece));
        from_k[i] = load_piece(k + list[row] * p.k.strides[2] * p.itemsize + at);
        from_v[i] = load_piece(v + list[row] * p.v.strides[2] * p.itemsize + at);
      }
    }
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      if (n + i * threads < rows * pieces) {
        const int64_t at = to + (n + i * threads) * static_cast<int64_t>(sizeof(Piece));
        store_piece(static_cast<char*>(p.k2) + at, from_k[i]);
        store_piece(static_cast<char*>(p.v2) + at, from_v[i]);
      }
    }
  }
}

// Held keys a thread in blocks of Threads; none held: ranks come from the first launch.
template <int Threads, int Held>
PCBENCH_KERNEL(Threads, 1024 / Threads)
void select_tokens_kernel(PCBENCH_PARAM SelectCall call) {
  const SelectTokens& p = call.p;
  const int64_t pair = block_index() / call.shares;
  const int32_t first = block_index() % call.shares * call.share_rows;
  const int32_t rows = smaller(call.share_rows, static_cast<int32_t>(p.capacity) - first);
  const SelectedHead head(p, pair);
  Ranks<Held> ranks{{}, call.ranks + pair * p.keys, head.length};
  if constexpr (Held > 0) {
    Shared<float> masses = shared<float>(0);
    for (int32_t j = thread_index(); j < head.length; j += Threads) {
      masses[j] = head.group_mass(p, j);
    }
    barrier();
#pragma unroll
    for (int i = 0; i < Held; ++i) {
      ranks.held[i] = head.rank(p, i * Threads + thread_index(), masses, 0);
    }
    // the bins take the place of the masses
    barrier();
  }
  const Threshold threshold = find_threshold(ranks, head.budget);
  if (threshold.kept > 0) {
    list_kept(ranks, threshold, first, first + rows);
  }
  barrier();
  Shared<int32_t> list = shared<int32_t>(select_list);
  for (int32_t i = thread_index(); i < rows; i += Threads) {
    store(p.index + pair * p.capacity + first + i, first + i < threshold.kept ? list[i] : -1);
  }
  if (first == 0 && thread_index() == 0) {
    store(p.lengths + pair, threshold.kept);
  }
  if (call.packed) {
    gather<Pack16>(
        call, head, first, rows, threshold.kept, [](const char* from) { return load16(from); },
        [](char* at, Pack16 x) { store16(at, x); });
  } else {
    gather<uint16_t>(
        call, head, first, rows, threshold.kept,
        [](const char* from) { return load(reinterpret_cast<const uint16_t*>(from)); },
        [](char* at, uint16_t x) { store(reinterpret_cast<uint16_t*>(at), x); });
  }
}

}  // namespace pcbench::device
