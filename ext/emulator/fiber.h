// A stack of its own for each emulated thread, and the switch between two of them.
#pragma once

#include <cstddef>

namespace pcbench::emulator {

// Where a suspended fiber goes on.
using Context = void*;

// Suspends the caller in `from` and goes on in `to`.
void switch_fibers(Context& from, Context to);

// Stacks that one OS thread's fibers run on; each ends at a page that may not be touched.
class Stacks {
 public:
  static constexpr std::size_t bytes = 256 * 1024;

  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks();

  // Makes sure that there are `count` stacks; fibers that lived on the former ones are gone.
  void reserve(int count);

  // A fiber that starts in `entry` on stack `index`; `entry` does not return.
  Context start(int index, void (*entry)()) const;

 private:
  char* memory_ = nullptr;
  int count_ = 0;
};

}  // namespace pcbench::emulator
