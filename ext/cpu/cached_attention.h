// cached_attention and decode_attention: new tokens over the segments of a slotted cache, split over keys.
//
// A task owns block_rows rows of one (b, hkv), rows being (position, head of the group), and one split of its keys: a
// span of the listed segments laid end to end, each rounded up to 32 keys. It leaves (shift, sum, unnormalised output)
// behind; whichever task of those rows ends last merges their splits in ascending order. The span depends on shapes and
// lengths only, so results do not depend on the number of threads.
// decode_attention keeps the scores on the way; tasks of mass_keys keys of a pair make mass of them once lse is known,
// a key's heads in ascending order.
// Scratch: 4·(D + 2) bytes a row and split, a Bench a worker. Scores, weights and sums are float32.
// Equal the functions of pcbench.reference of their names. Split keys after FlashDecoding.
#pragma once

#include "cpu/column_mass.h"
#include "cpu/segments.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

// How the keys of a call are split.
struct SplitPlan {
  int64_t pairs, rows, row_blocks, span, splits;

  explicit SplitPlan(const CachedAttention& p)
      : pairs(p.keys.batch * p.keys.kv_heads), rows(p.rows * (p.heads / p.keys.kv_heads)) {
    // tasks enough for many cores, spans long enough to be worth a merge
    constexpr int64_t tasks = 64, shortest = 512;
    row_blocks = (rows + block_rows - 1) / block_rows;
    int64_t most = 0;
    for (int64_t x = 0; x < pairs; ++x) {
      most = larger(most, keys_of(p.keys, x / p.keys.kv_heads, x % p.keys.kv_heads));
    }
    int64_t wanted = (tasks + pairs * row_blocks - 1) / larger<int64_t>(1, pairs * row_blocks);
    span = larger(shortest, (most / larger<int64_t>(1, wanted) + block_keys) / block_keys * block_keys);
    splits = larger<int64_t>(1, (most + span - 1) / span);
  }

  static int64_t padded(int64_t length) { return (length + panel_keys - 1) / panel_keys * panel_keys; }

  static int64_t keys_of(const KeyRows& keys, int64_t b, int64_t h) {
    int64_t total = 0;
    for (int64_t p = 0; p < keys.listed; ++p) {
      total += padded(segment(keys, b, h, p, -1).length);
    }
    return total;
  }
};

template <int D, class T>
class Cached {
 public:
  Cached(const CachedAttention& p, float* scratch)
      : p_(p),
        plan_(p),
        group_(p.heads / p.keys.kv_heads),
        scratch_(scratch),
        attended_(reinterpret_cast<Finished*>(scratch + workers_floats())),
        partials_(scratch + workers_floats() + counts_floats(plan_)) {}

  static int64_t scratch_floats(const CachedAttention& p) {
    SplitPlan plan(p);
    return workers_floats() + counts_floats(plan) + partial_floats(plan);
  }

  void run() {
    for (int64_t i = 0; i < plan_.pairs * plan_.row_blocks; ++i) {
      attended_[i] = {};
    }
    // a worker takes neighbours: what is asked for early is then its own
    const int64_t parts = plan_.pairs * plan_.row_blocks * plan_.splits;
    const int64_t at_once = larger<int64_t>(1, parts / (4 * task_workers()));
    auto task = [&](int64_t index, int worker) {
      TaskGuard guard;
      Bench<D, E>& bench = reinterpret_cast<Bench<D, E>*>(scratch_)[worker];
      for (int64_t part = index * at_once; part < smaller(parts, (index + 1) * at_once); ++part) {
        int64_t split = part % plan_.splits, block = part / plan_.splits;
        attend(bench, block, split);
        if (count_finished(&attended_[block]) == plan_.splits) {
          merge(bench.rows, block);
        }
      }
    };
    for_each_task((parts + at_once - 1) / at_once, task);
    if (p_.mass) {
      const int64_t parts = (p_.longest + mass_keys - 1) / mass_keys;
      auto weighing = [&](int64_t index, int) {
        TaskGuard guard;
        weigh(index / parts, index % parts * mass_keys);
      };
      for_each_task(plan_.pairs * parts, weighing);
    }
  }

 private:
  using E = Element<T>;

  static constexpr int64_t mass_keys = 1024;

  static constexpr int row_floats = D + 2;

  static int64_t workers_floats() { return task_workers() * static_cast<int64_t>(sizeof(Bench<D, E>) / sizeof(float)); }

  static int64_t counts_floats(const SplitPlan& plan) {
    return plan.pairs * plan.row_blocks * static_cast<int64_t>(sizeof(Finished) / sizeof(float));
  }

  static int64_t partial_floats(const SplitPlan& plan) { return plan.pairs * plan.splits * plan.rows * row_floats; }

  float* partial(int64_t pair, int64_t split, int64_t row) const {
    return partials_ + ((pair * plan_.splits + split) * plan_.rows + row) * row_floats;
  }

  int rows_from(int64_t top) const { return static_cast<int>(smaller<int64_t>(block_rows, plan_.rows - top)); }

