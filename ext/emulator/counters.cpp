#include "counters.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace pcbench::emulator {
namespace {

struct Counters {
  std::mutex mutex;
  std::map<std::string, int64_t> values;
  std::string names;
};

Counters& counters() {
  static Counters all;
  return all;
}

}  // namespace

int64_t& counter(const std::string& name) {
  std::lock_guard lock(counters().mutex);
  return counters().values[name];
}

void count_bank_conflicts(const int64_t* offsets, int lanes) {
  static int64_t& conflicts = counter("bank conflicts");
  constexpr int at_once = 8, banks = 8;
  for (int first = 0; first < lanes; first += at_once) {
    int64_t rows[banks][at_once];
    int count[banks] = {};
    for (int i = first; i < std::min(first + at_once, lanes); ++i) {
      const int64_t row = offsets[i] / 16, bank = row % banks;
      if (offsets[i] >= 0 && std::find(rows[bank], rows[bank] + count[bank], row) == rows[bank] + count[bank]) {
        rows[bank][count[bank]++] = row;
      }
    }
    conflicts += std::max(1, *std::max_element(count, count + banks)) - 1;
  }
}

}  // namespace pcbench::emulator

extern "C" {

__attribute__((visibility("default"))) int64_t pcbench_emulator_count(const char* name) {
  return pcbench::emulator::counter(name);
}

// All names that were counted, a line each.
__attribute__((visibility("default"))) const char* pcbench_emulator_counters() {
  auto& all = pcbench::emulator::counters();
  std::lock_guard lock(all.mutex);
  all.names.clear();
  for (const auto& [name, value] : all.values) {
    all.names += name + "\n";
  }
  return all.names.c_str();
}

__attribute__((visibility("default"))) void pcbench_emulator_reset() {
  auto& all = pcbench::emulator::counters();
  std::lock_guard lock(all.mutex);
  for (auto& [name, value] : all.values) {
    value = 0;
  }
}
}
