// key_mass: attention that the keys of a chunk receive from its last rows, whose log-sum-exp is given.
//
// A task owns block_keys keys of one (b, hkv): it packs those that a row of the window may see, and takes these rows
// past them in ascending order, so each sum has one writer. Scratch: a Bench a worker. Scores and sums are float32; the
// mass of calibrated_attention is the same bit for bit. Equals pcbench.reference.key_mass. The observation window is
// SnapKV's, arXiv:2404.14469.
#pragma once

#include "cpu/calibrated_rows.h"
#include "cpu/segments.h"
#include "cpu/tasks.h"

namespace pcbench::PCBENCH_ISA {

template <int D, class T>
class KeyMass {
 public:
  KeyMass(const CalibratedAttention& p, float* scratch) : p_(p), call_(p), scratch_(scratch) {}

  static int64_t scratch_floats(const CalibratedAttention&) {
    return task_workers() * static_cast<int64_t>(sizeof(Bench<D, E>) / sizeof(float));
  }

  void run() {
    const int64_t blocks = (p_.keys + block_keys - 1) / block_keys;
    auto task = [&](int64_t index, int worker) {
      TaskGuard guard;
      Bench<D, E>& bench = reinterpret_cast<Bench<D, E>*>(scratch_)[worker];
      const CalibratedPair x = call_.pair(index / blocks);
      call_.weigh(x, index % blocks, bench.rows, [&](int64_t from, int keys) {
        call_.pack(x, from, from + keys, bench.panels);
        return KeyBlock<E>{from, keys, bench.panels, nullptr, 0};
      });
    };
    for_each_task(p_.batch * p_.kv_heads * blocks, task);
  }

 private:
  using E = Element<T>;

  const CalibratedAttention& p_;
  const CalibratedRows<D, T> call_;
  float* const scratch_;
};

}  // namespace pcbench::PCBENCH_ISA
