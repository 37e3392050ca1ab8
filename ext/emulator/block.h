// One block of emulated threads: who runs, who waits for whom, shared memory, copies under way.
//
// Threads are fibers of one OS thread. They take turns at every collective, in a chosen order: a result that depends on
// the order shows. A wrong use ends the launch with an error that names kernel, block and thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fiber.h"

namespace pcbench::emulator {

// Which of the threads that can go on goes on.
enum class Order : int { forward, reverse, seeded };

void set_order(Order order, uint64_t seed);

struct Launch {
  std::string kernel;
  int64_t blocks;
  int threads;
  int shared_bytes;
  int warp_width;
  bool early;
};

// Runs `thread` for every thread of every block. Throws std::runtime_error on the first wrong use.
// "pcbench::device::merge_parts" of the address of a kernel; "a kernel" where the library does not say.
std::string name_of(const void* kernel);

void run(const Launch& launch, const std::function<void()>& thread);

// What a warp does together: once all lanes have brought their operand, act(in, out) has one pointer a lane.
using Act = void (*)(const void* const* in, void* const* out, int lanes);

class Block {
 public:
  Block(const Launch& launch, const std::function<void()>& thread);

  // Of the running thread.
  int thread() const { return current_; }
  int lane() const { return current_ % launch_.warp_width; }
  int64_t index() const { return index_; }
  const Launch& launch() const { return launch_; }

  void run_at(int64_t index);

  void barrier();
  void collective(const char* name, const void* in, void* out, Act act);

  // `bytes` of shared memory at an offset. Not while an asynchronous copy into them is under way.
  char* shared(int64_t offset, int64_t bytes, int64_t alignment);

  // A copy that happens when its thread waits for it; until then its destination is poisoned.
  void async_copy(int64_t offset, const void* from, int64_t bytes, bool valid);
  void async_commit();
  // Waits for all committed groups of this thread but the latest `pending`.
  void async_wait(int pending);

  // Of an early launch: the running thread waits for the kernel in front of it, and must have before it touches global
  // memory.
  void await_previous() { threads_[current_].awaited = true; }
  void check_awaited() {
    if (launch_.early && !threads_[current_].awaited) {
      fail("an early kernel must wait for the one in front of it before it touches global memory");
    }
  }

  // Notes an access of the running thread for the count of bank conflicts.
  void note_shared_access(int64_t offset, int64_t bytes);

  // Ends the launch: "<kernel>: block b, thread t: <what>".
  [[noreturn]] void fail(const std::string& what);
  [[noreturn]] void fail(const std::string& who, const std::string& what);

 private:
  struct Copy {
    int64_t offset;
    const void* from;
    int64_t bytes;
    bool valid;
  };
  enum class State { ready, collective, barrier, done };
  struct Thread {
    Context context = nullptr;
    State state = State::ready;
    const char* waits_for = nullptr;
    const void* in = nullptr;
    void* out = nullptr;
    Act act = nullptr;
    bool awaited = false;
    std::vector<Copy> open;
    std::vector<std::vector<Copy>> groups;
    std::vector<int64_t> accesses;
  };

  static void enter();
  void finish();
  void pause();
  int next();
  [[noreturn]] void stuck();
  std::string listed(State state) const;
  void complete(int first_lane);
  void count_conflicts(int first_lane);
  void set_ready(int thread, bool ready);
  void mark(const Copy& copy, int change);

  const Launch& launch_;
  const std::function<void()>& body_;
  int64_t index_ = 0;
  int current_ = 0;
  int alive_ = 0;
  int at_barrier_ = 0;
  std::vector<int> arrived_;
  std::vector<Thread> threads_;
  std::vector<uint64_t> ready_;
  std::vector<char> shared_;
  // copies under way into each 4 bytes
  std::vector<uint8_t> pending_;
  std::string error_;
  Context host_ = nullptr;
  Stacks stacks_;
};

// The block that runs on this OS thread.
Block& block();

}  // namespace pcbench::emulator
