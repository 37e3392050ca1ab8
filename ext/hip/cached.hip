// Launch of cached_attention and decode_attention on the matrix cores, and the shapes it takes.
#include "hip/cached.h"

#include "device/launch.h"
#include "gpu/attention.h"
#include "hip/attention_limits.h"

namespace pcbench::device {
namespace {

int64_t packed_rows(const CachedAttention& p) {
  return p.rows * (p.heads / p.keys.kv_heads);
}

bool empty(const CachedAttention& p) {
  return p.keys.batch * p.heads * p.rows == 0;
}

// Of a call that is not empty.
const char* refusal_of(const CachedAttention& p) {
  const KeyRows& keys = p.keys;
  const bool many = packed_rows(p) >= 1 << 30 || larger(keys.stored_rows, keys.value_rows) >= 1 << 30;
  const bool many_scores = packed_rows(p) * p.score_row >= 1 << 30;
  return first_of(refusal_of_inputs(keys.dtype, p.scale), refusal_of_rows(p.q, 3),
                  refusal_of_keys(keys.k_rows, 1, keys.dim), refusal_of_keys(keys.v_rows, 1, keys.dim),
                  many ? "2^30 rows or keys or more" : nullptr,
                  many_scores ? "2^30 scores of a group or more" : nullptr);
}

int64_t waves_of(const CachedAttention& p) {
  return clamped<int64_t>(ceil_div(packed_rows(p), cached_wave_rows), 1, cached_most_waves);
}

// Of `waves` waves each.
int64_t row_blocks(const CachedAttention& p, int64_t waves) {
  return p.keys.batch * p.keys.kv_heads * ceil_div(packed_rows(p), waves * cached_wave_rows);
}

// Four waves for each of the device's multiprocessors; parts of at least 128 keys where every kv-head has its share of
// the store. From shapes alone.
int64_t parts_of(const CachedAttention& p) {
  constexpr int64_t waves = 4, shortest = 128, most = 128;
  const int64_t wanted = ceil_div(waves * multiprocessors(), larger<int64_t>(1, row_blocks(p, 1)));
  const int64_t rows = larger(p.keys.stored_rows, p.keys.value_rows);
  return clamped<int64_t>(ceil_div(rows / p.keys.kv_heads, shortest), 1, smaller(wanted, most));
}

template <class T, int D>
void start(const CachedParts& x, Stream stream) {
  const int64_t waves = waves_of(x.p);
  const auto kernel = x.p.mass ? &decode_attention_mfma<T, D> : &cached_attention_mfma<T, D>;
  launch(kernel, row_blocks(x.p, waves) * x.parts, static_cast<int>(waves) * warp_width, 0, stream, x);
}

template <class T>
void start(const CachedParts& x, Stream stream) {
  const int64_t dim = x.p.keys.dim, rows = x.p.keys.batch * x.p.heads * x.p.rows;
  dim == 64 ? start<T, 64>(x, stream) : dim == 96 ? start<T, 96>(x, stream) : start<T, 128>(x, stream);
  launch(&cached_merge<T>, rows, cached_merge_threads, cached_merge_shared_bytes, stream, x);
}

}  // namespace

int64_t cached_attention_scratch(const CachedAttention& p) {
  return !empty(p) && !refusal_of(p) ? parts_of(p) * p.keys.batch * p.heads * p.rows * (p.keys.dim + 1) * 4 : 0;
}

const char* cached_attention_fast(const CachedAttention& p, void* scratch, Stream stream) {
  if (empty(p)) {
    return nullptr;
  }
  if (const char* refusal = refusal_of(p)) {
    return refusal;
  }
  CachedParts x{p, parts_of(p), static_cast<float*>(scratch), nullptr};
  x.lses = x.outs + x.parts * p.keys.batch * p.heads * p.rows * p.keys.dim;
  p.keys.dtype == Float::bf16 ? start<bf16>(x, stream) : start<half>(x, stream);
  return nullptr;
}

}  // namespace pcbench::device
