// The rows of calibrated_attention and key_mass, the keys they see, and the mass of these once the log-sum-exp of the
// rows is known.
#pragma once

#include "cpu/column_mass.h"

namespace pcbench::PCBENCH_ISA {

// The valid part of one (b, hkv).
struct CalibratedPair {
  int64_t b, h;  // batch row, kv-head
  int64_t query_length, key_length;
};

// Rows are (position, head of the group), position first.
template <int D, class T>
class CalibratedRows {
 public:
  using E = Element<T>;
  using Rows = RowBlock<D, E>;

  explicit CalibratedRows(const CalibratedAttention& p) : p_(p), group_(p.heads / p.kv_heads) {}

  CalibratedPair pair(int64_t index) const {
    CalibratedPair x{index / p_.kv_heads, index % p_.kv_heads, p_.rows, p_.keys};
    if (p_.query_lengths.data) {
      x.query_length = p_.query_lengths.data[x.b * p_.query_lengths.strides[0]];
    }
    if (p_.key_lengths.data) {
      x.key_length = p_.key_lengths.data[x.b * p_.key_lengths.strides[0] + x.h * p_.key_lengths.strides[1]];
    }
    x.query_length = smaller(p_.rows, larger<int64_t>(0, x.query_length));
    x.key_length = smaller(p_.keys, larger<int64_t>(0, x.key_length));
    return x;
  }

  static const T* at(const Floats& x, int64_t b, int64_t h) {
    return static_cast<const T*>(x.data) + b * x.strides[0] + h * x.strides[1];
  }

  // Keys [from, to) of the pair as panels.
  void pack(const CalibratedPair& x, int64_t from, int64_t to, E* panels) const {
    const int64_t row = p_.k.strides[2];
    const T* k = at(p_.k, x.b, x.h);
    for (int64_t j = from; j < to; j += panel_keys) {
      int keys = static_cast<int>(smaller<int64_t>(panel_keys, to - j));
      pack_panel<D>(k + j * row, row, keys, panels + (j - from) * depth_of<D, E>);
    }
  }

  // Rows [first, first + count) of the pair.
  void load(Rows& rows, const CalibratedPair& x, int64_t first, int count) const {
    rows.reset(count);
    rows.words = p_.words;
    for (int r = 0; r < count; ++r) {
      int64_t i = (first + r) / group_, head = x.h * group_ + (first + r) % group_;
      rows.load_row(r, at(p_.q, x.b, head) + i * p_.q.strides[2], p_.scale);
      rows.limits[r] = limit(x, i);
      rows.evicted[r] = bits(x, head);
    }
  }

  // The mass of a block of keys; keys beyond the length get 0. keys(from, count) is a KeyBlock of those that some row
  // may see, and is not asked for where there are none.
  template <class Keys>
  void weigh(const CalibratedPair& x, int64_t block, Rows& rows, Keys keys) const {
    const int64_t from = block * block_keys;
    const int count = static_cast<int>(smaller<int64_t>(block_keys, p_.keys - from));
    ColumnMass mass{p_.mass + (x.b * p_.heads + x.h * group_) * p_.keys + from, p_.keys, group_, count};
    mass.clear();
    const int present = static_cast<int>(smaller<int64_t>(count, x.key_length - from));
    int64_t top = larger<int64_t>(0, x.query_length - p_.mass_rows) * group_, end = x.query_length * group_;
    if (present <= 0 || top == end) {
      return;
    }
    const KeyBlock<E> seen = keys(from, present);
    for (; top < end; top += block_rows) {
      load(rows, x, top, static_cast<int>(smaller<int64_t>(block_rows, end - top)));
      for (int r = 0; r < rows.rows; ++r) {
        int64_t i = (top + r) / group_, head = x.h * group_ + (top + r) % group_;
        mass.set_row(rows, r, p_.lse[(x.b * p_.heads + head) * p_.rows + i]);
      }
      mass.add(rows, seen, top % group_);
    }
  }

 private:
  // Keys that row i sees, eviction aside.
  int64_t limit(const CalibratedPair& x, int64_t i) const {
    if (i >= x.query_length) {
      return 0;
    }
    int64_t seen = p_.causal ? i + 1 + x.key_length - x.query_length : x.key_length;
    return smaller(x.key_length, larger<int64_t>(0, seen));
  }

  const int32_t* bits(const CalibratedPair& x, int64_t head) const {
    if (!p_.evicted.data) {
      return nullptr;
    }
    int64_t h = p_.evicted_heads == p_.heads ? head : x.h;
    return p_.evicted.data + x.b * p_.evicted.strides[0] + h * p_.evicted.strides[1];
  }

  const CalibratedAttention& p_;
  const int64_t group_;
};

}  // namespace pcbench::PCBENCH_ISA