  // One split of the keys for one block of rows; blocks count over the pairs.
  void attend(Bench<D, E>& bench, int64_t block, int64_t split) const {
    int64_t pair = block / plan_.row_blocks, top = block % plan_.row_blocks * block_rows;
    load(bench.rows, pair, top, rows_from(top));
    take(bench, pair, top, split * plan_.span, (split + 1) * plan_.span);
    for (int r = 0; r < bench.rows.rows; ++r) {
      float* to = partial(pair, split, top + r);
      __builtin_memcpy(to, bench.rows.out + r * D, D * sizeof(float));
      to[D] = bench.rows.shift[r];
      to[D + 1] = bench.rows.sum[r];
    }
  }

  void load(RowBlock<D, E>& rows, int64_t pair, int64_t top, int count) const {
    const int64_t b = pair / p_.keys.kv_heads, h = pair % p_.keys.kv_heads;
    rows.reset(count);
    rows.words = p_.words;
    for (int r = 0; r < count; ++r) {
      int64_t i = (top + r) / group_, head = h * group_ + (top + r) % group_;
      const T* q = static_cast<const T*>(p_.q.data);
      rows.load_row(r, q + b * p_.q.strides[0] + head * p_.q.strides[1] + i * p_.q.strides[2], p_.scale);
    }
  }

  // Attends to the keys [from, to) of the pair's segments laid end to end.
  void take(Bench<D, E>& bench, int64_t pair, int64_t top, int64_t from, int64_t to) const {
    const int64_t b = pair / p_.keys.kv_heads, h = pair % p_.keys.kv_heads, last = last_used(p_.keys, b);
    int64_t origin = 0;
    for (int64_t p = 0; p < p_.keys.listed && origin < to; ++p) {
      Segment x = segment(p_.keys, b, h, p, last);
      int64_t end = smaller(x.length, to - origin);
      if (larger<int64_t>(0, from - origin) < end) {
        see(bench.rows, x, h, top);
      }
      for (int64_t j = larger<int64_t>(0, from - origin); j < end; j += block_keys) {
        int keys = static_cast<int>(smaller<int64_t>(block_keys, end - j));
        const auto block =
            pack_block<D, T>(p_.keys, x, j, keys, bench.panels, bench.values, bench.rows.rows <= few_rows);
        bench.rows.attend(block, [&](int first, int rows, int seen) {
          for (int r = 0; p_.mass && r < rows; ++r) {
            // one position: rows are the heads of the group
            bench.rows.store_scores(r, seen, scores(b, h * group_ + top + first + r) + j);
          }
        });
      }
      origin += SplitPlan::padded(x.length);
    }
  }

  // Limits and eviction bits of the rows for one segment.
  void see(RowBlock<D, E>& rows, const Segment& x, int64_t h, int64_t top) const {
    for (int r = 0; r < rows.rows; ++r) {
      rows.limits[r] = visible(x, (top + r) / group_, p_.rows);
      if (p_.evicted.data) {
        int64_t head = p_.evicted_heads == p_.heads ? h * group_ + (top + r) % group_ : h;
        rows.evicted[r] = p_.evicted.data + x.slot * p_.evicted.strides[0] + head * p_.evicted.strides[1];
      }
    }
  }

  void merge(RowBlock<D, E>& rows, int64_t block) const {
    int64_t pair = block / plan_.row_blocks, top = block % plan_.row_blocks * block_rows;
    rows.reset(rows_from(top));
    for (int r = 0; r < rows.rows; ++r) {
      for (int64_t split = 0; split < plan_.splits; ++split) {
        const float* part = partial(pair, split, top + r);
        rows.merge_row(r, part, part[D], part[D + 1]);
      }
      int64_t b = pair / p_.keys.kv_heads, head = pair % p_.keys.kv_heads * group_ + (top + r) % group_;
      int64_t place = (b * p_.heads + head) * p_.rows + (top + r) / group_;
      p_.lse[place] = rows.lse(r);
      rows.store_row(r, p_.out, place, p_.keys.dtype);
    }
  }

  float* scores(int64_t b, int64_t head) const { return p_.scores + (b * p_.heads + head) * p_.score_row; }

  // Masses of the keys of a pair's segment from `from` on.
  void weigh(int64_t pair, int64_t from) const {
    const int64_t b = pair / p_.keys.kv_heads, h = pair % p_.keys.kv_heads;
    const int keys = static_cast<int>(smaller(mass_keys, p_.longest - from));
    float* mass = p_.mass + pair * p_.longest + from;
    ColumnMass{mass, 0, 1, keys}.clear();
    const int64_t seen = smaller<int64_t>(keys, segment(p_.keys, b, h, 0, -1).length - from);
    for (int64_t head = h * group_; seen > 0 && head < (h + 1) * group_; ++head) {
      const float lse = p_.lse[b * p_.heads + head];
      if (lse != -infinity) {
        ColumnMass::add_row(scores(b, head) + from, log2_e, lse * log2_e, static_cast<int>(seen), mass);
      }
    }
  }

  const CachedAttention& p_;
  const SplitPlan plan_;
  const int64_t group_;
  float* const scratch_;
  Finished* const attended_;
  float* const partials_;
};

}  // namespace pcbench::PCBENCH_ISA
