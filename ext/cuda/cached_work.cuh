// The tiles of cached_attention and who takes them.
//
// The keys of a pair (b, block of heads) are its listed segments, each cut into tiles of 64 keys; a job is a pair and a
// block of its rows. Tiles of all jobs stand in one row, and every block takes an equal share of it: how long segments
// are is read on the device, so a grid fits any lengths. A job cut between blocks leaves parts behind, numbered
// block + job, which grows along the row by one from part to part: no two parts meet, and a job's lie side by side.
// Shared memory: 4 bytes a pair, 16 bytes a listed slot, and for each of 128 tiles 20 bytes and 8 for each head with
// eviction bits of its own; beyond 8 such heads, for each of 64.
// Equal shares after Stream-K, arXiv:2301.03598.
#pragma once

#include "attention_launch.h"
#include "attention_tile.cuh"

namespace pcbench::device {

// Share of every block; small caches go to fewer blocks than there are.
constexpr int64_t least_share = 2;

PCBENCH_HOST_DEVICE int64_t share_of(int64_t tiles, int32_t blocks) {
  const int64_t share = (tiles + blocks - 1) / blocks;
  return share < least_share ? least_share : share;
}

// What a block takes of a job: `count` tiles from `first` on, left as part `number`.
struct Part {
  int32_t pair, row_block, first, count, number;
};

template <class T>
class CachedWork {
 public:
  static int shared_bytes(const CachedLaunch& x) {
    const int64_t tiles = int64_t{x.described + 1} * columns(x);
    const int64_t words = 1 + tiles + x.p.keys.listed * segment_columns + x.pairs + 1;
    return static_cast<int>(words * sizeof(int32_t));
  }

  // Counts the tiles. Block 0 leaves the counts for the merge.
  PCBENCH_DEVICE CachedWork(const CachedLaunch& x, int shared_offset)
      : x_(x),
        keys_(x.p.keys),
        listed_(static_cast<int32_t>(x.p.keys.listed)),
        found_(shared<int32_t>(shared_offset)),
        tiles_(found_ + 1),
        segments_(tiles_ + (x.described + 1) * columns(x)),
        before_(segments_ + listed_ * segment_columns) {
    for (int i = thread_index(); i <= x.pairs; i += block_threads()) {
      before_[i] = 0;
    }
    barrier();
    for (int i = thread_index(); i < x.pairs * listed_; i += block_threads()) {
      const int32_t tiles = tiles_of(segment(i / listed_, i % listed_).length);
      if (tiles) {
        atomic_add(before_ + (i / listed_ + 1), tiles);
      }
    }
    barrier();
    if (warp() == 0) {
      int32_t total = 0;
      for (int i = 0; i <= x.pairs; i += warp_width) {
        const bool inside = i + lane() <= x.pairs;
        const int32_t sum = sum_before(inside ? before_[i + lane()] : 0) + total;
        if (inside) {
          before_[i + lane()] = sum;
        }
        total = shuffle(sum, warp_width - 1);
      }
    }
    barrier();
    if (block_index() == 0) {
      for (int i = thread_index(); i <= x.pairs; i += block_threads()) {
        store(x.before + i, before_[i]);
      }
    }
  }

  // Calls act(part) for what this block takes of each job; the pair's segments are listed then.
  template <class Act>
  PCBENCH_DEVICE void for_each_part(Act&& act) {
    const int64_t rows = x_.row_blocks, total = before_[x_.pairs] * rows, share = share_of(total, x_.blocks);
    int64_t at = block_index() * share;
    const int64_t end = at + share < total ? at + share : total;
    for (int i = thread_index(); i < x_.pairs; i += block_threads()) {
      if (before_[i] * rows <= at && at < before_[i + 1] * rows) {
        found_[0] = i;
      }
    }
    barrier();
    int32_t pair = at < end ? found_[0] : 0, listed = -1;
    while (at < end) {
      while (before_[pair + 1] * rows <= at) {
        ++pair;
      }
      if (listed != pair) {
        list(pair);
        listed = pair;
      }
      const int32_t tiles = before_[pair + 1] - before_[pair];
      const int64_t within = at - before_[pair] * rows;
      const int32_t row_block = static_cast<int32_t>(within / tiles), tile = static_cast<int32_t>(within % tiles);
      const int32_t count = end - at < tiles - tile ? static_cast<int32_t>(end - at) : tiles - tile;
      act(Part{pair, row_block, tile, count, block_index() + pair * x_.row_blocks + row_block});
      at += count;
      // the next job uses the same shared memory
      barrier();
    }
  }

