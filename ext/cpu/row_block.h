// Online softmax of a block of query rows over blocks of keys.
#pragma once

#include "cpu/tile.h"
#include "params.h"

namespace pcbench::PCBENCH_ISA {

constexpr float infinity = __builtin_inff();
// scores are taken to base 2 by this very float, everywhere
constexpr float log2_e = 1.44269504f;

// a decoded token's rows at most: the heads of a group
constexpr int few_rows = 32;

// Keys [first, first + keys) of the axis that RowBlock's limits count on. Of pairs, a row of v is that of two keys, and
// rows up to the end of a panel are there.
template <class E>
struct KeyBlock {
  int64_t first;    // a multiple of panel_keys where keys are evicted
  int keys;         // 1 … block_keys
  const E* panels;  // [⌈keys/32⌉, depth, 32]
  const E* v;       // [keys, D] or [keys/2, D]
  int64_t v_row;
  const float* later = nullptr;  // rows that are asked for with those of v; null for pairs, may be null
  int64_t later_row = 0;
};

// Rows are (position, head of the group), position first: the heads of a group share every key they read.
template <int D, class E = float>
struct RowBlock {
  static constexpr int tile = tile_rows_of<E>, step = tile_step_of<E>, depth = depth_of<D, E>;

  alignas(64) E q[block_rows * depth];  // zero rows fill up the last tile
  alignas(64) float out[block_rows * D];
  alignas(64) float scores[tile * block_keys];  // q·k; then weights, of pairs two in each float
  float unit;               // what takes q·k to base 2; q has the scale already, or only its sign as a pair
  float shift[block_rows];  // largest score so far to base 2; −inf where nothing was seen
  float sum[block_rows];    // of 2^(score − shift)
  int64_t limits[block_rows];
  const int32_t* evicted[block_rows];  // bits of the row's head from key 0, may be null
  int64_t words;                       // bits[words…] are 0
  int rows;
  bool short_sums;  // of scores, whatever the number of rows

  int padded_rows() const { return (rows + step - 1) / step * step; }

  void reset(int count) {
    rows = count;
    short_sums = false;
    for (int i = 0; i < padded_rows() * D; i += Vec::width) {
      Vec::zero().store(out + i);
    }
    for (int i = 0; i < rows; ++i) {
      shift[i] = -infinity;
      sum[i] = 0.0f;
      limits[i] = 0;
      evicted[i] = nullptr;
    }
    __builtin_memset(q + rows * depth, 0, static_cast<uint64_t>(padded_rows() - rows) * depth * sizeof(E));
  }

  // The scale is the same for all rows.
  template <class T>
  void load_row(int row, const T* from, float scale) {
    if constexpr (is_pair<E>) {
      unit = scale == 0.0f ? log2_e : __builtin_fabsf(scale) * log2_e;
      for (int d = 0; d < depth; d += Vec::width) {
        copy_signed(from + 2 * d, scale, q + row * depth + d);
      }
    } else {
      unit = log2_e;
      for (int d = 0; d < D; d += Vec::width) {
        (Vec::load(from + d) * Vec::all(scale)).store(q + row * D + d);
      }
    }
  }

  // The row goes on from an attention over other keys.
  void resume_row(int row, const float* before, float lse) {
    if (lse == -infinity) {
      return;
    }
    shift[row] = lse * log2_e;
    sum[row] = static_cast<float>(__builtin_exp2(static_cast<double>(lse) * log2_e - shift[row]));
    for (int d = 0; d < D; d += Vec::width) {
      (Vec::load(before + d) * Vec::all(sum[row])).store(out + row * D + d);
    }
  }

  // 1 for every key of a panel that the row does not see.
  uint32_t hidden(int row, int64_t first) const {
    int64_t seen = limits[row] - first;
    uint32_t bits = seen <= 0 ? ~0u : seen < panel_keys ? ~0u << seen : 0u;
    if (evicted[row] && first / panel_keys < words) {
      bits |= static_cast<uint32_t>(evicted[row][first / panel_keys]);
    }
    return bits;
  }

