// calibrated_attention: flash attention over a batch of chunks, and the mass of every key.
//
// A task owns block_rows rows of one (b, hkv): rows are (position, head of the group), so a group's heads share their
// keys. Keys are packed once per (b, hkv) into panels of 32, transposed; 16-bit values are packed beside them: both as
// pairs of bfloat16 where the instruction set multiplies these, else in float32. Scratch: 4·D·⌈S/32⌉·32 bytes a kv-head
// (twice that for widened inputs), for as many kv-heads as fit 64 MiB, at least one; a RowBlock a worker. Scores and
// sums are float32, weights what v is packed in. A row takes its keys in blocks of block_keys from key 0 on, whatever
// the number of threads. Equals pcbench.reference.calibrated_attention. Online softmax after FlashAttention,
// arXiv:2205.14135.
#pragma once

#include "cpu/calibrated_rows.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

template <int D, class T>
class Calibrated {
 public:
  Calibrated(const CalibratedAttention& p, float* scratch)
      : p_(p),
        call_(p),
        group_(p.heads / p.kv_heads),
        panels_((p.keys + panel_keys - 1) / panel_keys),
        key_blocks_((p.keys + block_keys - 1) / block_keys),
        row_blocks_((p.rows * group_ + block_rows - 1) / block_rows),
        pairs_at_once_(pairs_at_once(p)),
        scratch_(scratch),
        packed_(scratch + workers_floats()),
        progress_(reinterpret_cast<Progress*>(packed_ + pairs_at_once_ * pair_floats(p))) {}

  static int64_t scratch_floats(const CalibratedAttention& p) {
    return workers_floats() + pairs_at_once(p) * (pair_floats(p) + sizeof(Progress) / sizeof(float));
  }

  void run() {
    const int64_t pairs = p_.batch * p_.kv_heads;
    for (int64_t first = 0; first < pairs; first += pairs_at_once_) {
      run(first, smaller(pairs_at_once_, pairs - first));
    }
  }

 private:
  using E = Element<T>;
  using Rows = RowBlock<D, E>;

  static constexpr bool packs_values = sizeof(T) < sizeof(float);
  static constexpr int depth = depth_of<D, E>;

  // Tasks of a pair that have finished.
  struct Progress {
    Finished packed, attended;
  };

  static int64_t pair_floats(const CalibratedAttention& p) {
    return (p.keys + panel_keys - 1) / panel_keys * panel_keys * depth * (packs_values ? 2 : 1);
  }

  static int64_t pairs_at_once(const CalibratedAttention& p) {
    constexpr int64_t budget = int64_t{1} << 24;
    return smaller(p.batch * p.kv_heads, larger<int64_t>(1, budget / larger<int64_t>(1, pair_floats(p))));
  }

  static int64_t workers_floats() { return task_workers() * static_cast<int64_t>(sizeof(Rows) / sizeof(float)); }

  Rows& rows_of(int worker) const { return reinterpret_cast<Rows*>(scratch_)[worker]; }

  struct Pair : CalibratedPair {
    E* panels;
    E* values;  // packed; null where v is read as it is
  };

  Pair pair(int64_t first, int64_t offset) const {
    E* panels = reinterpret_cast<E*>(packed_ + offset * pair_floats(p_));
    return {call_.pair(first + offset), panels, packs_values ? panels + panels_ * panel_keys * depth : nullptr};
  }

  // Keys [first, first + keys) as rows read them.
  KeyBlock<E> block_of(const Pair& x, int64_t first, int keys) const {
    KeyBlock<E> block{first, keys, x.panels + first * depth, nullptr, D};
    if constexpr (packs_values) {
      block.v = x.values + first * depth;
    } else {
      block.v = call_.at(p_.v, x.b, x.h) + first * p_.v.strides[2];
      block.v_row = p_.v.strides[2];
    }
    return block;
  }

  // All tasks of the pairs [first, first + count) in one go: packing, then the rows that see the most keys, the mass
  // last. What a task needs has a lower index.
  void run(int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      progress_[i] = {};
    }
    const int64_t packs = count * key_blocks_, attends = count * row_blocks_;
    auto task = [&](int64_t index, int worker) {
      TaskGuard guard;
      Progress& progress = progress_[index % count];
      Pair x = pair(first, index % count);
      if (index < packs) {
        pack(x, index / count);
        count_finished(&progress.packed);
      } else if (index < packs + attends) {
        wait_for(&progress.packed, key_blocks_);
        attend(x, row_blocks_ - 1 - (index - packs) / count, rows_of(worker));
        count_finished(&progress.attended);
      } else {
        wait_for(&progress.attended, row_blocks_);
        call_.weigh(x, (index - packs - attends) / count, rows_of(worker),
                    [&](int64_t from, int keys) { return block_of(x, from, keys); });
      }
    };
    for_each_task(packs + attends + (p_.mass_rows ? packs : 0), task);
  }

  void pack(const Pair& x, int64_t block) const {
    int64_t from = block * block_keys, to = smaller(x.key_length, from + block_keys);
    call_.pack(x, from, to, x.panels + from * depth);
    if constexpr (packs_values) {
      const int64_t row = p_.v.strides[2];
      pack_values<D>(call_.at(p_.v, x.b, x.h) + from * row, row, to - from, x.values + from * depth);
    }
  }

  void attend(const Pair& x, int64_t block, Rows& rows) const {
    int64_t top = block * block_rows;
    call_.load(rows, x, top, static_cast<int>(smaller<int64_t>(block_rows, p_.rows * group_ - top)));
    resume(rows, x, top);
    int64_t most = 0;
    for (int r = 0; r < rows.rows; ++r) {
      most = larger(most, rows.limits[r]);
    }
    for (int64_t j = 0; j < most; j += block_keys) {
      int keys = static_cast<int>(smaller<int64_t>(block_keys, most - j));
      rows.attend(block_of(x, j, keys));
    }
    finish(rows, x, top);
  }

  void resume(Rows& rows, const Pair& x, int64_t first) const {
    if (!p_.out_in.data) {
      return;
    }
    const float* outs = static_cast<const float*>(p_.out_in.data);
    const float* lses = static_cast<const float*>(p_.lse_in.data);
    for (int r = 0; r < rows.rows; ++r) {
      int64_t i = (first + r) / group_, head = x.h * group_ + (first + r) % group_;
      rows.resume_row(r, outs + x.b * p_.out_in.strides[0] + head * p_.out_in.strides[1] + i * p_.out_in.strides[2],
                      lses[x.b * p_.lse_in.strides[0] + head * p_.lse_in.strides[1] + i]);
    }
  }

  void finish(const Rows& rows, const Pair& x, int64_t first) const {
    for (int r = 0; r < rows.rows; ++r) {
      int64_t i = (first + r) / group_, head = x.h * group_ + (first + r) % group_;
      int64_t place = (x.b * p_.heads + head) * p_.rows + i;
      p_.lse[place] = rows.lse(r);
      rows.store_row(r, p_.out, place, p_.out_dtype);
    }
  }

  const CalibratedAttention& p_;
  const CalibratedRows<D, T> call_;
  const int64_t group_, panels_, key_blocks_, row_blocks_, pairs_at_once_;
  float* const scratch_;
  float* const packed_;
  Progress* const progress_;
};

}  // namespace pcbench::PCBENCH_ISA
