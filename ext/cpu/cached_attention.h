// cached_attention, quantized_attention and decode_attention: new tokens over the segments of a slotted cache, split
// over keys.
//
// The keys of a (b, hkv) are those of the listed segments laid end to end, each rounded up to 32, and are split into
// spans as long for all (b, hkv), so that long and short ones share the workers evenly. A part is block_rows rows, rows
// being (position, head of the group), and one split of their keys; a task takes one, or neighbours where few rows
// read. A part leaves (shift, sum, unnormalised output) behind; whichever of those rows ends last merges their splits
// in ascending order. The span depends on shapes and lengths only, so results do not depend on the number of threads.
// decode_attention keeps the scores on the way; tasks of mass_keys keys of a pair make mass of them once lse is known,
// a key's heads in ascending order.
// Scratch: 4·(D + 2) bytes a row and split, a Bench a worker. Scores and sums are float32, weights what v is packed in.
// Equal the functions of pcbench.reference of their names. Split keys after FlashDecoding.
#pragma once

#include <type_traits>

#include "cpu/codes.h"
#include "cpu/column_mass.h"
#include "cpu/segments.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

// How the keys of a call are split.
struct SplitPlan {
  int64_t pairs, rows, row_blocks, span;
  int64_t whole, splits;  // spans that all keys would fill; splits of all pairs, at most

  explicit SplitPlan(const CachedAttention& p)
      : pairs(p.keys.batch * p.keys.kv_heads), rows(p.rows * (p.heads / p.keys.kv_heads)) {
    // parts enough for many cores, spans long enough to be worth a merge
    constexpr int64_t parts = 64, shortest = 512;
    row_blocks = (rows + block_rows - 1) / block_rows;
    int64_t keys = 0;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      keys += keys_of(p.keys, pair);
    }
    const int64_t share = (keys * row_blocks + parts - 1) / parts;
    span = larger(shortest, (share + block_keys - 1) / block_keys * block_keys);
    whole = keys / span;
    splits = whole + pairs;
  }

  // A pair without keys has a split, too: somebody must write its results.
  int64_t splits_of(const KeyRows& keys, int64_t pair) const {
    return larger<int64_t>(1, (keys_of(keys, pair) + span - 1) / span);
  }

  static int64_t padded(int64_t length) { return (length + panel_keys - 1) / panel_keys * panel_keys; }

  static int64_t keys_of(const KeyRows& keys, int64_t pair) {
    int64_t total = 0;
    for (int64_t p = 0; p < keys.listed; ++p) {
      total += padded(segment(keys, pair / keys.kv_heads, pair % keys.kv_heads, p, -1).length);
    }
    return total;
  }
};

// Rows of T over keys and values of T, or of codes.
template <int D, class T, bool quantized = false>
class Cached {
 public:
  Cached(const CachedAttention& p, float* scratch)
      : p_(p), plan_(p), group_(p.heads / p.keys.kv_heads), benches_(reinterpret_cast<Bench<D, E>*>(scratch)) {
    attended_ = reinterpret_cast<Finished*>(scratch + workers_floats());
    first_split_ = reinterpret_cast<int64_t*>(attended_ + plan_.pairs * plan_.row_blocks);
    partials_ = reinterpret_cast<float*>(first_split_ + plan_.pairs + 1);
  }

  static int64_t scratch_floats(const CachedAttention& p) {
    const SplitPlan plan(p);
    const int64_t counts = plan.pairs * plan.row_blocks * static_cast<int64_t>(sizeof(Finished) / sizeof(float));
    return workers_floats() + counts + 2 * (plan.pairs + 1) + plan.splits * plan.rows * Rows::part_floats;
  }

