// The instructions of NVIDIA GPUs that attention is made of (sm_80 and later).
//
// Fragments are NVIDIA's: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "ldmatrix". With
// g = lane / 4 and t = lane % 4: A [16, 16] is rows g, g+8, g, g+8 and columns 2t, 2t, 2t+8, 2t+8 (and the next one),
// B [16, 8] is rows 2t, 2t+8 (and the next one) of column g, C [16, 8] is rows g, g, g+8, g+8 of columns 2t, 2t+1.
#pragma once

#include "platform.h"

namespace pcbench::device {

// What a lane holds of four 8x8 matrices of 16-bit elements, two elements a register.
struct Fragment {
  uint32_t r[4];
};

// Copies 16 bytes to shared memory behind the thread's back; zeros where not valid, and then `from` is not read.
template <class T>
PCBENCH_DEVICE void cp_async16(T* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}

PCBENCH_DEVICE void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for all committed copies of this thread but the latest `pending` groups.
template <int pending>
PCBENCH_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four 8x8 matrices; lane l says where row l % 8 of matrix l / 8 begins.
template <class T>
PCBENCH_DEVICE Fragment ldmatrix_x4(T* row) {
  Fragment x;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.r[0]), "=r"(x.r[1]), "=r"(x.r[2]), "=r"(x.r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return x;
}

// The same, each matrix transposed.
template <class T>
PCBENCH_DEVICE Fragment ldmatrix_x4_trans(T* row) {
  Fragment x;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.r[0]), "=r"(x.r[1]), "=r"(x.r[2]), "=r"(x.r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return x;
}

// c += a · b.
template <class T>
PCBENCH_DEVICE void mma_m16n8k16(float (&c)[4], const Fragment& a, uint32_t b0, uint32_t b1);

template <>
PCBENCH_DEVICE void mma_m16n8k16<bf16>(float (&c)[4], const Fragment& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
}

template <>
PCBENCH_DEVICE void mma_m16n8k16<half>(float (&c)[4], const Fragment& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
}

// x, but what follows from it is computed again where it is used instead of being kept in registers.
PCBENCH_DEVICE int afresh(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// Two numbers in one register, the first in the low half; rounds to nearest even.
template <class T>
PCBENCH_DEVICE uint32_t narrow_pair(float low, float high);

template <>
PCBENCH_DEVICE uint32_t narrow_pair<bf16>(float low, float high) {
  uint32_t x;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  return x;
}

template <>
PCBENCH_DEVICE uint32_t narrow_pair<half>(float low, float high) {
  uint32_t x;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  return x;
}

}  // namespace pcbench::device
