// merge_states: one attention from attentions over parts of the keys.
//
// A warp owns a row and adds its parts in ascending order in float32. Grid: rows over the warps of a block. No shared
// memory. Shapes: MergeStates of params.h. Equals pcbench.reference.merge_states.
// Online softmax, Milakov and Gimelshein, arXiv:1805.02867.
#pragma once

#include "device/numbers.h"

namespace pcbench::device {

constexpr int merge_threads = 256;

PCBENCH_KERNEL(merge_threads, 4) void merge_states_kernel(PCBENCH_PARAM MergeStates p) {
  const int64_t row = int64_t{block_index()} * (block_threads() / warp_width) + warp();
  if (row >= p.batch * p.heads * p.rows) {
    return;
  }
  const int64_t i = row % p.rows, h = row / p.rows % p.heads, b = row / p.rows / p.heads;
  const Floats &o = p.outs, &l = p.lses;
  const float* outs = static_cast<const float*>(o.data) + b * o.strides[1] + h * o.strides[2] + i * o.strides[3];
  const float* lses = static_cast<const float*>(l.data) + b * l.strides[1] + h * l.strides[2] + i;
  float peak = -infinity;
  for (int64_t part = 0; part < p.parts; ++part) {
    peak = larger(peak, load(lses + part * l.strides[0]));
  }
  const float shift = or_zero(peak);
  float sum = 0.0f;
  for (int64_t part = 0; part < p.parts; ++part) {
    sum += weight(load(lses + part * l.strides[0]), shift);
  }
  const float share = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (int64_t d = lane(); d < p.dim; d += warp_width) {
    float total = 0.0f;
    for (int64_t part = 0; part < p.parts; ++part) {
      const float lse = load(lses + part * l.strides[0]);
      // a part without keys may hold anything
      total += lse == -infinity ? 0.0f : weight(lse, shift) * load(outs + part * o.strides[0] + d);
    }
    store(p.out + row * p.dim + d, total * share);
  }
  if (lane() == 0) {
    store(p.lse + row, log_sum(peak, sum));
  }
}

}  // namespace pcbench::device
