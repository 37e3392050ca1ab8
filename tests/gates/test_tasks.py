"""The schedule of the CPU's kernels on threads that start late, in the wrong order or not at all, watched for races."""

import subprocess

import pytest
from builds import ROOT, give_up
from gpu_code import program

# torch's parallel_for: as many threads as there are, each with a range; the last range begins first
TORCH = """
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

inline int64_t asked_for, there_are;

namespace torch::stable {

inline uint32_t get_num_threads() { return asked_for; }

template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t, const F& f) {
  const int64_t chunk = (end - begin + there_are - 1) / there_are;
  std::vector<std::thread> threads;
  for (int64_t i = there_are - 1; i >= 0; --i) {
    const int64_t from = begin + i * chunk, to = std::min(end, from + chunk);
    if (from < to) {
      threads.emplace_back([&f, from, to, i] {
        std::this_thread::sleep_for(std::chrono::microseconds(200 * i));
        f(from, to);
      });
    }
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

}  // namespace torch::stable
"""

# tasks of `groups`, each in three steps as in calibrated_attention; whatever they share is plain memory
PROGRAM = """
#include "cpu/tasks.cpp"

#include <cstdio>
#include <cstdlib>

void hold(bool is, const char* what) {
  if (!is) {
    std::printf("%s: asked for %d, there are %d\\n", what, int(asked_for), int(there_are));
    std::exit(1);
  }
}

void work(int64_t groups, int64_t of_a_step) {
  struct Group {
    pcbench::Finished first, second;
    int64_t sum_of_last;
  };
  const int64_t step = groups * of_a_step;
  std::vector<Group> made(groups);
  std::vector<int64_t> runs(3 * step), results(3 * step), seen(pcbench::task_workers(), -1);
  auto sum = [&](int64_t group, int64_t step_before) {
    int64_t total = 0;
    for (int64_t i = 0; i < of_a_step; ++i) {
      total += results[step_before * step + i * groups + group];
    }
    return total;
  };
  auto task = [&](int64_t index, int worker) {
    hold(worker >= 0 && worker < std::min<int64_t>(3 * step, pcbench::task_workers()), "a worker beyond the last");
    hold(seen[worker] < index, "a worker goes back");
    seen[worker] = index;
    ++runs[index];
    Group& group = made[index % groups];
    if (index < step) {
      results[index] = index + 1;
      pcbench::count_finished(&group.first);
    } else if (index < 2 * step) {
      pcbench::wait_for(&group.first, of_a_step);
      results[index] = sum(index % groups, 0);
      if (pcbench::count_finished(&group.second) == of_a_step) {
        group.sum_of_last = sum(index % groups, 1);
      }
    } else {
      pcbench::wait_for(&group.second, of_a_step);
      results[index] = sum(index % groups, 1);
    }
  };
  pcbench::for_each_task(3 * step, task);
  for (int64_t i = 0; i < 3 * step; ++i) {
    hold(runs[i] == 1, "a task that did not run once");
    const int64_t own = i % groups, first = of_a_step * (own + 1) + groups * of_a_step * (of_a_step - 1) / 2;
    const int64_t wanted = i < step ? i + 1 : i < 2 * step ? first : of_a_step * first;
    hold(results[i] == wanted && made[own].sum_of_last == of_a_step * first, "a task that began too early");
  }
}

int main() {
  for (int64_t asked : {1, 2, 3, 4, 8, 17}) {
    for (int64_t there : {int64_t{1}, int64_t{2}, asked}) {
      asked_for = asked;
      there_are = there;
      for (int64_t groups : {0, 1, 5}) {
        work(groups, 1);
        work(groups, 40);
      }
    }
  }
  std::puts("done");
}
"""


@pytest.mark.needs("c++", "g++")
def test_every_task_runs_once_and_after_what_it_waits_for(tmp_path):
    header = tmp_path / "torch/csrc/stable/ops.h"
    header.parent.mkdir(parents=True)
    header.write_text(TORCH)
    command = [program("c++") or program("g++"), "-std=c++20", "-O1", "-g1", "-fsanitize=thread", "-pthread"]
    command += [f"-I{tmp_path}", f"-I{ROOT / 'ext'}", "-x", "c++", "-", "-o", tmp_path / "schedule"]
    subprocess.run(command, input=PROGRAM, text=True, check=True)
    # a schedule that waits for itself ends here
    done = subprocess.run([tmp_path / "schedule"], capture_output=True, text=True, timeout=120, check=False)
    if "unexpected memory mapping" in done.stderr:
        give_up("ThreadSanitizer needs fewer random bits in addresses: sysctl vm.mmap_rnd_bits=28")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stdout + done.stderr
