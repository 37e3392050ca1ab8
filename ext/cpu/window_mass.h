// window_mass: attention that each cached key receives from a window of rows.
//
// A task owns block_keys keys of one listed segment for the heads of one kv-head, so each sum has one writer; rows are
// added in ascending order. Scratch: a Bench a worker. Scores and sums are float32. Equals
// pcbench.reference.window_mass. The observation window is SnapKV's, arXiv:2404.14469.
#pragma once

#include "cpu/column_mass.h"
#include "cpu/segments.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

template <int D, class T>
class Window {
 public:
  Window(const WindowMass& p, float* scratch) : p_(p), group_(p.heads / p.keys.kv_heads), scratch_(scratch) {}

  static int64_t scratch_floats(const WindowMass&) {
    return task_workers() * static_cast<int64_t>(sizeof(Bench<D, E>) / sizeof(float));
  }

  void run() {
    const int64_t parts = (p_.longest + block_keys - 1) / block_keys;
    auto task = [&](int64_t index, int worker) {
      TaskGuard guard;
      int64_t from = index % parts * block_keys, h = index / parts % p_.keys.kv_heads;
      int64_t place = index / parts / p_.keys.kv_heads;
      weigh(reinterpret_cast<Bench<D, E>*>(scratch_)[worker], place / p_.keys.listed, place % p_.keys.listed, h, from);
    };
    for_each_task(p_.keys.batch * p_.keys.listed * p_.keys.kv_heads * parts, task);
  }

 private:
  using E = Element<T>;

  void weigh(Bench<D, E>& bench, int64_t b, int64_t place, int64_t h, int64_t from) const {
    int keys = static_cast<int>(smaller<int64_t>(block_keys, p_.longest - from));
    float* to = p_.mass + ((b * p_.keys.listed + place) * p_.heads + h * group_) * p_.longest + from;
    ColumnMass mass{to, p_.longest, group_, keys};
    mass.clear();
    Segment x = segment(p_.keys, b, h, place, last_used(p_.keys, b));
    const int64_t present = smaller<int64_t>(keys, x.length - from);
    if (present <= 0) {
      return;
    }
    KeyBlock<E> block = pack_block<D, T>(p_.keys, x, from, static_cast<int>(present), bench.panels, bench.values);
    for (int64_t top = 0; top < p_.rows * group_; top += block_rows) {
      load(bench.rows, x, b, h, top, static_cast<int>(smaller<int64_t>(block_rows, p_.rows * group_ - top)));
      mass.add(bench.rows, block, top % group_);
    }
  }

  void load(RowBlock<D, E>& rows, const Segment& x, int64_t b, int64_t h, int64_t top, int count) const {
    rows.reset(count);
    rows.words = 0;
    for (int r = 0; r < count; ++r) {
      int64_t i = (top + r) / group_, head = h * group_ + (top + r) % group_;
      const T* q = static_cast<const T*>(p_.q.data);
      const float* lse = static_cast<const float*>(p_.lse.data);
      rows.load_row(r, q + b * p_.q.strides[0] + head * p_.q.strides[1] + i * p_.q.strides[2], p_.scale);
      rows.limits[r] = visible(x, i, p_.rows);
      ColumnMass::set_row(rows, r, lse[b * p_.lse.strides[0] + head * p_.lse.strides[1] + i]);
    }
  }

  const WindowMass& p_;
  const int64_t group_;
  float* scratch_;
};

}  // namespace pcbench::PCBENCH_ISA
