// select_tokens and chunk_topk.
//
// select_tokens: a task owns one (b, hkv) and writes its indices; a second pass copies 64 rows a task. Scratch: what
// select_indices asks for, a worker. chunk_topk: one thread, 24 bytes an entry. Equal pcbench.reference.select_tokens
// and pcbench.reference.chunk_topk.
// ParallelComp, arXiv:2502.14317v2.
#include "cpu/select.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/tasks.h"

namespace pcbench::plain {
namespace {

// Neighbours that are kept are copied at once.
void copy_kept(const SelectTokens& p, const Floats& from, void* to, int64_t pair, int64_t first, int64_t count) {
  const int64_t b = pair / p.kv_heads, h = pair % p.kv_heads, row = from.strides[2] * p.itemsize;
  const char* rows = static_cast<const char*>(from.data) + (b * from.strides[0] + h * from.strides[1]) * p.itemsize;
  const int32_t* index = p.index + pair * p.capacity;
  char* out = static_cast<char*>(to) + pair * p.capacity * p.row_bytes;
  const int64_t end = first + count;
  while (first < end && index[first] >= 0) {
    int64_t next = first + 1;
    while (row == p.row_bytes && next < end && index[next] == index[next - 1] + 1) {
      ++next;
    }
    std::memcpy(out + first * p.row_bytes, rows + index[first] * row, (next - first) * p.row_bytes);
    first = next;
  }
  std::memset(out + first * p.row_bytes, 0, (end - first) * p.row_bytes);
}

}  // namespace

void select_tokens(const SelectTokens& p, const Kernels& kernels, float* scratch, int64_t words) {
  auto choose = [&](int64_t pair, int worker) { kernels.select_indices(p, pair, scratch + worker * words); };
  for_each_task(p.batch * p.kv_heads, choose, p.batch * p.kv_heads * p.group * p.keys);
  constexpr int64_t rows_at_once = 64;
  const int64_t parts = (p.capacity + rows_at_once - 1) / rows_at_once;
  auto copy = [&](int64_t index, int) {
    int64_t first = index % parts * rows_at_once, count = std::min(rows_at_once, p.capacity - first);
    copy_kept(p, p.k, p.k2, index / parts, first, count);
    copy_kept(p, p.v, p.v2, index / parts, first, count);
  };
  for_each_task(p.batch * p.kv_heads * parts, copy, p.batch * p.kv_heads * p.capacity * p.row_bytes);
}

void chunk_topk(const ChunkTopk& p) {
  struct Entry {
    float score;
    int32_t id, slot;
    // id, or last without a chunk; then as they came
    uint32_t place, order;
    bool lost;
  };
  std::vector<Entry> entries;
  entries.reserve(p.kept + p.scored);
  auto add = [&](float score, int32_t id, int32_t slot) {
    const bool none = id < 0;
    const uint32_t place = none ? std::numeric_limits<int32_t>::max() : id;
    score = score != score || none ? std::numeric_limits<float>::infinity() : score;
    entries.push_back({score, std::max(id, -1), slot, place, static_cast<uint32_t>(entries.size()), true});
  };
  for (int64_t i = 0; i < p.kept; ++i) {
    add(p.best_scores[i], p.best_ids[i], p.best_slots[i]);
  }
  for (int64_t i = 0; i < p.scored; ++i) {
    add(p.scores[i], p.chunk_ids[i], p.slots[i]);
  }
  auto earlier = [](const Entry& a, const Entry& b) {
    return a.place != b.place ? a.place < b.place : a.order < b.order;
  };
  auto better = [&](const Entry& a, const Entry& b) { return a.score != b.score ? a.score < b.score : earlier(a, b); };
  std::nth_element(entries.begin(), entries.begin() + p.kept, entries.end(), better);
  std::for_each(entries.begin(), entries.begin() + p.kept, [](Entry& x) { x.lost = false; });
  std::sort(entries.begin(), entries.end(), earlier);
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
