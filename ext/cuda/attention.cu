// calibrated_attention_fast of CUDA: what the kernel takes, and how its blocks are laid out.
#include <algorithm>

#include "attention_limits.h"
#include "device/launch.h"
#include "gpu/attention.h"

namespace pcbench::device {
namespace {

constexpr int64_t rows_of_block = 128;
// keys and values of the pairs side by side: half of the smallest L2 of the GPUs that this is for
constexpr int64_t section_bytes = int64_t{16} << 20;

const char* refusal_of(const CalibratedAttention& p) {
  const int64_t group = p.heads / p.kv_heads;
  const bool many = p.rows * group >= most_items || p.keys >= most_items;
  return first_of(refusal_of_inputs(p.dtype, p.scale), refusal_of_near_rows(p.q, 3), refusal_of_near_rows(p.k, 3),
                  refusal_of_near_rows(p.v, 3), group > most_packed ? "more than 128 heads of a group" : nullptr,
                  many ? "2^30 rows or keys or more" : nullptr);
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
  const bool own_bits = p.evicted.data && p.evicted_heads != p.kv_heads;
  const int64_t pack = own_bits ? 1 : p.heads / p.kv_heads, pairs = p.batch * (p.heads / pack);
  const int64_t row_blocks = ceil_div(p.rows * pack, rows_of_block);
  if (pairs * row_blocks >= most_items) {
    return "2^30 blocks of rows or more";
  }
  const int64_t fit = section_bytes / (p.keys * p.dim * 4 + 1);
  const CalibratedLaunch x{
      .p = p,
      .scale = p.scale * 1.44269504f,
      .pack = static_cast<int32_t>(pack),
      .head_blocks = static_cast<int32_t>(p.heads / pack),
      .row_blocks = static_cast<int32_t>(row_blocks),
      .pairs = static_cast<int32_t>(pairs),
      .section = static_cast<int32_t>(std::clamp<int64_t>(fit, 1, pairs)),
  };
  // a wgmma kernel for sm_90a takes its shapes here, before the mma.sync one
  by_dtype_and_dim(p.dtype, p.dim, [&]<class T, int D>() { launch_calibrated<T, D>(x, stream); });
  return nullptr;
}

}  // namespace pcbench::device
