// chunk_topk: merges scored chunks into the kept ones.
//
// One block ranks all K + M entries by counting those that come before, K + M comparisons an entry; nothing waits for
// the host. Grid: 1. Scratch: 20 bytes an entry. Shapes: ChunkTopk of params.h. Equals pcbench.reference.chunk_topk.
// ParallelComp, arXiv:2502.14317v2.
#pragma once

#include "device/numbers.h"

namespace pcbench::device {

constexpr int topk_threads = 256;

struct ChunkTopkCall {
  ChunkTopk p;
  // [K + M] each: the kept entries, then the scored ones
  float* scores;
  int32_t* ids;
  int32_t* slots;
  int32_t* places;  // in reading order
  int32_t* lost;
};

constexpr int64_t topk_entry_bytes = 20;

// Where an entry stands in the document; no chunk is behind every chunk.
PCBENCH_DEVICE int32_t reading(int32_t id) {
  return id < 0 ? 0x7fffffff : id;
}

PCBENCH_KERNEL(topk_threads, 1) void chunk_topk_kernel(PCBENCH_PARAM ChunkTopkCall call) {
  const ChunkTopk& p = call.p;
  const int64_t entries = p.kept + p.scored;
  for (int64_t i = thread_index(); i < entries; i += block_threads()) {
    const bool kept = i < p.kept;
    const int64_t at = kept ? i : i - p.kept;
    const float score = load((kept ? p.best_scores : p.scores) + at);
    const int32_t id = load((kept ? p.best_ids : p.chunk_ids) + at);
    store(call.scores + i, score != score || id < 0 ? infinity : score);
    store(call.ids + i, larger(id, -1));
    store(call.slots + i, load((kept ? p.best_slots : p.slots) + at));
  }
  barrier();
  for (int64_t i = thread_index(); i < entries; i += block_threads()) {
    const int32_t own = reading(load(call.ids + i));
    int32_t place = 0;
    for (int64_t j = 0; j < entries; ++j) {
      const int32_t other = reading(load(call.ids + j));
      place += other < own || (other == own && j < i);
    }
    store(call.places + i, place);
  }
  barrier();
  for (int64_t i = thread_index(); i < entries; i += block_threads()) {
    const float own = load(call.scores + i);
    const int32_t place = load(call.places + i);
    int32_t better = 0;
    for (int64_t j = 0; j < entries; ++j) {
      const float other = load(call.scores + j);
      better += other < own || (other == own && load(call.places + j) < place);
    }
    store(call.lost + i, int32_t{better >= p.kept});
  }
  barrier();
  for (int64_t i = thread_index(); i < entries; i += block_threads()) {
    const int32_t place = load(call.places + i), lost = load(call.lost + i);
    int32_t before = 0;
    for (int64_t j = 0; j < entries; ++j) {
      before += load(call.lost + j) == lost && load(call.places + j) < place;
    }
    if (lost) {
      store(p.freed + before, load(call.slots + i));
    } else {
      store(p.best_scores + before, load(call.scores + i));
      store(p.best_ids + before, load(call.ids + i));
      store(p.best_slots + before, load(call.slots + i));
    }
  }
}

}  // namespace pcbench::device
