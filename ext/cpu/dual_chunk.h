// dual_chunk_attention: causal attention whose queries turn with the distance of the keys' chunk.
//
// A task owns up to block_rows rows of one (b, hkv), rows being (position, head of the group), all in one chunk and one
// tile. Their online softmax goes on over three phases: q turned by P − p over the chunks before the previous one (or
// those that the tile lists), turned by min(s, P − p) over the previous chunk, and as it is over its own, which is
// causal. Each phase loads q anew and turns it in float32.
// Where a (b, hkv) has many rows its keys are packed once, for as many pairs as fit 64 MiB, and the rows that stand
// last come first. Where it has few, a task packs its own keys and owns one split of them, as in cached_attention: it
// leaves (shift, sum, unnormalised output) behind, and whichever task of those rows ends last merges them in ascending
// order. What is split depends on shapes and lengths only, so results do not depend on the number of threads. Equals
// pcbench.reference.dual_chunk_attention. Online softmax after FlashAttention, arXiv:2205.14135.
#pragma once

#include "cpu/dual_chunk_rows.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

// The sizes of a call's work.
struct DualChunkPlan {
  bool packed;
  int64_t panels_of_chunk;
  int64_t blocks = 0, most_blocks = 0;  // of all pairs, of one pair
  int64_t panels = 0, keys = 0;         // of the longest segment
  int64_t span = 0, splits = 1;

  explicit DualChunkPlan(const DualChunkAttention& p)
      : packed(p.rows * (p.heads / p.keys.kv_heads) > 4 * block_rows),
        panels_of_chunk((p.period + panel_keys - 1) / panel_keys) {
    const ChunkedRows rows(p);
    int64_t most = 0;
    for (int64_t i = 0; i < rows.pairs(); ++i) {
      const ChunkedPair x = rows.pair(i);
      int64_t count = 0;
      rows.for_blocks(x, [&](const ChunkedBlock& block) {
        ++count;
        int64_t seen = 0;
        rows.for_runs(x, block, joined(p), [&](Distance, int64_t from, int64_t to) { seen += padded(to - from); });
        most = larger(most, seen);
      });
      blocks += count;
      most_blocks = larger(most_blocks, count);
      keys = larger(keys, x.keys.length);
    }
    panels = panels_up_to(p, keys);
    // tasks enough for many cores, spans long enough to be worth a merge
    constexpr int64_t tasks = 64, shortest = 512;
    const int64_t wanted = packed ? 1 : (tasks + blocks - 1) / larger<int64_t>(1, blocks);
    span = larger(shortest, (most / larger<int64_t>(1, wanted) + block_keys) / block_keys * block_keys);
    splits = packed ? 1 : larger<int64_t>(1, (most + span - 1) / span);
  }

  // Whether a run may hold several chunks: packed chunks begin with a panel.
  bool joined(const DualChunkAttention& p) const { return !packed || p.period % panel_keys == 0; }

  static int64_t padded(int64_t keys) { return (keys + panel_keys - 1) / panel_keys * panel_keys; }

  // Panels of the keys [0, keys); the one that key `keys` begins, where it begins one.
  int64_t panels_up_to(const DualChunkAttention& p, int64_t keys) const {
    return keys / p.period * panels_of_chunk + padded(keys % p.period) / panel_keys;
  }
};

template <int D, class T>
class DualChunk {
 public:
  DualChunk(const DualChunkAttention& p, float* scratch)
      : p_(p), plan_(p), rows_(p), at_once_(pairs_at_once(p, plan_)) {
    benches_ = reinterpret_cast<Bench<D>*>(scratch);
    panels_ = scratch + benches_floats();
    packed_ = reinterpret_cast<Finished*>(panels_ + at_once_ * pair_floats(plan_));
    attended_ = packed_ + at_once_;
    first_block_ = reinterpret_cast<int64_t*>(attended_ + plan_.blocks);
    blocks_ = reinterpret_cast<ChunkedBlock*>(first_block_ + rows_.pairs() + 1);
    partials_ = reinterpret_cast<float*>(blocks_ + plan_.blocks);
  }

  static int64_t scratch_floats(const DualChunkAttention& p) {
    const DualChunkPlan plan(p);
    const int64_t pairs = ChunkedRows(p).pairs(), at_once = pairs_at_once(p, plan);
    const int64_t table = 2 * (pairs + 1) + static_cast<int64_t>(sizeof(ChunkedBlock) / sizeof(float)) * plan.blocks;
    const int64_t counts = (at_once + plan.blocks) * static_cast<int64_t>(sizeof(Finished) / sizeof(float));
    return benches_floats() + at_once * pair_floats(plan) + counts + table + partials_floats(p, plan);
  }

  void run() {
    int64_t count = 0;
    for (int64_t i = 0; i < rows_.pairs(); ++i) {
      first_block_[i] = count;
      rows_.for_blocks(rows_.pair(i), [&](const ChunkedBlock& block) {
        attended_[count] = {};
        blocks_[count++] = block;
      });
    }
    first_block_[rows_.pairs()] = count;
    for (int64_t first = 0; first < rows_.pairs(); first += at_once_) {
      run(first, smaller(at_once_, rows_.pairs() - first));
    }
  }

