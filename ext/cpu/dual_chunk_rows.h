// Which rows of a dual_chunk_attention call belong together, and which keys they read.
#pragma once

#include "cpu/segments.h"

namespace pcbench::PCBENCH_ISA {

// How far before a row's chunk a key's is: what its query must be turned by depends on it.
enum class Distance { further, previous, own };

// One (b, hkv): its rows [begin, end) see keys, row r stands at position ahead + r.
struct ChunkedPair {
  int64_t b, h;
  Segment keys;
  int64_t begin, end, ahead;
};

// Rows [first, first + count) of a pair, in one chunk and one tile, in the order of RowBlock.
struct ChunkedBlock {
  int64_t first, count;
};

class ChunkedRows {
 public:
  explicit ChunkedRows(const DualChunkAttention& p) : p_(p), group_(p.heads / p.keys.kv_heads) {}

  int64_t pairs() const { return p_.keys.batch * p_.keys.kv_heads; }

  int64_t group() const { return group_; }

  ChunkedPair pair(int64_t index) const {
    const int64_t b = index / p_.keys.kv_heads, h = index % p_.keys.kv_heads;
    const Segment keys = segment(p_.keys, b, h, 0, -1);
    int64_t valid = p_.query_lengths.data ? p_.query_lengths.data[b * p_.query_lengths.strides[0]] : p_.rows;
    valid = smaller(p_.rows, larger<int64_t>(0, valid));
    const int64_t ahead = keys.length - valid;
    return {b, h, keys, larger<int64_t>(0, -ahead), valid, ahead};
  }

  // f(block) for all rows of the pair that see keys, ascending.
  template <class F>
  void for_blocks(const ChunkedPair& x, F f) const {
    for (int64_t row = x.begin, end; row < x.end; row = end) {
      end = smaller(x.end, row + p_.period - (x.ahead + row) % p_.period);
      if (p_.tile_rows) {
        end = smaller(end, (row / p_.tile_rows + 1) * p_.tile_rows);
      }
      for (int64_t first = row * group_; first < end * group_; first += block_rows) {
        f(ChunkedBlock{first, smaller<int64_t>(block_rows, end * group_ - first)});
      }
    }
  }

  // f(distance, from, to) for the runs of keys that a block's rows see: further chunks, the previous one, their own.
  // A run begins with a chunk and, unless `joined`, ends with it.
  template <class F>
  void for_runs(const ChunkedPair& x, const ChunkedBlock& block, bool joined, F f) const {
    const int64_t s = p_.period, row = block.first / group_, chunk = (x.ahead + row) / s;
    const int64_t further = larger<int64_t>(0, chunk - 1);
    if (p_.tile_rows) {
      const int64_t* strides = p_.chunks.strides;
      const int64_t place = x.b * strides[0] + x.h * strides[1] + row / p_.tile_rows * strides[2];
      for (int64_t k = 0; k < p_.listed; ++k) {
        const int64_t c = p_.chunks.data[place + k];
        if (c >= 0 && c < further) {
          f(Distance::further, c * s, (c + 1) * s);
        }
      }
    } else if (joined) {
      if (further) {
        f(Distance::further, 0, further * s);
      }
    } else {
      for (int64_t c = 0; c < further; ++c) {
        f(Distance::further, c * s, (c + 1) * s);
      }
    }
    if (chunk > 0) {
      f(Distance::previous, further * s, chunk * s);
    }
    f(Distance::own, chunk * s, position(x, block, block.count - 1) + 1);
  }

  // Row r of a block as a row of its tensors, and where it stands.
  int64_t row(const ChunkedBlock& block, int64_t r) const { return (block.first + r) / group_; }

  int64_t head(const ChunkedPair& x, const ChunkedBlock& block, int64_t r) const {
    return x.h * group_ + (block.first + r) % group_;
  }

  int64_t position(const ChunkedPair& x, const ChunkedBlock& block, int64_t r) const { return x.ahead + row(block, r); }

 private:
  const DualChunkAttention& p_;
  const int64_t group_;
};

}  // namespace pcbench::PCBENCH_ISA
