// The gfx9 instructions that attention kernels use. ext/emulator/gcn.h has the same names.
#pragma once

#include "platform.h"

#define PCBENCH_UNROLL _Pragma("unroll")

namespace pcbench::device {

// Dies with an L2 cache each, as on MI300X; consecutive blocks go to consecutive dies.
#ifdef __gfx942__
constexpr int dies = 8;
#else
constexpr int dies = 1;
#endif

// Four 16-bit floats of a lane.
struct alignas(8) Operand {
  uint32_t words[2];
};

// A lane's share of a 32 × 32 matrix: register r of lane l is row 8·(r/4) + 4·(l/32) + r%4, column l%32.
using Tile = float __attribute__((ext_vector_type(16)));

// Adds a · b: lane l has a[l%32][4·(l/32) + i] and b[4·(l/32) + i][l%32], i < 4.
template <class T>
PCBENCH_DEVICE void multiply_32x32x8(Tile& sum, Operand a, Operand b);
template <>
PCBENCH_DEVICE void multiply_32x32x8<bf16>(Tile& sum, Operand a, Operand b) {
  using Four = short __attribute__((ext_vector_type(4)));
  sum =
      __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(__builtin_bit_cast(Four, a), __builtin_bit_cast(Four, b), sum, 0, 0, 0);
}
template <>
PCBENCH_DEVICE void multiply_32x32x8<half>(Tile& sum, Operand a, Operand b) {
  using Four = _Float16 __attribute__((ext_vector_type(4)));
  sum = __builtin_amdgcn_mfma_f32_32x32x8f16(__builtin_bit_cast(Four, a), __builtin_bit_cast(Four, b), sum, 0, 0, 0);
}

// Two numbers that one instruction works on.
using Pair = float __attribute__((ext_vector_type(2)));

PCBENCH_DEVICE Pair multiply_add(Pair x, float factor, float more) {
  return __builtin_elementwise_fma(x, Pair{factor, factor}, Pair{more, more});
}

// Two weights as 16-bit floats, the first in the low half. To nearest; bf16 ties go up.
template <class T>
PCBENCH_DEVICE uint32_t pack_weights(float low, float high);
template <>
PCBENCH_DEVICE uint32_t pack_weights<bf16>(float low, float high) {
  return __builtin_amdgcn_perm(bits_of(high) + 0x8000u, bits_of(low) + 0x8000u, 0x07060302u);
}
template <>
PCBENCH_DEVICE uint32_t pack_weights<half>(float low, float high) {
  return narrow<half>(low).bits | static_cast<uint32_t>(narrow<half>(high).bits) << 16;
}

// The low halves of two words as one word, and the high halves.
PCBENCH_DEVICE uint32_t low_halves(uint32_t first, uint32_t second) {
  return __builtin_amdgcn_perm(second, first, 0x05040100u);
}
PCBENCH_DEVICE uint32_t high_halves(uint32_t first, uint32_t second) {
  return __builtin_amdgcn_perm(second, first, 0x07060302u);
}

// Global memory from an address on; whatever lies beyond `bytes` reads as zeros. Both are the same on all lanes.
struct Buffer {
  __amdgpu_buffer_rsrc_t resource;
};

PCBENCH_DEVICE Buffer buffer(const void* from, int bytes) {
  constexpr int raw_words = 0x00027000;
  return {__builtin_amdgcn_make_buffer_rsrc(const_cast<void*>(from), 0, bytes, raw_words)};
}
PCBENCH_DEVICE uint32_t load4(Buffer from, int offset) {
  return __builtin_amdgcn_raw_buffer_load_b32(from.resource, offset, 0, 0);
}
PCBENCH_DEVICE Pack16 load16(Buffer from, int offset) {
  return __builtin_bit_cast(Pack16, __builtin_amdgcn_raw_buffer_load_b128(from.resource, offset, 0, 0));
}

// Which wave of a SIMD issues first: 0 to 3.
template <int level>
PCBENCH_DEVICE void priority() {
  __builtin_amdgcn_s_setprio(level);
}

// The value of the lane 32 further or before.
PCBENCH_DEVICE float other_half(float x) {
  return shuffle_xor(x, 32);
}

// The order of what surrounds the call: so many reads of shared memory, then so many multiplications.
template <int reads, int multiplications>
PCBENCH_DEVICE void schedule() {
  __builtin_amdgcn_sched_group_barrier(0x100, reads, 0);
  __builtin_amdgcn_sched_group_barrier(0x008, multiplications, 0);
}

// The compiler moves no instruction across.
PCBENCH_DEVICE void keep_order() {
  __builtin_amdgcn_sched_barrier(0);
}

// What follows reads memory only after the instructions that make x.
PCBENCH_DEVICE void made_first(Tile& x) {
  asm volatile("" : "+v"(x)::"memory");
}

// A barrier that instructions are not moved across; loads from global memory stay under way.
PCBENCH_DEVICE void phase_barrier() {
  keep_order();
  barrier();
  keep_order();
}

}  // namespace pcbench::device
