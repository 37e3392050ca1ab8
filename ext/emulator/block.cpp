#include "block.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "counters.h"
#include "memory.h"

namespace pcbench::emulator {
namespace {

// a NaN in float32, bfloat16 and float16, and no index
constexpr int poison = 0xff;
constexpr int word_bytes = 4;

thread_local Block* running = nullptr;

struct Turns {
  Order order = Order::forward;
  uint64_t state = 1;

  uint64_t draw() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
};

Turns turns;

}  // namespace

void set_order(Order order, uint64_t seed) {
  turns = {order, seed ? seed : 1};
}

Block& block() {
  return *running;
}

Block::Block(const Launch& launch, const std::function<void()>& thread)
    : launch_(launch),
      body_(thread),
      arrived_((launch.threads + launch.warp_width - 1) / launch.warp_width),
      threads_(launch.threads),
      ready_((launch.threads + 63) / 64),
      shared_(launch.shared_bytes),
      pending_((launch.shared_bytes + word_bytes - 1) / word_bytes) {
  stacks_.reserve(launch.threads);
}

void Block::run_at(int64_t index) {
  index_ = index;
  alive_ = launch_.threads;
  at_barrier_ = 0;
  std::fill(arrived_.begin(), arrived_.end(), 0);
  std::fill(shared_.begin(), shared_.end(), static_cast<char>(poison));
  std::fill(pending_.begin(), pending_.end(), 0);
  for (int i = 0; i < launch_.threads; ++i) {
    threads_[i] = {};
    threads_[i].context = stacks_.start(i, &Block::enter);
    set_ready(i, true);
  }
  running = this;
  current_ = next();
  switch_fibers(host_, threads_[current_].context);
  running = nullptr;
  if (!error_.empty()) {
    throw std::runtime_error(error_);
  }
}

void Block::enter() {
  running->body_();
  running->finish();
}

void Block::finish() {
  Thread& me = threads_[current_];
  me.state = State::done;
  set_ready(current_, false);
  --alive_;
  if (alive_ == 0) {
    switch_fibers(me.context, host_);
  }
  pause();
}

void Block::pause() {
  const int from = current_, to = next();
  if (to < 0) {
    stuck();
  }
  if (to != from) {
    current_ = to;
    switch_fibers(threads_[from].context, threads_[to].context);
  }
}

int Block::next() {
  const int words = static_cast<int>(ready_.size());
  if (turns.order == Order::reverse) {
    for (int i = words - 1; i >= 0; --i) {
      if (ready_[i]) {
        return i * 64 + 63 - __builtin_clzll(ready_[i]);
      }
    }
    return -1;
  }
  const int start = turns.order == Order::seeded ? static_cast<int>(turns.draw() % launch_.threads) : 0;
  for (int i = 0; i <= words; ++i) {
    const int word = (start / 64 + i) % words;
    uint64_t some = ready_[word];
    // the first word comes twice: from the start on, and up to it
    some &= i == 0 ? ~uint64_t{0} << start % 64 : ~uint64_t{0};
    if (some) {
      return word * 64 + __builtin_ctzll(some);
    }
  }
  return -1;
}

void Block::set_ready(int thread, bool ready) {
  const uint64_t bit = uint64_t{1} << thread % 64;
  ready_[thread / 64] = ready ? ready_[thread / 64] | bit : ready_[thread / 64] & ~bit;
}

void Block::barrier() {
  Thread& me = threads_[current_];
  me.state = State::barrier;
  set_ready(current_, false);
  if (++at_barrier_ == launch_.threads) {
    at_barrier_ = 0;
    for (int i = 0; i < launch_.threads; ++i) {
      if (i % launch_.warp_width == 0) {
        count_conflicts(i);
      }
      threads_[i].state = State::ready;
      set_ready(i, true);
    }
  }
  pause();
}

void Block::collective(const char* name, const void* in, void* out, Act act) {
  Thread& me = threads_[current_];
  me.state = State::collective;
  me.waits_for = name;
  me.in = in;
  me.out = out;
  me.act = act;
  set_ready(current_, false);
  const int warp = current_ / launch_.warp_width;
  if (++arrived_[warp] == launch_.warp_width) {
    arrived_[warp] = 0;
    complete(warp * launch_.warp_width);
  }
  pause();
}

void Block::complete(int first_lane) {
  constexpr int most = 64;
  const void* in[most];
  void* out[most];
  for (int i = 0; i < launch_.warp_width; ++i) {
    Thread& lane = threads_[first_lane + i];
    if (lane.act != threads_[first_lane].act) {
      fail("lanes of a warp must do the same, got " + std::string(threads_[first_lane].waits_for) + " on lane 0 and " +
           lane.waits_for + " on lane " + std::to_string(i));
    }
    in[i] = lane.in;
    out[i] = lane.out;
    lane.state = State::ready;
    set_ready(first_lane + i, true);
  }
  count_conflicts(first_lane);
  threads_[first_lane].act(in, out, launch_.warp_width);
}

char* Block::shared(int64_t offset, int64_t bytes, int64_t alignment) {
  if (offset < 0 || offset + bytes > launch_.shared_bytes) {
    fail("touches shared memory out of bounds: " + std::to_string(bytes) + " bytes at " + std::to_string(offset) +
         " of " + std::to_string(launch_.shared_bytes));
  }
  if (offset % alignment) {
    fail("shared memory at " + std::to_string(offset) + " must be aligned to " + std::to_string(alignment) + " bytes");
  }
  for (int64_t i = offset / word_bytes; i * word_bytes < offset + bytes; ++i) {
    if (pending_[i]) {
      fail("touches shared memory at " + std::to_string(offset) + " before the wait for the copy into it");
    }
  }
  return shared_.data() + offset;
}

void Block::mark(const Copy& copy, int change) {
  for (int64_t i = copy.offset / word_bytes; i * word_bytes < copy.offset + copy.bytes; ++i) {
    pending_[i] = static_cast<uint8_t>(pending_[i] + change);
  }
}

void Block::async_copy(int64_t offset, const void* from, int64_t bytes, bool valid) {
  if (bytes != 4 && bytes != 8 && bytes != 16) {
    fail("an asynchronous copy must be of 4, 8 or 16 bytes, got " + std::to_string(bytes));
  }
  check_awaited();
  if (const char* reason = valid ? memory().why_not_read(from, bytes) : nullptr) {
    fail(reason);
  }
  if (reinterpret_cast<uintptr_t>(from) % bytes) {
    fail("the source of an asynchronous copy must be aligned to its " + std::to_string(bytes) + " bytes");
  }
  std::memset(shared(offset, bytes, bytes), poison, bytes);
  note_shared_access(offset, bytes);
  Copy copy{offset, from, bytes, valid};
  mark(copy, 1);
  threads_[current_].open.push_back(copy);
}

void Block::async_commit() {
  Thread& me = threads_[current_];
  me.groups.push_back(std::move(me.open));
  me.open.clear();
}

void Block::async_wait(int pending) {
  Thread& me = threads_[current_];
  while (static_cast<int>(me.groups.size()) > pending) {
    for (const Copy& copy : me.groups.front()) {
      mark(copy, -1);
      char* to = shared_.data() + copy.offset;
      copy.valid ? std::memcpy(to, copy.from, copy.bytes) : std::memset(to, 0, copy.bytes);
    }
    me.groups.erase(me.groups.begin());
  }
}

void Block::note_shared_access(int64_t offset, int64_t bytes) {
  if (bytes == 16) {
    threads_[current_].accesses.push_back(offset);
  }
}

// The n-th accesses of the lanes since they last met happen together.
void Block::count_conflicts(int first_lane) {
  constexpr int most = 64;
  std::size_t longest = 0;
  for (int i = 0; i < launch_.warp_width; ++i) {
    longest = std::max(longest, threads_[first_lane + i].accesses.size());
  }
  for (std::size_t n = 0; n < longest; ++n) {
    int64_t offsets[most];
    for (int i = 0; i < launch_.warp_width; ++i) {
      const auto& own = threads_[first_lane + i].accesses;
      offsets[i] = n < own.size() ? own[n] : -1;
    }
    count_bank_conflicts(offsets, launch_.warp_width);
  }
  for (int i = 0; i < launch_.warp_width; ++i) {
    threads_[first_lane + i].accesses.clear();
  }
}

void Block::stuck() {
  std::string what;
  if (at_barrier_) {
    what = "the barrier must be reached by every thread, got " + std::to_string(at_barrier_) + " of " +
           std::to_string(launch_.threads) + " (" + listed(State::barrier) + ")";
  }
  for (int i = 0; i < launch_.threads; ++i) {
    if (threads_[i].state == State::collective) {
      const int warp = i / launch_.warp_width;
      what += std::string(what.empty() ? "" : "; ") + threads_[i].waits_for +
              " must be reached by every lane of warp " + std::to_string(warp) + ", got " +
              std::to_string(arrived_[warp]) + " of " + std::to_string(launch_.warp_width);
      break;
    }
  }
  const std::string done = listed(State::done);
  fail("threads " + listed(at_barrier_ ? State::barrier : State::collective),
       what + (done.empty() ? "" : "; threads " + done + " have ended"));
}

// "0-31, 64" for the threads in a state.
std::string Block::listed(State state) const {
  std::string found;
  for (int i = 0; i < launch_.threads; ++i) {
    if (threads_[i].state != state || (i && threads_[i - 1].state == state)) {
      continue;
    }
    int end = i;
    while (end + 1 < launch_.threads && threads_[end + 1].state == state) {
      ++end;
    }
    found += (found.empty() ? "" : ", ") + std::to_string(i) + (end > i ? "-" + std::to_string(end) : "");
  }
  return found;
}

void Block::fail(const std::string& what) {
  fail("thread " + std::to_string(current_), what);
}

void Block::fail(const std::string& who, const std::string& what) {
  error_ = launch_.kernel + ": block " + std::to_string(index_) + ", " + who + ": " + what;
  Context abandoned;
  switch_fibers(abandoned, host_);
  __builtin_unreachable();
}

std::string name_of(const void* kernel) {
  Dl_info info;
  if (!dladdr(kernel, &info) || !info.dli_sname) {
    return "a kernel";
  }
  int status = 0;
  char* found = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string name = status == 0 ? found : info.dli_sname;
  std::free(found);
  name = name.substr(0, name.find('('));
  // a template's name starts with what it returns
  return name.substr(name.starts_with("void ") ? 5 : 0);
}

void run(const Launch& launch, const std::function<void()>& thread) {
  if (launch.threads < 1 || launch.threads > 1024 || launch.threads % launch.warp_width) {
    throw std::runtime_error(launch.kernel + ": threads must be full warps of " + std::to_string(launch.warp_width) +
                             " up to 1024, got " + std::to_string(launch.threads));
  }
  // of a multiprocessor of sm_80, of a compute unit of gfx9
  const int most_shared_bytes = (launch.warp_width == 32 ? 163 : 64) * 1024;
  if (launch.shared_bytes > most_shared_bytes) {
    throw std::runtime_error(launch.kernel + ": shared memory must be at most " + std::to_string(most_shared_bytes) +
                             " bytes, got " + std::to_string(launch.shared_bytes));
  }
  Block block(launch, thread);
  counter("blocks") += launch.blocks;
  counter("blocks of " + launch.kernel) += launch.blocks;
  for (int64_t n = 0; n < launch.blocks; ++n) {
    block.run_at(turns.order == Order::reverse ? launch.blocks - 1 - n : n);
  }
}

}  // namespace pcbench::emulator

extern "C" __attribute__((visibility("default"))) void pcbench_emulator_order(int order, uint64_t seed) {
  pcbench::emulator::set_order(static_cast<pcbench::emulator::Order>(order), seed);
}