 private:
  static constexpr bool widen = sizeof(T) < sizeof(float);
  static constexpr int panels_at_once = block_keys / panel_keys;

  static int64_t benches_floats() { return task_workers() * static_cast<int64_t>(sizeof(Bench<D>) / sizeof(float)); }

  static int64_t pair_floats(const DualChunkPlan& plan) {
    return plan.packed ? (plan.panels * panel_keys + (widen ? plan.keys : 0)) * D : 0;
  }

  static int64_t pairs_at_once(const DualChunkAttention& p, const DualChunkPlan& plan) {
    constexpr int64_t budget = int64_t{1} << 24;
    const int64_t pairs = larger<int64_t>(1, ChunkedRows(p).pairs());
    return smaller(pairs, larger<int64_t>(1, budget / larger<int64_t>(1, pair_floats(plan))));
  }

  static int64_t partials_floats(const DualChunkAttention& p, const DualChunkPlan& plan) {
    return plan.splits > 1 ? p.keys.batch * p.heads * p.rows * plan.splits * RowBlock<D>::part_floats : 0;
  }

  // All tasks of the pairs [first, first + count) in one go: packing, then the rows that stand last. What a task needs
  // has a lower index.
  void run(int64_t first, int64_t count) {
    const int64_t packs = plan_.packed ? (plan_.panels + panels_at_once - 1) / panels_at_once : 0;
    for (int64_t i = 0; i < count; ++i) {
      packed_[i] = {};
    }
    auto task = [&](int64_t index, int worker) {
      TaskGuard guard;
      if (index < packs * count) {
        const int64_t offset = index % count;
        pack(rows_.pair(first + offset), index / count * panels_at_once, pair_panels(offset));
        count_finished(&packed_[offset]);
        return;
      }
      index -= packs * count;
      const int64_t split = index % plan_.splits, offset = index / plan_.splits % count;
      const int64_t from_last = index / plan_.splits / count, pair = first + offset;
      const ChunkedPair x = rows_.pair(pair);
      if (from_last == 0 && split == 0) {
        write_blind(x);
      }
      const int64_t place = first_block_[pair + 1] - 1 - from_last;
      if (place >= first_block_[pair]) {
        wait_for(&packed_[offset], packs);
        attend(benches_[worker], x, place, split, pair_panels(offset));
      }
    };
    for_each_task((packs + larger<int64_t>(1, plan_.most_blocks) * plan_.splits) * count, task);
  }

  float* pair_panels(int64_t offset) const { return panels_ + offset * pair_floats(plan_); }

  // Values of a pair in float32, behind its panels.
  float* wide_values(float* panels) const { return panels + plan_.panels * panel_keys * D; }

  // A few panels of a pair, from panel `from` on; a chunk begins with a panel.
  void pack(const ChunkedPair& x, int64_t from, float* panels) const {
    const Floats& k_rows = p_.keys.k_rows;
    const int64_t to = smaller(from + panels_at_once, plan_.panels_up_to(p_, x.keys.length));
    for (int64_t panel = from; panel < to; ++panel) {
      const int64_t within = panel % plan_.panels_of_chunk * panel_keys;
      const int64_t j = panel / plan_.panels_of_chunk * p_.period + within;
      const int64_t keys = smaller<int64_t>(panel_keys, smaller(p_.period - within, x.keys.length - j));
      const T* k = static_cast<const T*>(k_rows.data) + (x.keys.start + j) * k_rows.strides[0];
      pack_panel<D>(k, k_rows.strides[0], static_cast<int>(keys), panels + panel * panel_keys * D);
      if constexpr (widen) {
        const Floats& v_rows = p_.keys.v_rows;
        const T* v = static_cast<const T*>(v_rows.data) + (x.keys.start + j) * v_rows.strides[0];
        pack_values<D>(v, v_rows.strides[0], keys, wide_values(panels) + j * D);
      }
    }
  }

  // Keys [first, first + keys) of a pair, of one run.
  KeyBlock<float> key_block(Bench<D>& bench, const ChunkedPair& x, int64_t first, int keys, float* panels) const {
    if (!plan_.packed) {
      return pack_block<D, T>(p_.keys, x.keys, first, keys, bench.panels, bench.values, bench.rows.rows <= few_rows);
    }
    KeyBlock<float> block{first, keys, panels + plan_.panels_up_to(p_, first) * panel_keys * D, nullptr, 0};
    if constexpr (widen) {
      block.v = wide_values(panels) + first * D;
      block.v_row = D;
    } else {
      block.v = static_cast<const T*>(p_.keys.v_rows.data) + (x.keys.start + first) * p_.keys.v_rows.strides[0];
      block.v_row = p_.keys.v_rows.strides[0];
    }
    return block;
  }