  // Keys of the block that any of the rows [top, top + count) sees.
  int seen(const KeyBlock<E>& block, int top, int count) const {
    int64_t most = 0;
    for (int i = top; i < smaller(top + count, rows); ++i) {
      most = larger(most, limits[i]);
    }
    return static_cast<int>(smaller<int64_t>(block.keys, larger<int64_t>(0, most - block.first)));
  }

  // scores[i, j] of the rows [top, top + count) and the block's first `panels` panels; −inf where hidden.
  void score(const KeyBlock<E>& block, int top, int count, int panels) {
    // what few rows cost is reading the keys, and a small tile of floats keeps short sums
    const int at_once = (rows <= few_rows || short_sums) && !is_pair<E> ? step : count;
    for (int p = 0; p < panels; ++p) {
      for (int c = 0; c < panel_keys; c += tile_columns) {
        const E* keys = block.panels + p * depth * panel_keys + c;
        for (int i = 0; i < count; i += at_once) {
          multiply_rows<depth, block_keys>(smaller(at_once, count - i), q + (top + i) * depth, keys, panel_keys, depth,
                                           scores + i * block_keys + p * panel_keys + c, nullptr);
        }
      }
      for (int i = 0; i < smaller(count, rows - top); ++i) {
        uint32_t bits = hidden(top + i, block.first + p * panel_keys);
        if (bits) {
          hide(scores + i * block_keys + p * panel_keys, bits);
        }
      }
    }
  }

  // The scores of row i of those in `scores`, with the scale.
  void store_scores(int i, int keys, float* to) const {
    const float scale = unit == log2_e ? 1.0f : unit / log2_e;
    for (int j = 0; j < keys; ++j) {
      to[j] = scores[i * block_keys + j] * scale;
    }
  }

  static void hide(float* panel, uint32_t bits) {
    for (int j = 0; j < panel_keys; j += Vec::width) {
      replace(Vec::load(panel + j), bits >> j, -infinity).store(panel + j);
    }
  }

  // Scores become weights 2^(score·unit − shift); keep[i] rescales what row i summed up before.
  void weigh(int top, int count, int columns, float* keep) {
    float safe[tile], before[tile];
    for (int i = 0; i < count; ++i) {
      before[i] = shift[top + i];
      float peak = larger(before[i], peak_of(scores + i * block_keys, columns) * unit);
      safe[i] = peak == -infinity ? 0.0f : peak;
      keep[i] = before[i] - safe[i];
      shift[top + i] = peak;
    }
    for (int i = 0; i < count; i += Vec::width) {
      exp2(Vec::load(keep + i)).store(keep + i);
    }
    for (int i = 0; i < count; ++i) {
      // the polynomial's 2^0 is one bit below 1, which many blocks would add up
      keep[i] = shift[top + i] == before[i] ? 1.0f : keep[i];
      sum[top + i] = sum[top + i] * keep[i] + weigh_row(scores + i * block_keys, columns, safe[i]);
    }
  }

  static float peak_of(const float* row, int columns) {
    Vec a = Vec::all(-infinity), b = a;
    for (int j = 0; j < columns; j += 2 * Vec::width) {
      a = max(a, Vec::load(row + j));
      b = max(b, Vec::load(row + j + Vec::width));
    }
    return largest(max(a, b));
  }

  float weigh_row(float* row, int columns, float shift) const {
    Vec total[2] = {Vec::zero(), Vec::zero()};
    for (int j = 0; j < columns; j += 2 * Vec::width) {
      Vec weight[2];
      for (int half = 0; half < 2; ++half) {
        Vec score = Vec::load(row + j + half * Vec::width);
        weight[half] = exp2(fma(score, Vec::all(unit), Vec::all(-shift)));
        total[half] = total[half] + weight[half];
      }
      if constexpr (is_pair<E>) {
        store_narrow(weight[0], weight[1], reinterpret_cast<E*>(row) + j / 2);
      } else {
        weight[0].store(row + j);
        weight[1].store(row + j + Vec::width);
      }
    }
    return PCBENCH_ISA::sum(total[0] + total[1]);
  }