  // Describes the next tiles of a part, from `done` on; a tile without keys ends them. A thread a tile: this is too
  // much to do in every thread for every tile.
  PCBENCH_DEVICE void describe(const Part& part, int32_t done) {
    const int32_t count = this->count(part, done);
    barrier();
    if (thread_index() < count) {
      describe(part.pair, part.first + done + thread_index(), tile(thread_index()));
    }
    if (thread_index() == 0) {
      tile(count)[tile_row] = tile(count)[tile_v_row] = 0;
      tile(count)[tile_length] = 0;
    }
    barrier();
  }

  PCBENCH_DEVICE int32_t count(const Part& part, int32_t done) const {
    return part.count - done < x_.described ? part.count - done : x_.described;
  }

  // Of tile i of those described: its first rows in the store and its keys; what position sees of them, eviction aside;
  // whether any head's bits evict one; the eviction bits at a place, which is words_of(a head of the block) and w.
  PCBENCH_DEVICE int64_t row(int i) const { return tile(i)[tile_row]; }
  PCBENCH_DEVICE int64_t v_row(int i) const { return tile(i)[tile_v_row]; }
  PCBENCH_DEVICE int32_t keys(int i) const { return tile(i)[tile_length]; }
  PCBENCH_DEVICE int32_t visible(int i, int32_t position) const {
    const int32_t seen = tile(i)[tile_ahead] + position;
    return seen < keys(i) ? seen : keys(i);
  }
  PCBENCH_DEVICE bool evicts(int i) const { return tile(i)[tile_evicts] != 0; }
  PCBENCH_DEVICE int32_t words_of(int32_t member) const { return x_.bit_heads > 1 ? member * 2 : 0; }
  PCBENCH_DEVICE uint32_t word(int i, int32_t at) const { return static_cast<uint32_t>(tile(i)[tile_words + at]); }

  // Where the scores of a pair's first head are kept.
  PCBENCH_DEVICE float* scores(int32_t pair) const {
    return x_.p.scores + (int64_t{pair / x_.head_blocks} * x_.p.heads + first_head(pair)) * x_.p.score_row;
  }

  // The first row of a pair's queries; rows are packed.
  PCBENCH_DEVICE const T* queries(int32_t pair) const {
    return static_cast<const T*>(x_.p.q.data) + pair / x_.head_blocks * x_.p.q.strides[0] +
           first_head(pair) * x_.p.q.strides[1];
  }

 private:
  // columns of listed places, and of described tiles; tile_ahead: what position 0 sees, one more each further position
  enum { first_tile, segment_start, segment_length, segment_slot, segment_columns };
  enum { tile_row, tile_v_row, tile_length, tile_ahead, tile_evicts, tile_words };

  struct Segment {
    int32_t slot, start, length;
  };

  PCBENCH_HOST_DEVICE static int32_t columns(const CachedLaunch& x) { return tile_words + 2 * x.bit_heads; }
  PCBENCH_DEVICE Shared<int32_t> tile(int i) const { return tiles_ + i * columns(x_); }

  PCBENCH_DEVICE static int32_t tiles_of(int32_t length) { return (length + tile_keys - 1) / tile_keys; }

  PCBENCH_DEVICE int32_t first_head(int32_t pair) const { return pair % x_.head_blocks * x_.pack; }
  PCBENCH_DEVICE int32_t kv_head(int32_t pair) const {
    return first_head(pair) / static_cast<int32_t>(x_.p.heads / keys_.kv_heads);
  }

