// select_tokens and chunk_topk.
//
// select_tokens: a task owns one (b, hkv) and writes its indices; a second pass copies 64 rows a task. Scratch: 12
// bytes a key, 4 a key that pooling reaches beyond the row's ends. chunk_topk: one thread, 8 bytes an entry. Masses are
// summed in float32 in the order of the heads. Equal pcbench.reference.select_tokens and pcbench.reference.chunk_topk.
// SnapKV, arXiv:2404.14469; ParallelComp, arXiv:2502.14317v2.
#include "cpu/select.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "cpu/tasks.h"

namespace pcbench::plain {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// One (b, hkv) of a selection.
class Selection {
 public:
  Selection(const SelectTokens& p, int64_t b, int64_t h) : p_(p), b_(b), h_(h), length_(p.keys), budget_(p.capacity) {
    if (p.key_lengths.data) {
      length_ = std::clamp<int64_t>(value(p.key_lengths), 0, p.keys);
    }
    if (p.budgets.data) {
      budget_ = std::clamp<int64_t>(value(p.budgets), 0, p.capacity);
    }
  }

  // Writes the kept indices in ascending order, −1 behind them, and their number.
  void run() const {
    std::vector<uint32_t> ranks(p_.keys);
    rank(ranks);
    std::vector<uint32_t> sorted;
    for (int64_t j = 0; j < length_; ++j) {
      if (candidate(j)) {
        sorted.push_back(ranks[j]);
      }
    }
    int64_t keep = std::min<int64_t>(budget_, sorted.size());
    uint32_t least = 0;
    int64_t ties = 0;
    if (keep) {
      std::nth_element(sorted.begin(), sorted.begin() + (keep - 1), sorted.end(), std::greater<>());
      least = sorted[keep - 1];
      ties = keep - std::count_if(sorted.begin(), sorted.end(), [&](uint32_t x) { return x > least; });
    }
    int32_t* index = p_.index + (b_ * p_.kv_heads + h_) * p_.capacity;
    int64_t count = 0;
    for (int64_t j = 0; j < length_ && count < keep; ++j) {
      if (candidate(j) && (ranks[j] > least || (ranks[j] == least && ties-- > 0))) {
        index[count++] = static_cast<int32_t>(j);
      }
    }
    std::fill(index + count, index + p_.capacity, -1);
    p_.lengths[b_ * p_.kv_heads + h_] = static_cast<int32_t>(count);
  }

 private:
  int64_t value(const Ints& x) const { return x.data[b_ * x.strides[0] + h_ * x.strides[1]]; }

  bool candidate(int64_t j) const {
    if (!p_.evicted.data) {
      return true;
    }
    const int32_t* bits = p_.evicted.data + b_ * p_.evicted.strides[0] + h_ * p_.evicted.strides[1];
    return !(static_cast<uint32_t>(bits[j / 32]) >> j % 32 & 1);
  }

  bool comes_first(int64_t j) const {
    return j < p_.sink || j >= length_ - p_.recent || (p_.protect && p_.protect[b_ * p_.protect_batch + j]);
  }

  // Integers in the order of the pooled scores.
  void rank(std::vector<uint32_t>& ranks) const {
    // a wider pool reaches no more keys
    const int64_t reach = std::min(p_.pool / 2, length_), pool = 2 * reach + 1;
    std::vector<float> largest(length_ + 2 * reach, -infinity);
    sum_group(largest.data() + reach);
    // the largest of `width` scores from each place on: two windows of it cover a pool
    int64_t width = 1;
    for (; 2 * width <= pool; width *= 2) {
      for (int64_t j = 0; j + width < static_cast<int64_t>(largest.size()); ++j) {
        largest[j] = std::max(largest[j], largest[j + width]);
      }
    }
    for (int64_t j = 0; j < length_; ++j) {
      // −0 equals 0
      float x = comes_first(j) ? infinity : std::max(largest[j], largest[j + pool - width]) + 0.0f;
      uint32_t bits;
      std::memcpy(&bits, &x, sizeof bits);
      ranks[j] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    }
  }

