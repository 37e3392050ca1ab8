#include "memory.h"

#include <algorithm>

namespace pcbench::emulator {

void Memory::expose(const void* data, int64_t bytes, Access access) {
  if (data && bytes > 0) {
    const char* begin = static_cast<const char*>(data);
    ranges_.push_back({begin, begin + bytes, access, std::vector<bool>(access == Access::output ? bytes : 0)});
  }
}

Memory::Range* Memory::find(const void* at, int64_t bytes) {
  const char* begin = static_cast<const char*>(at);
  auto holds = [&](const Range& x) { return begin >= x.begin && begin + bytes <= x.end; };
  if (latest_ < ranges_.size() && holds(ranges_[latest_])) {
    return &ranges_[latest_];
  }
  auto found = std::find_if(ranges_.begin(), ranges_.end(), holds);
  if (found == ranges_.end()) {
    return nullptr;
  }
  latest_ = found - ranges_.begin();
  return &*found;
}

const char* Memory::why_not_read(const void* from, int64_t bytes) {
  Range* range = find(from, bytes);
  if (!range) {
    return "reads global memory out of bounds";
  }
  if (range->access == Access::output) {
    const int64_t first = static_cast<const char*>(from) - range->begin;
    for (int64_t i = first; i < first + bytes; ++i) {
      if (!range->written[i]) {
        return "reads global memory that nothing was written to";
      }
    }
  }
  return nullptr;
}

const char* Memory::why_not_write(const void* to, int64_t bytes) {
  Range* range = find(to, bytes);
  if (!range) {
    return "writes global memory out of bounds";
  }
  if (range->access == Access::input) {
    return "writes an input";
  }
  if (range->access == Access::output) {
    const int64_t first = static_cast<const char*>(to) - range->begin;
    std::fill_n(range->written.begin() + first, bytes, true);
  }
  return nullptr;
}

Memory& memory() {
  thread_local Memory of_this_thread;
  return of_this_thread;
}

}  // namespace pcbench::emulator