  void run() {
    first_split_[0] = 0;
    for (int64_t pair = 0; pair < plan_.pairs; ++pair) {
      first_split_[pair + 1] = first_split_[pair] + plan_.splits_of(p_.keys, pair);
    }
    for (int64_t i = 0; i < plan_.pairs * plan_.row_blocks; ++i) {
      attended_[i] = {};
    }
    const int64_t parts = first_split_[plan_.pairs] * plan_.row_blocks;
    // where few rows read, a worker takes neighbours: what is asked for early is then its own
    const int64_t at_once = plan_.rows > few_rows ? 1 : larger<int64_t>(1, plan_.whole / (4 * task_workers()));
    auto task = [&](int64_t index, int worker) {
      TaskGuard guard;
      for (int64_t part = index * at_once; part < smaller(parts, (index + 1) * at_once); ++part) {
        const int64_t pair = pair_of(part), of_pair = part - first_split_[pair] * plan_.row_blocks;
        const int64_t splits = splits_of(pair);
        attend(benches_[worker], pair, of_pair / splits, of_pair % splits);
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
  using E = std::conditional_t<quantized, float, Element<T>>;
  using Rows = RowBlock<D, E>;

  static constexpr int64_t mass_keys = 1024;

  static int64_t workers_floats() { return task_workers() * static_cast<int64_t>(sizeof(Bench<D, E>) / sizeof(float)); }

  int64_t splits_of(int64_t pair) const { return first_split_[pair + 1] - first_split_[pair]; }

  int64_t pair_of(int64_t part) const {
    int64_t from = 0, to = plan_.pairs;
    while (to - from > 1) {
      const int64_t middle = (from + to) / 2;
      (first_split_[middle] * plan_.row_blocks <= part ? from : to) = middle;
    }
    return from;
  }

  float* partial(int64_t pair, int64_t split, int64_t row) const {
    return partials_ + ((first_split_[pair] + split) * plan_.rows + row) * Rows::part_floats;
  }

  int rows_from(int64_t top) const { return static_cast<int>(smaller<int64_t>(block_rows, plan_.rows - top)); }

  // One split of the keys for one block of a pair's rows.
  void attend(Bench<D, E>& bench, int64_t pair, int64_t block, int64_t split) const {
    const int64_t top = block * block_rows;
    load(bench.rows, pair, top, rows_from(top));
    take(bench, pair, top, split * plan_.span, (split + 1) * plan_.span);
    for (int r = 0; r < bench.rows.rows; ++r) {
      bench.rows.store_part(r, partial(pair, split, top + r));
    }
    if (count_finished(&attended_[pair * plan_.row_blocks + block]) == splits_of(pair)) {
      merge(bench.rows, pair, top);
    }
  }

  void load(Rows& rows, int64_t pair, int64_t top, int count) const {
    const int64_t b = pair / p_.keys.kv_heads, h = pair % p_.keys.kv_heads;
    rows.reset(count);
    rows.words = p_.words;
    // keys of codes are far from 0: long sums of their channels would round more than the reference's
    rows.short_sums = quantized;
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
        const auto block = pack(bench, x, j, keys);
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

  KeyBlock<E> pack(Bench<D, E>& bench, const Segment& x, int64_t first, int keys) const {
    if constexpr (quantized) {
      return pack_codes<D>(p_.keys, x, first, keys, bench.panels, bench.values);
    } else {
      return pack_block<D, T>(p_.keys, x, first, keys, bench.panels, bench.values, bench.rows.rows <= few_rows);
    }
  }

  // Limits and eviction bits of the rows for one segment.
  void see(Rows& rows, const Segment& x, int64_t h, int64_t top) const {
    for (int r = 0; r < rows.rows; ++r) {
      rows.limits[r] = visible(x, (top + r) / group_, p_.rows);
      if (p_.evicted.data) {
        int64_t head = p_.evicted_heads == p_.heads ? h * group_ + (top + r) % group_ : h;
        rows.evicted[r] = p_.evicted.data + x.slot * p_.evicted.strides[0] + head * p_.evicted.strides[1];
      }
    }
  }

  void merge(Rows& rows, int64_t pair, int64_t top) const {
    rows.reset(rows_from(top));
    for (int r = 0; r < rows.rows; ++r) {
      for (int64_t split = 0; split < splits_of(pair); ++split) {
        rows.add_part(r, partial(pair, split, top + r));
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
  Bench<D, E>* const benches_;
  Finished* attended_;
  int64_t* first_split_;
  float* partials_;
};

template <int D, class T>
using CachedCodes = Cached<D, T, true>;

}  // namespace pcbench::PCBENCH_ISA