  void attend(Bench<D>& bench, const ChunkedPair& x, int64_t place, int64_t split, float* panels) const {
    const ChunkedBlock& block = blocks_[place];
    RowBlock<D>& rows = bench.rows;
    rows.reset(static_cast<int>(block.count));
    take(bench, x, block, split, panels);
    if (plan_.splits == 1) {
      return finish(rows, x, block);
    }
    for (int r = 0; r < rows.rows; ++r) {
      rows.store_part(r, partial(x, block, split, r));
    }
    if (count_finished(&attended_[place]) == plan_.splits) {
      rows.reset(rows.rows);
      for (int r = 0; r < rows.rows; ++r) {
        for (int64_t i = 0; i < plan_.splits; ++i) {
          rows.add_part(r, partial(x, block, i, r));
        }
      }
      finish(rows, x, block);
    }
  }

  // Attends to a split of the keys of a block: of its runs laid end to end, each filled up to full panels.
  void take(Bench<D>& bench, const ChunkedPair& x, const ChunkedBlock& block, int64_t split, float* panels) const {
    const int64_t from = plan_.splits == 1 ? 0 : split * plan_.span;
    int64_t origin = 0;
    bool loaded = false;
    Distance last{};
    rows_.for_runs(x, block, plan_.joined(p_), [&](Distance distance, int64_t first, int64_t end) {
      const int64_t begin = larger<int64_t>(0, from - origin);
      const int64_t stop = plan_.splits == 1 ? end - first : smaller(end - first, from + plan_.span - origin);
      origin += DualChunkPlan::padded(end - first);
      if (begin >= stop) {
        return;
      }
      if (!loaded || distance != last) {
        load(bench.rows, x, block, distance);
      }
      loaded = true;
      last = distance;
      for (int r = 0; r < bench.rows.rows; ++r) {
        bench.rows.limits[r] = distance == Distance::own ? rows_.position(x, block, r) + 1 : end;
      }
      for (int64_t j = begin; j < stop; j += block_keys) {
        const int keys = static_cast<int>(smaller<int64_t>(block_keys, stop - j));
        bench.rows.attend(key_block(bench, x, first + j, keys, panels));
      }
    });
  }

  // The block's queries, turned for keys at a distance.
  void load(RowBlock<D>& rows, const ChunkedPair& x, const ChunkedBlock& block, Distance distance) const {
    const float* gains = static_cast<const float*>(p_.gains.data);
    for (int r = 0; r < rows.rows; ++r) {
      const int64_t row = rows_.row(block, r), head = rows_.head(x, block, r);
      const float gain = gains ? gains[x.b * p_.gains.strides[0] + row] : 1.0f;
      const T* q = static_cast<const T*>(p_.q.data);
      rows.load_row(r, q + x.b * p_.q.strides[0] + head * p_.q.strides[1] + row * p_.q.strides[2], p_.scale * gain);
      if (distance != Distance::own) {
        const int64_t rest = p_.clip - rows_.position(x, block, r) % p_.period;
        turn(rows.q + r * D, distance == Distance::previous ? smaller(p_.period, rest) : rest);
      }
    }
  }

  void turn(float* q, int64_t positions) const {
    const int64_t half = p_.turning / 2, step = p_.interleaved ? 2 : 1, partner = p_.interleaved ? 1 : half;
    const float* cos = static_cast<const float*>(p_.turns.data) + positions * p_.turns.strides[0];
    const float* sin = cos + half;
    for (int64_t c = 0; c < half; ++c) {
      const float a = q[c * step], b = q[c * step + partner];
      q[c * step] = a * cos[c] - b * sin[c];
      q[c * step + partner] = b * cos[c] + a * sin[c];
    }
  }

  float* partial(const ChunkedPair& x, const ChunkedBlock& block, int64_t split, int64_t r) const {
    const int64_t rows = p_.rows * rows_.group(), pair = x.b * p_.keys.kv_heads + x.h;
    return partials_ + ((pair * plan_.splits + split) * rows + block.first + r) * RowBlock<D>::part_floats;
  }

  void finish(const RowBlock<D>& rows, const ChunkedPair& x, const ChunkedBlock& block) const {
    for (int r = 0; r < rows.rows; ++r) {
      const int64_t place = (x.b * p_.heads + rows_.head(x, block, r)) * p_.rows + rows_.row(block, r);
      p_.lse[place] = rows.lse(r);
      rows.store_row(r, p_.out, place, p_.keys.dtype);
    }
  }

  // The results of rows that see nothing.
  void write_blind(const ChunkedPair& x) const {
    for (int64_t head = x.h * rows_.group(); head < (x.h + 1) * rows_.group(); ++head) {
      for (int64_t row = 0; row < p_.rows; ++row) {
        if (row < x.begin || row >= x.end) {
          const int64_t place = (x.b * p_.heads + head) * p_.rows + row;
          p_.lse[place] = -infinity;
          __builtin_memset(static_cast<T*>(p_.out) + place * D, 0, D * sizeof(T));
        }
      }
    }
  }

  const DualChunkAttention& p_;
  const DualChunkPlan plan_;
  const ChunkedRows rows_;
  const int64_t at_once_;
  Bench<D>* benches_;
  float* panels_;
  Finished* packed_;
  Finished* attended_;
  int64_t* first_block_;
  ChunkedBlock* blocks_;
  float* partials_;
};

}  // namespace pcbench::PCBENCH_ISA
