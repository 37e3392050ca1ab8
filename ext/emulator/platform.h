// The device platform of the emulator: the names that kernels are written on, run on host fibers and checked.
//
// PCBENCH_EMULATED_WARP is 32 or 64: the width of a warp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "collective.h"
#include "counters.h"
#include "memory.h"

#define PCBENCH_KERNEL(max_threads, min_blocks)
#define PCBENCH_PARAM const
#define PCBENCH_DEVICE inline
#define PCBENCH_HOST_DEVICE inline

namespace pcbench::device {

using Stream = void*;

constexpr int warp_width = PCBENCH_EMULATED_WARP;

inline int thread_index() {
  return emulator::block().thread();
}
inline int block_threads() {
  return emulator::block().launch().threads;
}
inline int block_index() {
  return static_cast<int>(emulator::block().index());
}
inline int lane() {
  return thread_index() % warp_width;
}
inline int warp() {
  return thread_index() / warp_width;
}

// A kernel whose launch is early calls await_previous() before it touches global memory, the one in front of it
// release_next() when it may start; here they run one after another.
inline void await_previous() {
  emulator::block().await_previous();
}
inline void release_next() {}

struct Nothing {};

inline void barrier() {
  emulator::block().barrier();
}
inline void warp_barrier() {
  emulator::collective<Nothing>("warp_barrier", Nothing{}, [](auto, auto, int) {});
}

template <class T>
struct FromLane {
  T value;
  int lane;
};

// Warp collectives: every lane calls them. T has 32 bits.
template <class T>
T shuffle(T x, int from) {
  static_assert(sizeof(T) == 4);
  return emulator::collective<T>("shuffle", FromLane<T>{x, from}, [](auto in, auto out, int lanes) {
    for (int i = 0; i < lanes; ++i) {
      out(i) = in((in(i).lane % lanes + lanes) % lanes).value;
    }
  });
}
template <class T>
T shuffle_xor(T x, int mask) {
  static_assert(sizeof(T) == 4);
  return emulator::collective<T>("shuffle_xor", FromLane<T>{x, lane() ^ mask}, [](auto in, auto out, int lanes) {
    for (int i = 0; i < lanes; ++i) {
      out(i) = in(in(i).lane % lanes).value;
    }
  });
}
// The value of the lane `by` below; lanes under `by` keep their own.
template <class T>
T shuffle_up(T x, int by) {
  static_assert(sizeof(T) == 4);
  const int from = lane() < by ? lane() : lane() - by;
  return emulator::collective<T>("shuffle_up", FromLane<T>{x, from}, [](auto in, auto out, int lanes) {
    for (int i = 0; i < lanes; ++i) {
      out(i) = in(in(i).lane).value;
    }
  });
}
inline uint64_t ballot(bool claim) {
  return emulator::collective<uint64_t>("ballot", claim, [](auto in, auto out, int lanes) {
    uint64_t votes = 0;
    for (int i = 0; i < lanes; ++i) {
      votes |= static_cast<uint64_t>(in(i)) << i;
    }
    for (int i = 0; i < lanes; ++i) {
      out(i) = votes;
    }
  });
}
inline bool any(bool claim) {
  return ballot(claim) != 0;
}

// A value that is the same on all lanes.
inline int uniform(int x) {
  return emulator::collective<int>("uniform", x, [](auto in, auto out, int lanes) {
    for (int i = 0; i < lanes; ++i) {
      if (in(i) != in(0)) {
        emulator::block().fail("a uniform value must be the same on all lanes, got " + std::to_string(in(0)) + " and " +
                               std::to_string(in(i)));
      }
      out(i) = in(0);
    }
  });
}

struct alignas(16) Pack16 {
  uint32_t words[4];
};

// Dynamic shared memory from a byte offset on: index it, add to it, nothing else.
template <class T>
class Shared {
 public:
  explicit Shared(int64_t offset) : offset_(offset) {}

