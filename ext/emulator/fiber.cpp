#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <stdexcept>

#ifndef __x86_64__
#error "the emulator switches stacks on x86-64 only; build with -DPCBENCH_EMULATOR=OFF here"
#endif

// rdi: where to keep the stack pointer; rsi: the stack pointer to go on with.
extern "C" void pcbench_switch(void** from, void* to) asm("pcbench_switch");
asm(R"(
.pushsection .text
.type pcbench_switch, @function
pcbench_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pcbench_switch, .-pcbench_switch
.popsection
)");

namespace pcbench::emulator {
namespace {

constexpr std::size_t guard_bytes = 4096;

}  // namespace

void switch_fibers(Context& from, Context to) {
  pcbench_switch(&from, to);
}

Stacks::~Stacks() {
  if (memory_) {
    munmap(memory_, bytes * count_);
  }
}

void Stacks::reserve(int count) {
  if (count <= count_) {
    return;
  }
  if (memory_) {
    munmap(memory_, bytes * count_);
  }
  void* memory =
      mmap(nullptr, bytes * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    memory_ = nullptr;
    count_ = 0;
    throw std::runtime_error("emulator: no memory for the stacks of a block");
  }
  memory_ = static_cast<char*>(memory);
  count_ = count;
  for (int i = 0; i < count; ++i) {
    mprotect(memory_ + bytes * i, guard_bytes, PROT_NONE);
  }
}

Context Stacks::start(int index, void (*entry)()) const {
  auto* top = reinterpret_cast<std::uintptr_t*>(memory_ + bytes * (index + 1));
  // six registers, the entry, and a word that keeps the stack aligned as after a call
  top -= 2;
  top[0] = reinterpret_cast<std::uintptr_t>(entry);
  top[1] = 0;
  top -= 6;
  for (int i = 0; i < 6; ++i) {
    top[i] = 0;
  }
  return top;
}

}  // namespace pcbench::emulator
