// Global memory that emulated kernels may touch: what the host exposed, and which bytes of it hold something.
#pragma once

#include <cstdint>
#include <vector>

namespace pcbench::emulator {

// input: read only. changed: read and written. output: bytes are read after they were written only.
enum class Access { input, changed, output };

class Memory {
 public:
  void expose(const void* data, int64_t bytes, Access access);
  void clear() { ranges_.clear(); }

  // Why a kernel must not read or write these bytes; null where it may. A write makes bytes of an output readable.
  const char* why_not_read(const void* from, int64_t bytes);
  const char* why_not_write(const void* to, int64_t bytes);

 private:
  struct Range {
    const char* begin;
    const char* end;
    Access access;
    std::vector<bool> written;
  };

  Range* find(const void* at, int64_t bytes);

  std::vector<Range> ranges_;
  std::size_t latest_ = 0;
};

// Of the calling OS thread.
Memory& memory();

}  // namespace pcbench::emulator