  void attend(const KeyBlock<E>& block) {
    attend(block, [](int, int, int) {});
  }

  // Calls keep_scores(top, count, keys) while `scores` holds those of `count` rows from `top` on with the block's first
  // `keys`.
  template <class Keep>
  void attend(const KeyBlock<E>& block, Keep keep_scores) {
    for (int top = 0; top < rows; top += tile) {
      int count = smaller(tile, padded_rows() - top);
      int keys = seen(block, top, count);
      if (!keys) {
        continue;
      }
      int panels = (keys + panel_keys - 1) / panel_keys;
      score(block, top, count, panels);
      keep_scores(top, smaller(count, rows - top), keys);
      alignas(64) float keep[tile + Vec::width] = {};
      weigh(top, smaller(count, rows - top), panels * panel_keys, keep);
      for (int c = 0; c < D; c += tile_columns) {
        const auto multiply = [&](auto... fetch) {
          multiply_rows<block_keys, D>(count, reinterpret_cast<const E*>(scores), block.v + c, block.v_row,
                                       is_pair<E> ? (keys + 1) / 2 : keys, out + top * D + c, keep, fetch...);
        };
        if constexpr (!is_pair<E>) {
          if (block.later) {
            multiply([&](int64_t j, int64_t column) { fetch_line(block.later + j * block.later_row + c + column); });
            continue;
          }
        }
        multiply();
      }
    }
  }

  // What a row has seen so far: unnormalised output, shift, sum.
  static constexpr int part_floats = D + 2;

  void store_part(int row, float* to) const {
    __builtin_memcpy(to, out + row * D, D * sizeof(float));
    to[D] = shift[row];
    to[D + 1] = sum[row];
  }

  // Adds a part of the row's attention.
  void add_part(int row, const float* part) {
    const float part_shift = part[D], part_sum = part[D + 1];
    float peak = larger(shift[row], part_shift), safe = peak == -infinity ? 0.0f : peak;
    Vec mine = share(shift[row], safe), its = share(part_shift, safe);
    for (int d = 0; d < D; d += Vec::width) {
      fma(its, Vec::load(part + d), mine * Vec::load(out + row * D + d)).store(out + row * D + d);
    }
    float sums[Vec::width];
    fma(its, Vec::all(part_sum), mine * Vec::all(sum[row])).store(sums);
    sum[row] = sums[0];
    shift[row] = peak;
  }

  static Vec share(float shift, float safe) {
    // the polynomial's 2^0 is one bit below 1, which many parts would add up
    return shift == safe ? Vec::all(1.0f) : exp2(Vec::all(shift - safe));
  }

  float lse(int row) const {
    if (sum[row] == 0.0f) {
      return -infinity;
    }
    double base = static_cast<double>(shift[row]) / log2_e;
    return shift[row] == infinity ? infinity : static_cast<float>(base + __builtin_log(sum[row]));
  }

  // The row's output: its sums over its weight; 0 where nothing was seen.
  void finish_row(int row, float* to) const {
    Vec share = Vec::all(sum[row] == 0.0f ? 0.0f : 1.0f / sum[row]);
    for (int d = 0; d < D; d += Vec::width) {
      (Vec::load(out + row * D + d) * share).store(to + d);
    }
  }

  // The row's output as row `place` of a contiguous [..., D] tensor.
  void store_row(int row, void* to, int64_t place, Float dtype) const {
    if (dtype == Float::f32) {
      return finish_row(row, static_cast<float*>(to) + place * D);
    }
    float wide[D];
    finish_row(row, wide);
    if (dtype == Float::bf16) {
      for (int d = 0; d < D; ++d) {
        static_cast<uint16_t*>(to)[place * D + d] = to_bf16(wide[d]);
      }
    } else {
      for (int d = 0; d < D; ++d) {
        static_cast<Half*>(to)[place * D + d] = to_half(wide[d]);
      }
    }
  }
};

}  // namespace pcbench::PCBENCH_ISA
