// Launch of calibrated_attention on the matrix cores, and the shapes it takes.
#include "hip/attention.h"

#include <cmath>

#include "device/launch.h"
#include "gpu/attention.h"

namespace pcbench::device {
namespace {

bool aligned(const void* data, const int64_t (&strides)[4], int64_t elements) {
  bool fits = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (int i = 0; i < 3; ++i) {
    fits = fits && strides[i] >= 0 && strides[i] % elements == 0;
  }
  return fits;
}

// Rows that lie one after the other, near enough for 32-bit offsets within a tile.
bool rows_apart(const Floats& x, int64_t dim) {
  return x.strides[2] >= dim && x.strides[2] < 1 << 20;
}

bool takes(const CalibratedAttention& p) {
  const int64_t group = p.kv_heads ? p.heads / p.kv_heads : 0;
  return (p.dtype == Float::bf16 || p.dtype == Float::f16) && (p.dim == 64 || p.dim == 96 || p.dim == 128) &&
         p.scale > 0.f && std::isfinite(p.scale) && p.rows * group < 1 << 30 && p.keys < 1 << 30 &&
         aligned(p.q.data, p.q.strides, 8) && aligned(p.k.data, p.k.strides, 8) && aligned(p.v.data, p.v.strides, 8) &&
         rows_apart(p.k, p.dim) && rows_apart(p.v, p.dim) &&
         (!p.out_in.data || aligned(p.out_in.data, p.out_in.strides, 4));
}

template <class T, int D>
void start(const CalibratedAttention& p, Stream stream) {
  const int64_t rows = p.rows * (p.heads / p.kv_heads);
  launch(&calibrated_attention_mfma<T, D>, p.batch * p.kv_heads * ceil_div(rows, attention_rows), attention_threads,
         attention_shared_bytes(D), stream, p);
}

template <class T>
void start(const CalibratedAttention& p, Stream stream) {
  p.dim == 64 ? start<T, 64>(p, stream) : p.dim == 96 ? start<T, 96>(p, stream) : start<T, 128>(p, stream);
}

}  // namespace

int64_t calibrated_attention_scratch(const CalibratedAttention&) {
  return 0;
}

bool calibrated_attention_fast(const CalibratedAttention& p, void*, Stream stream) {
  if (!takes(p)) {
    return false;
  }
  p.dtype == Float::bf16 ? start<bf16>(p, stream) : start<half>(p, stream);
  return true;
}

}  // namespace pcbench::device
