#include "cpu/tasks.h"

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <thread>

namespace pcbench {

void run_tasks(int64_t count, void (*task)(void* context, int64_t index, int worker), void* context) {
  std::atomic<int64_t> next{0};
  const int64_t workers = std::min<int64_t>(count, task_workers());
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t index; (index = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
        task(context, index, static_cast<int>(worker));
      }
    }
  });
}

int task_workers() {
  return static_cast<int>(torch::stable::get_num_threads());
}

void wait_for(const int32_t* finished, int64_t count) {
  while (__atomic_load_n(finished, __ATOMIC_ACQUIRE) < count) {
    std::this_thread::yield();
  }
}

}  // namespace pcbench
