// Launch of calibrated_attention on the matrix cores, and the shapes it takes.
#include "hip/attention.h"

#include "device/launch.h"
#include "gpu/attention.h"
#include "hip/attention_limits.h"

namespace pcbench::device {
namespace {

const char* refusal_of(const CalibratedAttention& p) {
  const bool many = p.rows * (p.heads / p.kv_heads) >= 1 << 30 || p.keys >= 1 << 30;
  return first_of(refusal_of_inputs(p.dtype, p.scale), refusal_of_rows(p.q, 3), refusal_of_keys(p.k, 3, p.dim),
                  refusal_of_keys(p.v, 3, p.dim), p.out_in.data ? refusal_of_rows(p.out_in, 3, 4) : nullptr,
                  many ? "2^30 rows or keys or more" : nullptr);
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

const char* calibrated_attention_fast(const CalibratedAttention& p, void*, Stream stream) {
  if (p.batch * p.heads * p.rows == 0) {
    return nullptr;
  }
  if (const char* refusal = refusal_of(p)) {
    return refusal;
  }
  p.dtype == Float::bf16 ? start<bf16>(p, stream) : start<half>(p, stream);
  return nullptr;
}

int64_t dual_chunk_attention_scratch(const DualChunkAttention&) {
  return 0;
}

const char* dual_chunk_attention_fast(const DualChunkAttention& p, void*, Stream) {
  return p.keys.batch * p.heads * p.rows == 0 ? nullptr : "no kernel of matrix cores for this op";
}

}  // namespace pcbench::device
