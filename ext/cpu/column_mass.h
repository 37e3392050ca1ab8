// Attention that keys receive from rows whose log-sum-exp is known.
#pragma once

#include "cpu/row_block.h"

namespace pcbench::PCBENCH_ISA {

// Sums of the keys of one block for the heads of a group; rows are added in ascending order.
struct ColumnMass {
  float* mass;  // [group, keys]
  int64_t head;
  int64_t group;
  int keys;

  void clear() const {
    for (int64_t g = 0; g < group; ++g) {
      for (int j = 0; j < keys; ++j) {
        mass[g * head + j] = 0.0f;
      }
    }
  }

  // A row without keys adds nothing.
  template <int D, class E>
  static void set_row(RowBlock<D, E>& rows, int row, float lse) {
    rows.shift[row] = lse == -infinity ? 0.0f : lse * log2_e;
    rows.limits[row] = lse == -infinity ? 0 : rows.limits[row];
  }

  // Adds 2^(score·unit − shift) of all rows; row 0 belongs to head `first_head` of the group.
  template <int D, class E>
  void add(RowBlock<D, E>& rows, const KeyBlock<E>& block, int64_t first_head) const {
    for (int top = 0; top < rows.rows; top += rows.tile) {
      int count = smaller(rows.tile, rows.padded_rows() - top);
      int seen = rows.seen(block, top, count);
      rows.score(block, top, count, (seen + panel_keys - 1) / panel_keys);
      for (int i = 0; i < smaller(count, rows.rows - top); ++i) {
        add_row(rows.scores + i * block_keys, rows.unit, rows.shift[top + i], seen,
                mass + (first_head + top + i) % group * head);
      }
    }
  }

  static void add_row(const float* scores, float unit, float shift, int seen, float* to) {
    int j = 0;
    for (; j + Vec::width <= seen; j += Vec::width) {
      (Vec::load(to + j) + weights(scores + j, unit, shift)).store(to + j);
    }
    if (j < seen) {
      float rest[Vec::width];
      weights(scores + j, unit, shift).store(rest);
      for (int i = 0; j + i < seen; ++i) {
        to[j + i] += rest[i];
      }
    }
  }

  // Infinite where a row's log-sum-exp, which may be that of other keys, lies far below a score.
  static Vec weights(const float* scores, float unit, float shift) {
    // the smaller of the end and the power: vectors have no minimum
    const Vec below = max(Vec::all(-exp2_end), fma(Vec::load(scores), Vec::all(-unit), Vec::all(shift)));
    return exp2(Vec::zero() - below);
  }
};

}  // namespace pcbench::PCBENCH_ISA