  void sum_group(float* score) const {
    const float* mass = static_cast<const float*>(p_.mass.data) + b_ * p_.mass.strides[0];
    for (int64_t j = 0; j < length_; ++j) {
      float total = 0.0f;
      for (int64_t g = 0; g < p_.group; ++g) {
        total += mass[(h_ * p_.group + g) * p_.mass.strides[1] + j];
      }
      score[j] = total != total ? -infinity : total;
    }
  }

  const SelectTokens& p_;
  const int64_t b_, h_;
  int64_t length_, budget_;
};

void copy_kept(const SelectTokens& p, const Floats& from, void* to, int64_t pair, int64_t first, int64_t count) {
  const int64_t b = pair / p.kv_heads, h = pair % p.kv_heads;
  const char* rows = static_cast<const char*>(from.data) + (b * from.strides[0] + h * from.strides[1]) * p.itemsize;
  for (int64_t i = pair * p.capacity + first; i < pair * p.capacity + first + count; ++i) {
    char* row = static_cast<char*>(to) + i * p.row_bytes;
    if (p.index[i] < 0) {
      std::memset(row, 0, p.row_bytes);
    } else {
      std::memcpy(row, rows + p.index[i] * from.strides[2] * p.itemsize, p.row_bytes);
    }
  }
}

}  // namespace

void select_tokens(const SelectTokens& p) {
  auto choose = [&](int64_t pair, int) { Selection(p, pair / p.kv_heads, pair % p.kv_heads).run(); };
  for_each_task(p.batch * p.kv_heads, choose);
  constexpr int64_t rows_at_once = 64;
  const int64_t parts = (p.capacity + rows_at_once - 1) / rows_at_once;
  auto copy = [&](int64_t index, int) {
    int64_t first = index % parts * rows_at_once, count = std::min(rows_at_once, p.capacity - first);
    copy_kept(p, p.k, p.k2, index / parts, first, count);
    copy_kept(p, p.v, p.v2, index / parts, first, count);
  };
  for_each_task(p.batch * p.kv_heads * parts, copy);
}

void chunk_topk(const ChunkTopk& p) {
  struct Entry {
    float score;
    int32_t id, slot;
    bool lost;
  };
  std::vector<Entry> entries;
  auto add = [&](float score, int32_t id, int32_t slot) {
    entries.push_back({score != score || id < 0 ? infinity : score, std::max(id, -1), slot, false});
  };
  for (int64_t i = 0; i < p.kept; ++i) {
    add(p.best_scores[i], p.best_ids[i], p.best_slots[i]);
  }
  for (int64_t i = 0; i < p.scored; ++i) {
    add(p.scores[i], p.chunk_ids[i], p.slots[i]);
  }
  // reading order, no chunk last
  auto place = [](const Entry& x) { return static_cast<uint32_t>(x.id < 0 ? std::numeric_limits<int>::max() : x.id); };
  std::stable_sort(entries.begin(), entries.end(), [&](auto& a, auto& b) { return place(a) < place(b); });
  std::vector<Entry*> ranked(entries.size());
  std::transform(entries.begin(), entries.end(), ranked.begin(), [](Entry& x) { return &x; });
  std::stable_sort(ranked.begin(), ranked.end(), [](auto* a, auto* b) { return a->score < b->score; });
  std::for_each(ranked.begin() + p.kept, ranked.end(), [](Entry* x) { x->lost = true; });
  int64_t kept = 0, freed = 0;
  for (const Entry& x : entries) {
    if (x.lost) {
      p.freed[freed++] = x.slot;
    } else {
      p.best_scores[kept] = x.score;
      p.best_ids[kept] = x.id;
      p.best_slots[kept++] = x.slot;
    }
  }
}

}  // namespace pcbench::plain