  PCBENCH_DEVICE void describe(int32_t pair, int32_t t, Shared<int32_t> to) const {
    // the last place that does not begin behind the tile
    int32_t place = 0, high = listed_ - 1;
    while (place < high) {
      const int32_t middle = (place + high + 1) / 2;
      const bool behind = segments_[middle * segment_columns + first_tile] > t;
      place = behind ? place : middle;
      high = behind ? middle - 1 : high;
    }
    const Shared<int32_t> segment = segments_ + place * segment_columns;
    const int32_t offset = (t - segment[first_tile]) * tile_keys, left = segment[segment_length] - offset;
    to[tile_row] = segment[segment_start] + offset;
    to[tile_v_row] = v_start(segment[segment_slot], segment[segment_start], kv_head(pair)) + offset;
    to[tile_length] = left < tile_keys ? left : tile_keys;
    to[tile_ahead] = keys_.causal_last && place == found_[0] ? left - static_cast<int32_t>(x_.p.rows) + 1 : tile_keys;
    const Ints& evicted = x_.p.evicted;
    const int32_t head = evicted.data && x_.p.evicted_heads == x_.p.heads ? first_head(pair) : kv_head(pair);
    int32_t any = 0;
    for (int i = 0; i < 2 * x_.bit_heads; ++i) {
      const int64_t w = offset / 32 + i % 2;
      const int64_t at = segment[segment_slot] * evicted.strides[0] + (head + i / 2) * evicted.strides[1] + w;
      const int32_t word = evicted.data && w < x_.p.words ? load(evicted.data + at) : 0;
      to[tile_words + i] = word;
      any |= word;
    }
    to[tile_evicts] = any;
  }

  // What an unused place lists, and what does not lie within the stored rows, is empty.
  PCBENCH_DEVICE Segment segment(int32_t pair, int32_t place) const {
    const int32_t b = pair / x_.head_blocks;
    const int32_t slot = keys_.slots.data ? load(keys_.slots.data + b * keys_.slots.strides[0] + place) : b;
    if (slot < 0 || slot >= keys_.slots_in_store) {
      return {slot, 0, 0};
    }
    const int32_t start = load(keys_.starts.data + slot * keys_.starts.strides[0] + kv_head(pair));
    const int32_t length = load(keys_.lengths.data + slot * keys_.lengths.strides[0] + kv_head(pair));
    const int32_t values = v_start(slot, start, kv_head(pair));
    const bool inside = start >= 0 && values >= 0 && length >= 0 && int64_t{start} + length <= keys_.stored_rows &&
                        int64_t{values} + length <= keys_.value_rows;
    return {slot, start, inside ? length : 0};
  }

  // Not kept with the listed segments: shared memory is full.
  PCBENCH_DEVICE int32_t v_start(int32_t slot, int32_t start, int32_t kv_head) const {
    const Ints& starts = keys_.v_starts;
    return starts.data ? load(starts.data + slot * starts.strides[0] + kv_head) : start;
  }

  // Sum of x over this lane and those below.
  PCBENCH_DEVICE static int32_t sum_before(int32_t x) {
#pragma unroll
    for (int by = 1; by < warp_width; by *= 2) {
      const int32_t below = shuffle_up(x, by);
      x += lane() < by ? 0 : below;
    }
    return x;
  }

  // Puts the pair's segments into shared memory; found_ becomes the last place that lists a slot.
  PCBENCH_DEVICE void list(int32_t pair) {
    barrier();
    if (warp() == 0) {
      int32_t total = 0, last = -1;
      for (int i = 0; i < listed_; i += warp_width) {
        const int32_t place = i + lane();
        const Segment x = place < listed_ ? segment(pair, place) : Segment{-1, 0, 0};
        const int32_t tiles = tiles_of(x.length), sum = sum_before(tiles) + total;
        if (place < listed_) {
          segments_[place * segment_columns + first_tile] = sum - tiles;
          segments_[place * segment_columns + segment_start] = x.start;
          segments_[place * segment_columns + segment_length] = x.length;
          segments_[place * segment_columns + segment_slot] = x.slot;
        }
        last = x.slot >= 0 ? place : last;
        total = shuffle(sum, warp_width - 1);
      }
#pragma unroll
      for (int mask = 1; mask < warp_width; mask *= 2) {
        const int32_t other = shuffle_xor(last, mask);
        last = other > last ? other : last;
      }
      if (lane() == 0) {
        found_[0] = last;
      }
    }
    barrier();
  }

  const CachedLaunch& x_;
  const KeyRows& keys_;
  const int32_t listed_;
  // the pair to begin with, then the last place that lists a slot; described tiles; listed places; tiles of pairs
  // before
  const Shared<int32_t> found_, tiles_, segments_, before_;
};

}  // namespace pcbench::device
