// The segments of a slotted store that the rows of one (b, hkv) read.
#pragma once

#include "device/numbers.h"

namespace pcbench::device::portable {

// Segment of the slot listed at a place. An unused place, and whatever does not lie within the stored rows, is empty.
struct Segment {
  int64_t slot, start, v_start;
  int32_t length;
  bool causal;

  // Keys that row i of `rows` sees, eviction aside.
  PCBENCH_DEVICE int32_t visible(int64_t i, int64_t rows) const {
    return causal ? static_cast<int32_t>(clamped<int64_t>(i + 1 + length - rows, 0, length)) : length;
  }
};

PCBENCH_DEVICE int64_t slot_at(const KeyRows& keys, int64_t b, int64_t place) {
  return keys.slots.data ? entry(keys.slots, b, place) : b;
}

PCBENCH_DEVICE int64_t last_used(const KeyRows& keys, int64_t b) {
  int64_t last = -1;
  for (int64_t place = 0; place < keys.listed; ++place) {
    last = slot_at(keys, b, place) >= 0 ? place : last;
  }
  return last;
}

PCBENCH_DEVICE Segment segment(const KeyRows& keys, int64_t b, int64_t h, int64_t place, int64_t last) {
  const int64_t slot = slot_at(keys, b, place);
  if (slot < 0 || slot >= keys.slots_in_store) {
    return {0, 0, 0, 0, false};
  }
  const int64_t start = entry(keys.starts, slot, h);
  const int32_t length = entry(keys.lengths, slot, h);
  const int64_t v_start = keys.v_starts.data ? entry(keys.v_starts, slot, h) : start;
  const bool inside = smaller<int64_t>(length, smaller(start, v_start)) >= 0 && start + length <= keys.stored_rows &&
                      v_start + length <= keys.value_rows;
  return {slot, start, v_start, inside ? length : 0, keys.causal_last && place == last};
}

}  // namespace pcbench::device::portable
