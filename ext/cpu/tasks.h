// Independent tasks on torch's threads, without a torch header.
#pragma once

#include <cstdint>

namespace pcbench {

// Elements that one thread is through with before another has woken up.
constexpr int64_t few_elements = 1 << 15;

// Runs task(context, index, worker) for every index in [0, count). Indices are handed out in ascending order to
// whichever worker is free; a worker runs one task at a time and workers count from 0. `elements` are those of all
// tasks: few of them are left to one worker.
void run_tasks(int64_t count, void (*task)(void* context, int64_t index, int worker), void* context, int64_t elements);

// Upper bound of the workers of a run_tasks call.
int task_workers();

template <class Task>
[[gnu::always_inline]] inline void for_each_task(int64_t count, Task& task, int64_t elements = few_elements) {
  run_tasks(
      count, [](void* context, int64_t index, int worker) { (*static_cast<Task*>(context))(index, worker); }, &task,
      elements);
}

// How many tasks have finished, alone in its cache line: who counts here does not slow down who waits elsewhere.
struct alignas(64) Finished {
  int32_t count;
};

// Counts a finished task; returns how many have finished. What they wrote is visible to whoever sees the count.
inline int32_t count_finished(Finished* finished) {
  return __atomic_add_fetch(&finished->count, 1, __ATOMIC_ACQ_REL);
}

// A task may wait for tasks with lower indices of the same call.
void wait_for(const Finished* finished, int64_t count);

}  // namespace pcbench
