#include "cpu/tasks.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <thread>

namespace pcbench {

void run_tasks(int64_t count, void (*task)(void* context, int64_t index, int worker), void* context, int64_t elements) {
  const int64_t workers = elements < few_elements ? 1 : std::min<int64_t>(count, task_workers());
  if (workers <= 1) {
    for (int64_t index = 0; index < count; ++index) {
      task(context, index, 0);
    }
    return;
  }
  // alone in its cache line: what else workers read, here on the stack, stays with each of them
  struct alignas(64) {
    std::atomic<int64_t> index{0};
  } next;
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t index; (index = next.index.fetch_add(1, std::memory_order_relaxed)) < count;) {
        task(context, index, static_cast<int>(worker));
      }
    }
  });
}

int task_workers() {
  return static_cast<int>(torch::stable::get_num_threads());
}

void wait_for(const Finished* finished, int64_t count) {
  while (__atomic_load_n(&finished->count, __ATOMIC_ACQUIRE) < count) {
    std::this_thread::yield();
  }
}

}  // namespace pcbench
