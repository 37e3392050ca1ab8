// The rows of dual_chunk_attention that a block owns, and the keys that they see.
//
// Rows are (position, head of the group) of one (b, hkv). The rows of a tile of `chunks`, all rows where there are no
// lists, are cut where a chunk ends, so that a block's rows stand in one chunk and take a turn together. Where that is,
// lengths say, on the device: the grid has a block more for every border that a tile may meet, and blocks that are left
// over own no rows.
#pragma once

#include "device/launch.h"
#include "device/segments.h"

namespace pcbench::device {

// How the rows of a pair are laid out in blocks. The numbers of blocks and rows are those of shapes alone.
struct ChunkGrid {
  int32_t block_rows, tile_rows, tiles, tile_blocks, period;

  PCBENCH_HOST_DEVICE int64_t blocks() const { return int64_t{tiles} * tile_blocks; }
};

inline ChunkGrid chunk_grid(const DualChunkAttention& p, int64_t block_rows) {
  const int64_t group = p.heads / p.keys.kv_heads, most = 0x7fffffff;
  const int64_t tile_rows = p.tile_rows ? smaller(p.tile_rows, p.rows) : p.rows;
  if (tile_rows == 0) {
    return {};
  }
  // a longer period has no end that a row could reach
  const int64_t period = smaller(p.period, most);
  return {
      .block_rows = static_cast<int32_t>(block_rows),
      .tile_rows = static_cast<int32_t>(tile_rows),
      .tiles = static_cast<int32_t>(ceil_div(p.rows, tile_rows)),
      .tile_blocks = static_cast<int32_t>(ceil_div(tile_rows * group, block_rows) + ceil_div(tile_rows - 1, period)),
      .period = static_cast<int32_t>(period),
  };
}

// How a row is turned for the keys of a chunk: its own, the one before, or one further back.
enum class Turn : int32_t { own, previous, further };

// Keys of a segment that stand side by side and ask for the same turn.
struct ChunkKeys {
  int32_t first, count;
  Turn turn;

  PCBENCH_DEVICE int32_t end() const { return first + count; }
};

class ChunkRows {
 public:
  // Of block `index` of pair (b, h).
  PCBENCH_DEVICE ChunkRows(const DualChunkAttention& p, const ChunkGrid& grid, int32_t index, int64_t b, int64_t h)
      : p_(p), period_(grid.period), group_(static_cast<int32_t>(p.heads / p.keys.kv_heads)) {
    const portable::Segment segment = portable::segment(p.keys, b, h, 0, 0);
    const int32_t rows = static_cast<int32_t>(p.rows);
    start = segment.start;
    query_length = p.query_lengths.data ? clamped(entry(p.query_lengths, b), 0, rows) : rows;
    ahead_ = segment.length - query_length;
    const int32_t tile = index / grid.tile_blocks, end = smaller<int64_t>(int64_t{tile + 1} * grid.tile_rows, rows);
    int32_t within = index % grid.tile_blocks;
    int64_t row = int64_t{tile} * grid.tile_rows;
    const int64_t at = ahead_ + row;
    chunk_ = static_cast<int32_t>((at < 0 ? at - period_ + 1 : at) / period_);
    // rows up to the end of the first row's chunk, then whole chunks of rows
    int64_t here = smaller<int64_t>(int64_t{chunk_ + 1} * period_ - at, end - row);
    const int64_t blocks = ceil_div(here * group_, grid.block_rows);
    if (within >= blocks) {
      const int64_t each = ceil_div(int64_t{smaller(period_, grid.tile_rows)} * group_, grid.block_rows);
      const int64_t further = (within - blocks) / each;
      within = static_cast<int32_t>((within - blocks) % each);
      row += here + further * period_;
      chunk_ += static_cast<int32_t>(1 + further);
      here = smaller<int64_t>(period_, end - row);
    }
    const int64_t left = here * group_ - int64_t{within} * grid.block_rows;
    count = static_cast<int32_t>(clamped<int64_t>(left, 0, grid.block_rows));
    first = count ? static_cast<int32_t>(row * group_ + int64_t{within} * grid.block_rows) : 0;
    if (p.tile_rows) {
      const int64_t* strides = p.chunks.strides;
      listed_ = p.chunks.data + b * strides[0] + h * strides[1] + tile * strides[2];
    }
    const int32_t last = smaller((first + count - 1) / group_, query_length - 1);
    most_ = count && first / group_ <= last ? larger(0, ahead_ + last + 1) : 0;
  }

  // Keys that row r of the call sees, were none left out: 0 or less where it sees nothing.
  PCBENCH_DEVICE int32_t seen(int32_t r) const { return r < query_length ? ahead_ + r + 1 : 0; }

  // Row of `turns` that turns row r, one of the block's.
  PCBENCH_DEVICE int64_t turned_by(int32_t r, Turn turn) const {
    const int64_t further = p_.clip - (ahead_ + r - int64_t{chunk_} * period_);
    return turn == Turn::further ? further : smaller<int64_t>(period_, further);
  }

  // The block's keys are those of these places, in this order; a place may hold none.
  PCBENCH_DEVICE int32_t places() const { return (p_.tile_rows ? static_cast<int32_t>(p_.listed) : 1) + 2; }
  PCBENCH_DEVICE ChunkKeys keys(int32_t place) const {
    if (most_ == 0) {
      return {0, 0, Turn::own};
    }
    const int32_t behind = places() - 1 - place, own = chunk_ * period_;
    if (behind == 0) {
      return {own, most_ - own, Turn::own};
    }
    if (behind == 1) {
      return chunk_ > 0 ? ChunkKeys{own - period_, period_, Turn::previous} : ChunkKeys{0, 0, Turn::previous};
    }
    if (!p_.tile_rows) {
      return {0, chunk_ > 1 ? own - period_ : 0, Turn::further};
    }
    const int32_t id = load(listed_ + place);
    return id >= 0 && id < chunk_ - 1 ? ChunkKeys{id * period_, period_, Turn::further}
                                      : ChunkKeys{0, 0, Turn::further};
  }

  int64_t start;         // of the segment
  int32_t first, count;  // rows (position, head of the group) of the pair
  int32_t query_length;  // valid rows of the call

 private:
  const DualChunkAttention& p_;
  const int32_t period_, group_;
  const int32_t* listed_ = nullptr;  // chunks of the tile
  int32_t ahead_;                    // position of row 0
  int32_t chunk_;                    // of the rows
  int32_t most_;                     // keys that the last row sees
};

}  // namespace pcbench::device
