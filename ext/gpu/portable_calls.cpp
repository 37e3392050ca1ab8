#include "gpu/portable_calls.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace pcbench {
namespace {

struct PortableCalls {
  std::mutex mutex;
  std::map<std::string, int64_t> counts;
};

PortableCalls& portable_calls() {
  static PortableCalls all;
  return all;
}

}  // namespace

bool started(const char* op, Float dtype, const char* refusal) {
  if (refusal && dtype != Float::f32) {
    std::lock_guard lock(portable_calls().mutex);
    ++portable_calls().counts[std::string(op) + " ran the portable kernel: " + refusal];
  }
  return !refusal;
}

}  // namespace pcbench

// What ran a portable kernel and why, a line each: "3 cached_attention ran the portable kernel: …". Good until the
// thread's next call.
extern "C" __attribute__((visibility("default"))) const char* pcbench_portable_calls() {
  static thread_local std::string lines;
  std::lock_guard lock(pcbench::portable_calls().mutex);
  lines.clear();
  for (const auto& [what, count] : pcbench::portable_calls().counts) {
    lines += std::to_string(count) + " " + what + "\n";
  }
  return lines.c_str();
}