  T& operator[](int64_t i) const {
    const int64_t at = offset_ + i * static_cast<int64_t>(sizeof(T));
    return *reinterpret_cast<T*>(emulator::block().shared(at, sizeof(T), alignof(T)));
  }
  Shared operator+(int64_t n) const { return Shared(offset_ + n * static_cast<int64_t>(sizeof(T))); }
  Shared& operator+=(int64_t n) { return *this = *this + n; }

  // For ptx.h and gcn.h.
  int64_t offset() const { return offset_; }

 private:
  int64_t offset_;
};

template <class T>
Shared<T> shared(int byte_offset) {
  return Shared<T>(byte_offset);
}

inline void check_global(const char* reason, const void* at, int64_t bytes) {
  emulator::block().check_awaited();
  if (reason) {
    emulator::block().fail(reason);
  }
  if (reinterpret_cast<uintptr_t>(at) % bytes) {
    emulator::block().fail("global memory must be aligned to the " + std::to_string(bytes) +
                           " bytes that are accessed");
  }
}

template <class T>
T load(const T* from) {
  check_global(emulator::memory().why_not_read(from, sizeof(T)), from, sizeof(T));
  return *from;
}
template <class T>
void store(T* to, T x) {
  check_global(emulator::memory().why_not_write(to, sizeof(T)), to, sizeof(T));
  *to = x;
}

// 16 bytes at once, of global or shared memory.
inline Pack16 load16(const void* from) {
  check_global(emulator::memory().why_not_read(from, 16), from, 16);
  Pack16 x;
  std::memcpy(&x, from, 16);
  return x;
}
inline void store16(void* to, Pack16 x) {
  check_global(emulator::memory().why_not_write(to, 16), to, 16);
  std::memcpy(to, &x, 16);
}
template <class T>
Pack16 load16(Shared<T> from) {
  emulator::block().note_shared_access(from.offset(), 16);
  Pack16 x;
  std::memcpy(&x, emulator::block().shared(from.offset(), 16, 16), 16);
  return x;
}
template <class T>
void store16(Shared<T> to, Pack16 x) {
  emulator::block().note_shared_access(to.offset(), 16);
  std::memcpy(emulator::block().shared(to.offset(), 16, 16), &x, 16);
}

inline int32_t atomic_add(Shared<int32_t> to, int32_t x) {
  const int32_t before = to[0];
  to[0] = before + x;
  return before;
}

inline int count_bits(uint64_t x) {
  return __builtin_popcountll(x);
}
inline uint32_t bits_of(float x) {
  return __builtin_bit_cast(uint32_t, x);
}
inline float float_of_bits(uint32_t x) {
  return __builtin_bit_cast(float, x);
}

inline float exp2(float x) {
  return std::exp2(x);
}
inline float log2(float x) {
  return std::log2(x);
}

struct bf16 {
  uint16_t bits;
};
struct half {
  uint16_t bits;
};

inline float widen(float x) {
  return x;
}
inline float widen(bf16 x) {
  return float_of_bits(static_cast<uint32_t>(x.bits) << 16);
}
inline float widen(half x) {
  return static_cast<float>(__builtin_bit_cast(_Float16, x.bits));
}

// Rounds to nearest even.
template <class T>
T narrow(float x);
template <>
inline float narrow<float>(float x) {
  return x;
}
template <>
inline bf16 narrow<bf16>(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return {static_cast<uint16_t>(x != x ? bits >> 16 | 0x40u : rounded)};
}
template <>
inline half narrow<half>(float x) {
  return {__builtin_bit_cast(uint16_t, static_cast<_Float16>(x))};
}

// Few, so that small shapes are still split.
inline int multiprocessors() {
  return 4;
}

// As the platforms with warps of this width have it.
inline int64_t most_blocks(int threads) {
  return warp_width == 32 ? 0x7fffffff : 0xffffffff / threads;
}

template <class Params>
void launch_blocks(void (*kernel)(Params), unsigned blocks, int threads, int shared_bytes, Stream, const Params& params,
                   bool early) {
  const std::string name = emulator::name_of(reinterpret_cast<const void*>(kernel));
  emulator::run({name, blocks, threads, shared_bytes, warp_width, early}, [&] { kernel(params); });
}

}  // namespace pcbench::device
