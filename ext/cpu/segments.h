// The segments of a slotted store that the rows of one (b, hkv) read.
#pragma once

#include "cpu/row_block.h"

namespace pcbench::PCBENCH_ISA {

// Segment of the slot listed at place p. An unused place, and whatever does not lie within the stored rows, is empty.
struct Segment {
  int64_t slot, start, v_start, length;
  bool causal;
};

inline int64_t slot_at(const KeyRows& keys, int64_t b, int64_t p) {
  return keys.slots.data ? keys.slots.data[b * keys.slots.strides[0] + p] : b;
}

inline int64_t last_used(const KeyRows& keys, int64_t b) {
  int64_t last = -1;
  for (int64_t p = 0; p < keys.listed; ++p) {
    if (slot_at(keys, b, p) >= 0) {
      last = p;
    }
  }
  return last;
}

inline Segment segment(const KeyRows& keys, int64_t b, int64_t h, int64_t p, int64_t last) {
  int64_t slot = slot_at(keys, b, p);
  if (slot < 0 || slot >= keys.slots_in_store) {
    return {0, 0, 0, 0, false};
  }
  int64_t start = keys.starts.data[slot * keys.starts.strides[0] + h];
  int64_t length = keys.lengths.data[slot * keys.lengths.strides[0] + h];
  int64_t v_start = keys.v_starts.data ? keys.v_starts.data[slot * keys.v_starts.strides[0] + h] : start;
  bool inside = smaller(start, smaller(v_start, length)) >= 0 && start + length <= keys.stored_rows &&
                v_start + length <= keys.value_rows;
  return {slot, start, v_start, inside ? length : 0, keys.causal_last && p == last};
}

// Keys of a segment that row i of `rows` sees, eviction aside.
inline int64_t visible(const Segment& x, int64_t i, int64_t rows) {
  return x.causal ? smaller(x.length, larger<int64_t>(0, i + 1 + x.length - rows)) : x.length;
}

// Keys [first, first + keys) of a segment, packed into `panels` and, where v is wanted and is 16-bit, into `values`.
// Where few rows read them, the time goes into reading: v is asked for with k, and the keys behind the block with v.
template <int D, class T, class E>
inline KeyBlock<E> pack_block(const KeyRows& rows, const Segment& x, int64_t first, int keys, E* panels, E* values,
                              bool few = false) {
  const int64_t k_row = rows.k_rows.strides[0], v_row = rows.v_rows.strides[0];
  const T* k = static_cast<const T*>(rows.k_rows.data) + (x.start + first) * k_row;
  const T* v = static_cast<const T*>(rows.v_rows.data) + (x.v_start + first) * v_row;
  for (int j = 0; j < keys; j += panel_keys) {
    const auto pack = [&](auto... fetch) {
      pack_panel<D>(k + j * k_row, k_row, smaller(panel_keys, keys - j), panels + j * depth_of<D, E>, fetch...);
    };
    if (few) {
      pack([&](int64_t i, int64_t d) { fetch_line(v + (j + i) * v_row + d); });
    } else {
      pack();
    }
  }
  KeyBlock<E> block{first, keys, panels, nullptr, 0};
  if (!rows.v_rows.data) {
    return block;
  }
  const T* later = k + keys * k_row;
  if constexpr (sizeof(T) == sizeof(float)) {
    block.v = v;
    block.v_row = v_row;
    block.later = few ? later : nullptr;
    block.later_row = k_row;
  } else {
    if (few) {
      pack_values<D>(v, v_row, keys, values, [&](int64_t j, int64_t d) { fetch_line(later + j * k_row + d); });
    } else {
      pack_values<D>(v, v_row, keys, values);
    }
    block.v = values;
    block.v_row = D;
  }
  return block;
}

// What a worker needs for a block of rows and a block of keys.
template <int D, class E = float>
struct Bench {
  RowBlock<D, E> rows;
  alignas(64) E panels[block_keys * depth_of<D, E>];
  alignas(64) E values[block_keys * depth_of<D, E>];
};

}  // namespace pcbench::PCBENCH_ISA
