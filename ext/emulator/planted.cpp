// Kernels with a planted fault, and their faultless twins: the emulator must tell them apart. For its own tests.
//
// Each fills out[i] with twice in[i ^ 1]; `fault` chooses what is wrong.
#include <string>

#include "device/launch.h"
#include "memory.h"

namespace pcbench::device {

enum Fault : int {
  none,
  missing_wait,
  missing_barrier,
  shared_out_of_bounds,
  global_out_of_bounds,
  divergent_barrier,
  early_exit,
  divergent_collective,
  write_to_input,
  read_before_write,
  too_much_shared,
  too_many_blocks,
  global_read_out_of_bounds,
  missing_await,
};

struct Planted {
  const float* in;
  float* out;
  int32_t count;
  int32_t fault;
};

constexpr int planted_threads = 128;

PCBENCH_KERNEL(planted_threads, 1) void planted_kernel(PCBENCH_PARAM Planted p) {
  const int i = thread_index();
  Shared<float> staged = shared<float>(0);
  if (p.fault != missing_await) {
    await_previous();
  }
  emulator::block().async_copy(staged.offset() + 4 * i, p.in + i, 4, true);
  emulator::block().async_commit();
  if (p.fault != missing_wait) {
    emulator::block().async_wait(0);
  }
  if (p.fault == early_exit && i == 7) {
    return;
  }
  if (p.fault == divergent_barrier && i >= 64) {
    warp_barrier();
  } else if (p.fault != missing_barrier) {
    barrier();
  }
  float x = staged[p.fault == shared_out_of_bounds && i == 5 ? planted_threads : i ^ 1];
  // the neighbours change places twice, so the warp has met
  x = p.fault == divergent_collective && i % 2 ? shuffle(x, lane() ^ 1) : shuffle_xor(x, 1);
  x = shuffle_xor(x, 1);
  if (p.fault == write_to_input) {
    store(const_cast<float*>(p.in), x);
  }
  if (p.fault == read_before_write) {
    x += load(p.out + i);
  }
  if (p.fault == global_read_out_of_bounds) {
    x += load(p.in + i + 1);
  }
  store(p.out + i + (p.fault == global_out_of_bounds ? 1 : 0), 2.0f * x);
}

}  // namespace pcbench::device

// Runs planted_kernel on [128] floats; returns what is wrong, empty where nothing is.
extern "C" __attribute__((visibility("default"))) const char* pcbench_emulator_planted(int fault, const float* in,
                                                                                       float* out) {
  using namespace pcbench;
  static std::string error;
  error.clear();
  emulator::memory().clear();
  emulator::memory().expose(in, 4 * device::planted_threads, emulator::Access::input);
  emulator::memory().expose(out, 4 * device::planted_threads, emulator::Access::output);
  try {
    const int shared_bytes = fault == device::too_much_shared ? 200 * 1024 : 4 * device::planted_threads;
    const int64_t blocks = fault == device::too_many_blocks ? int64_t{1} << 32 : 2;
    device::launch(device::planted_kernel, blocks, device::planted_threads, shared_bytes, nullptr,
                   device::Planted{in, out, device::planted_threads, fault}, true);
  } catch (const std::exception& caught) {
    error = caught.what();
  }
  emulator::memory().clear();
  return error.c_str();
}
