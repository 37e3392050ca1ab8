// The device platform of CUDA: the names that kernels of ext/device and ext/cuda are written on.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// A kernel: `PCBENCH_KERNEL(128, 2) void name(PCBENCH_PARAM Params p)`.
#define PCBENCH_KERNEL(max_threads, min_blocks) __global__ __launch_bounds__(max_threads, min_blocks)
// A parameter that every thread reads where the launch left it.
#define PCBENCH_PARAM const __grid_constant__
#define PCBENCH_DEVICE __device__ __forceinline__
#define PCBENCH_HOST_DEVICE __host__ __device__ __forceinline__

namespace pcbench::device {

// cudaStream_t or hipStream_t, so that the glue needs no vendor header.
using Stream = void*;

constexpr int warp_width = 32;

PCBENCH_DEVICE int thread_index() {
  return static_cast<int>(threadIdx.x);
}
PCBENCH_DEVICE int block_threads() {
  return static_cast<int>(blockDim.x);
}
PCBENCH_DEVICE int block_index() {
  return static_cast<int>(blockIdx.x);
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
PCBENCH_DEVICE void warp_barrier() {
  __syncwarp();
}

// A kernel whose launch is early calls await_previous() before it touches global memory: all that ran in front of it
// has ended then, and what it wrote is seen. The one in front of it calls release_next() when it may start. Only code
// that is compiled for sm_90 or later has these instructions; launch_blocks() asks which code runs.
PCBENCH_DEVICE void await_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
PCBENCH_DEVICE void release_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Warp collectives: every lane calls them. T has 32 bits.
template <class T>
PCBENCH_DEVICE T shuffle(T x, int from) {
  return __shfl_sync(0xffffffffu, x, from);
}
template <class T>
PCBENCH_DEVICE T shuffle_xor(T x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}
// The value of the lane `by` below; lanes under `by` keep their own.
template <class T>
PCBENCH_DEVICE T shuffle_up(T x, int by) {
  return __shfl_up_sync(0xffffffffu, x, static_cast<unsigned>(by));
}
PCBENCH_DEVICE uint64_t ballot(bool claim) {
  return __ballot_sync(0xffffffffu, claim);
}
PCBENCH_DEVICE bool any(bool claim) {
  return __any_sync(0xffffffffu, claim);
}

// A value that is the same on all lanes.
PCBENCH_DEVICE int uniform(int x) {
  return x;
}

// Dynamic shared memory from a byte offset on: index it, add to it, nothing else.
template <class T>
using Shared = T*;

template <class T>
PCBENCH_DEVICE Shared<T> shared(int byte_offset) {
  extern __shared__ __align__(128) unsigned char pcbench_shared_memory[];
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
  const uint4 x = *static_cast<const uint4*>(from);
  return {{x.x, x.y, x.z, x.w}};
}
PCBENCH_DEVICE void store16(void* to, Pack16 x) {
  *static_cast<uint4*>(to) = make_uint4(x.words[0], x.words[1], x.words[2], x.words[3]);
}
PCBENCH_DEVICE int atomic_add(int32_t* to, int32_t x) {
  return atomicAdd(to, x);
}

PCBENCH_DEVICE int count_bits(uint64_t x) {
  return __popcll(x);
}
PCBENCH_DEVICE uint32_t bits_of(float x) {
  return __float_as_uint(x);
}
PCBENCH_DEVICE float float_of_bits(uint32_t x) {
  return __uint_as_float(x);
}

PCBENCH_DEVICE float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
PCBENCH_DEVICE float log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
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
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
PCBENCH_DEVICE float widen(half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
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
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
template <>
PCBENCH_DEVICE half narrow<half>(float x) {
  half y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": CUDA says " + cudaGetErrorString(status));
  }
}

// Multiprocessors of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
  return count;
}

// Blocks of one launch.
inline int64_t most_blocks(int) {
  return 0x7fffffff;
}

// Whether what runs of a kernel on the current device is code with await_previous(): PTX is what it was compiled from,
// whatever GPU it was compiled for. Graphs of CUDA before 12.3 take no early launch.
inline bool starts_early(const void* kernel) {
  static const int version = [] {
    int driver = 0;
    check_cuda(cudaDriverGetVersion(&driver), "version of the driver");
    return driver < CUDART_VERSION ? driver : CUDART_VERSION;
  }();
  cudaFuncAttributes code{};
  check_cuda(cudaFuncGetAttributes(&code, kernel), "code of a kernel");
  return version >= 12030 && code.ptxVersion >= 90;
}

// Blocks of more than 48 KB of shared memory ask for it first: for all that there is, so that no launch takes back what
// another thread's asked for.
template <class Params>
void launch_blocks(void (*kernel)(Params), unsigned blocks, int threads, int shared_bytes, Stream stream,
                   const Params& params, bool early) {
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 * 1024) {
    int device = 0, most = 0;
    check_cuda(cudaGetDevice(&device), "current device");
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "shared memory");
    check_cuda(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
               "shared memory of a kernel");
  }
  void* arguments[] = {const_cast<Params*>(&params)};
  cudaLaunchAttribute programmatic{};
  programmatic.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  programmatic.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &programmatic;
  config.numAttrs = early && starts_early(function) ? 1 : 0;
  check_cuda(cudaLaunchKernelExC(&config, function, arguments), "launch of a kernel");
}

}  // namespace pcbench::device
