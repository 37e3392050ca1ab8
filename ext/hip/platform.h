// The device platform of HIP on gfx9: the names that kernels of ext/device and ext/hip are written on.
#pragma once

#include <hip/hip_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// A kernel: `PCBENCH_KERNEL(128, 2) void name(PCBENCH_PARAM Params p)`. A compute unit has four SIMDs of 64 lanes.
#define PCBENCH_KERNEL(max_threads, min_blocks)                                          \
  __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, (max_threads)))) \
  __attribute__((amdgpu_waves_per_eu(((max_threads) * (min_blocks) + 255) / 256)))
#define PCBENCH_PARAM const
#define PCBENCH_DEVICE __attribute__((device)) inline __attribute__((always_inline))
#define PCBENCH_HOST_DEVICE __attribute__((host)) __attribute__((device)) inline __attribute__((always_inline))

namespace pcbench::device {

// cudaStream_t or hipStream_t, so that the glue needs no vendor header.
using Stream = void*;

constexpr int warp_width = 64;

PCBENCH_DEVICE int thread_index() {
  return static_cast<int>(__builtin_amdgcn_workitem_id_x());
}
PCBENCH_DEVICE int block_threads() {
  return static_cast<int>(blockDim.x);
}
PCBENCH_DEVICE int block_index() {
  return static_cast<int>(__builtin_amdgcn_workgroup_id_x());
}
PCBENCH_DEVICE int lane() {
  return thread_index() % warp_width;
}
PCBENCH_DEVICE int warp() {
  return thread_index() / warp_width;
}

PCBENCH_DEVICE void barrier() {
  __syncthreads();
}
// Lanes of a wave run in step; this keeps the compiler from moving memory accesses across.
PCBENCH_DEVICE void warp_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}

// Warp collectives: every lane calls them. T has 32 bits.
template <class T>
PCBENCH_DEVICE T shuffle(T x, int from) {
  return __builtin_bit_cast(T, __builtin_amdgcn_ds_bpermute(from * 4, __builtin_bit_cast(int, x)));
}
template <class T>
PCBENCH_DEVICE T shuffle_xor(T x, int mask) {
  return shuffle(x, lane() ^ mask);
}
// The value of the lane `by` below; lanes under `by` keep their own.
template <class T>
PCBENCH_DEVICE T shuffle_up(T x, int by) {
  return shuffle(x, lane() < by ? lane() : lane() - by);
}
PCBENCH_DEVICE uint64_t ballot(bool claim) {
  return __ballot(claim);
}
PCBENCH_DEVICE bool any(bool claim) {
  return ballot(claim) != 0;
}

// A value that is the same on all lanes.
PCBENCH_DEVICE int uniform(int x) {
  return __builtin_amdgcn_readfirstlane(x);
}

// Dynamic shared memory from a byte offset on: index it, add to it, nothing else.
template <class T>
using Shared = T*;

template <class T>
PCBENCH_DEVICE Shared<T> shared(int byte_offset) {
  extern __attribute__((shared)) __attribute__((aligned(128))) unsigned char pcbench_shared_memory[];
  return reinterpret_cast<T*>(pcbench_shared_memory + byte_offset);
}

struct alignas(16) Pack16 {
  uint32_t words[4];
};

template <class T>
PCBENCH_DEVICE T load(const T* from) {
  return *from;
}
template <class T>
PCBENCH_DEVICE void store(T* to, T x) {
  *to = x;
}
// 16 bytes at once, of global or shared memory.
PCBENCH_DEVICE Pack16 load16(const void* from) {
  return *static_cast<const Pack16*>(from);
}
PCBENCH_DEVICE void store16(void* to, Pack16 x) {
  *static_cast<Pack16*>(to) = x;
}
PCBENCH_DEVICE int atomic_add(int32_t* to, int32_t x) {
  return atomicAdd(to, x);
}

PCBENCH_DEVICE int count_bits(uint64_t x) {
  return __builtin_popcountll(x);
}
PCBENCH_DEVICE uint32_t bits_of(float x) {
  return __builtin_bit_cast(uint32_t, x);
}
PCBENCH_DEVICE float float_of_bits(uint32_t x) {
  return __builtin_bit_cast(float, x);
}

PCBENCH_DEVICE float exp2(float x) {
  return __builtin_amdgcn_exp2f(x);
}
PCBENCH_DEVICE float log2(float x) {
  return __builtin_amdgcn_logf(x);
}

struct bf16 {
  uint16_t bits;
};
struct half {
  uint16_t bits;
};

PCBENCH_DEVICE float widen(float x) {
  return x;
}
PCBENCH_DEVICE float widen(bf16 x) {
  return float_of_bits(static_cast<uint32_t>(x.bits) << 16);
}
PCBENCH_DEVICE float widen(half x) {
  return static_cast<float>(__builtin_bit_cast(_Float16, x.bits));
}

// Rounds to nearest even.
template <class T>
PCBENCH_DEVICE T narrow(float x);
template <>
PCBENCH_DEVICE float narrow<float>(float x) {
  return x;
}
template <>
PCBENCH_DEVICE bf16 narrow<bf16>(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return {static_cast<uint16_t>(x != x ? bits >> 16 | 0x40u : rounded)};
}
template <>
PCBENCH_DEVICE half narrow<half>(float x) {
  return {__builtin_bit_cast(uint16_t, static_cast<_Float16>(x))};
}

inline void check_hip(hipError_t status, const char* what) {
  if (status != hipSuccess) {
    throw std::runtime_error(std::string(what) + ": HIP says " + hipGetErrorString(status));
  }
}

// Compute units of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  check_hip(hipGetDevice(&device), "current device");
  check_hip(hipDeviceGetAttribute(&count, hipDeviceAttributeMultiprocessorCount, device), "compute units");
  return count;
}

// Blocks of one launch, whose threads are counted in 32 bits.
inline int64_t most_blocks(int threads) {
  return 0xffffffff / threads;
}

// Nothing starts early.
template <class Params>
void launch_blocks(void (*kernel)(Params), unsigned blocks, int threads, int shared_bytes, Stream stream,
                   const Params& params, bool) {
  void* arguments[] = {const_cast<Params*>(&params)};
  check_hip(hipLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(blocks), dim3(static_cast<unsigned>(threads)),
                            arguments, static_cast<size_t>(shared_bytes), static_cast<hipStream_t>(stream)),
            "launch of a kernel");
}

}  // namespace pcbench::device
