// mass of decode_attention, from the scores that its attention kept and the lse that followed from them.
//
// A thread owns a key of a (b, hkv) and adds the heads of the group in ascending order. Grid: blocks of keys × Hkv × B.
// Keys from the length of a segment on have mass 0. Everything is float32. Shapes: CachedAttention of params.h. Equals
// mass of pcbench.reference.decode_attention.
#pragma once

#include "device/launch.h"
#include "device/segments.h"

namespace pcbench::device::portable {

constexpr int decode_mass_threads = 256;

PCBENCH_KERNEL(decode_mass_threads, 4) void decode_mass_kernel(PCBENCH_PARAM CachedAttention p) {
  const Place place = place_in(ceil_div(p.longest, decode_mass_threads), p.keys.kv_heads);
  const int64_t b = place.z, h = place.y, group = p.heads / p.keys.kv_heads;
  const int64_t key = int64_t{place.x} * decode_mass_threads + thread_index();
  const int64_t head = b * p.heads + h * group;
  const Segment x = segment(p.keys, b, h, 0, -1);
  float total = 0.0f;
  for (int64_t g = 0; key < smaller<int64_t>(x.length, p.longest) && g < group; ++g) {
    const float lse = load(p.lse + head + g);
    total += lse == -infinity ? 0.0f : weight(load(p.scores + (head + g) * p.score_row + key), lse);
  }
  if (key < p.longest) {
    store(p.mass + (b * p.keys.kv_heads + h) * p.longest + key, total);
  }
}

}  // namespace pcbench::device::portable
