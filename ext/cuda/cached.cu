// cached_attention_fast of CUDA, decode_attention's too: what the kernels take, and their scratch memory.
#include "attention_limits.h"
#include "device/launch.h"
#include "gpu/attention.h"

namespace pcbench::device {
namespace {

// counts of tiles, the listed segments and the eviction bits of a group lie in shared memory: all within 99 KiB
constexpr int64_t most_pairs = 4000, most_listed = 512, most_bit_heads = 16;
constexpr int64_t rows_of_tile = 128;

bool own_bits(const CachedAttention& p) {
  return p.evicted.data && p.evicted_heads != p.keys.kv_heads;
}

int64_t pack_of(const CachedAttention& p) {
  const int64_t group = p.heads / p.keys.kv_heads;
  if (!p.mass) {
    return own_bits(p) && group > most_bit_heads ? 1 : group;
  }
  // only the kernel of few rows keeps scores
  int64_t pack = group < few_rows ? group : few_rows;
  while (group % pack) {
    --pack;
  }
  return pack;
}

bool empty(const CachedAttention& p) {
  return p.keys.batch * p.heads * p.rows == 0;
}

// Of a call that is not empty.
const char* refusal_of(const CachedAttention& p) {
  const KeyRows& keys = p.keys;
  const int64_t pack = pack_of(p), pairs = keys.batch * (p.heads / pack);
  const bool many = p.rows * pack >= most_items || keys.stored_rows >= most_items || keys.value_rows >= most_items ||
                    pairs * ceil_div(p.rows * pack, rows_of_tile) >= most_items;
  return first_of(refusal_of_inputs(keys.dtype, p.scale), refusal_of_near_rows(p.q, 3),
                  refusal_of_near_rows(keys.k_rows, 1), refusal_of_near_rows(keys.v_rows, 1),
                  pack > most_packed ? "more than 128 heads of a group" : nullptr,
                  many ? "2^30 rows or keys or more" : nullptr,
                  pairs > most_pairs ? "more than 4000 pairs of a batch row and a kv-head" : nullptr,
                  keys.listed > most_listed ? "more than 512 listed slots" : nullptr);
}

int64_t aligned(int64_t bytes) {
  return ceil_div(bytes, 16) * 16;
}

struct Plan {
  CachedLaunch x{};
  int64_t before_bytes, states_bytes, outs_bytes;

  explicit Plan(const CachedAttention& p) {
    const int64_t pack = pack_of(p), rows = p.rows * pack;
    x.p = p;
    x.scale = p.scale * 1.44269504f;
    x.pack = static_cast<int32_t>(pack);
    x.head_blocks = static_cast<int32_t>(p.heads / pack);
    x.block_rows = static_cast<int32_t>(rows <= few_rows ? few_rows : rows_of_tile);
    x.row_blocks = static_cast<int32_t>(ceil_div(rows, x.block_rows));
    x.pairs = static_cast<int32_t>(p.keys.batch * x.head_blocks);
    x.blocks = 2 * multiprocessors();
    x.bit_heads = own_bits(p) ? x.pack : 1;
    x.described = x.bit_heads > 8 ? 64 : 128;
    const int64_t part_rows = (x.blocks + int64_t{x.pairs} * x.row_blocks) * x.block_rows;
    before_bytes = aligned((x.pairs + 1) * static_cast<int64_t>(sizeof(int32_t)));
    states_bytes = aligned(part_rows * 2 * static_cast<int64_t>(sizeof(float)));
    outs_bytes = part_rows * p.keys.dim * static_cast<int64_t>(sizeof(float));
  }
};

}  // namespace

int64_t cached_attention_scratch(const CachedAttention& p) {
  if (empty(p) || refusal_of(p)) {
    return 0;
  }
  const Plan plan(p);
  return plan.before_bytes + plan.states_bytes + plan.outs_bytes;
}

const char* cached_attention_fast(const CachedAttention& p, void* scratch, Stream stream) {
  if (empty(p)) {
    return nullptr;
  }
  if (const char* refusal = refusal_of(p)) {
    return refusal;
  }
  Plan plan(p);
  char* memory = static_cast<char*>(scratch);
  plan.x.before = reinterpret_cast<int32_t*>(memory);
  plan.x.states = reinterpret_cast<float*>(memory + plan.before_bytes);
  plan.x.outs = reinterpret_cast<float*>(memory + plan.before_bytes + plan.states_bytes);
  by_dtype_and_dim(p.keys.dtype, p.keys.dim, [&]<class T, int D>() { launch_cached<T, D>(plan.x, stream); });
  return nullptr;
}

}  // namespace pcbench::device
