// Starts the kernels that score and select.
#include "device/chunk_topk.h"
#include "device/kernels.h"
#include "device/launch.h"
#include "device/query_nll.h"
#include "device/select_tokens.h"

namespace pcbench::device {
namespace {

// Keys that one launch ranks and selects.
constexpr int64_t held_keys = 16384;

bool packed(const Floats& x, const SelectTokens& p) {
  const int64_t steps = (x.strides[0] | x.strides[1] | x.strides[2]) * p.itemsize | p.row_bytes;
  return (reinterpret_cast<uintptr_t>(x.data) | static_cast<uintptr_t>(steps)) % 16 == 0;
}

SelectCall select_call(const SelectTokens& p, void* scratch, int threads) {
  // as many blocks as run at once with 64 registers a thread: every block ranks its row, and whoever comes later ranks
  // it again; each with rows enough to be worth that
  const int64_t pairs = larger<int64_t>(1, p.batch * p.kv_heads), fewest_rows = 32;
  const int64_t at_once = 1024 / threads * multiprocessors();
  const int64_t shares = clamped<int64_t>(at_once / pairs, 1, ceil_div(p.capacity, fewest_rows));
  return {p, static_cast<int32_t>(shares), static_cast<int32_t>(ceil_div(p.capacity, shares)),
          packed(p.k, p) && packed(p.v, p), static_cast<uint32_t*>(scratch)};
}

template <int Threads, int Held>
void start(const SelectTokens& p, void* scratch, Stream stream) {
  const SelectCall call = select_call(p, scratch, Threads);
  const int64_t listed = select_list + 4 * int64_t{call.share_rows}, held = Held ? 4 * p.keys : 0;
  const int64_t blocks = p.batch * p.kv_heads * call.shares;
  launch(select_tokens_kernel<Threads, Held>, blocks, Threads, static_cast<int>(larger(listed, held)), stream, call);
}

}  // namespace

void query_nll_update(const QueryNll& p, Stream stream) {
  const auto kernel = p.dtype == Float::f32    ? query_nll_kernel<float>
                      : p.dtype == Float::bf16 ? query_nll_kernel<bf16>
                                               : query_nll_kernel<half>;
  launch(kernel, p.rows, nll_threads, nll_shared_bytes, stream, p);
}

int64_t chunk_topk_scratch(const ChunkTopk& p) {
  return (p.kept + p.scored) * topk_entry_bytes;
}

void chunk_topk(const ChunkTopk& p, void* scratch, Stream stream) {
  const int64_t entries = p.kept + p.scored;
  float* scores = static_cast<float*>(scratch);
  int32_t* ids = reinterpret_cast<int32_t*>(scores + entries);
  const ChunkTopkCall call{p, scores, ids, ids + entries, ids + 2 * entries, ids + 3 * entries};
  launch(chunk_topk_kernel, 1, topk_threads, 0, stream, call);
}

int64_t select_tokens_scratch(const SelectTokens& p) {
  return p.keys > held_keys ? p.batch * p.kv_heads * p.keys * static_cast<int64_t>(sizeof(uint32_t)) : 0;
}

void select_tokens(const SelectTokens& p, void* scratch, Stream stream) {
  if (p.keys <= 1024) {
    return start<256, 4>(p, scratch, stream);
  }
  if (p.keys <= 4096) {
    return start<512, 8>(p, scratch, stream);
  }
  if (p.keys <= 8192) {
    return start<512, 16>(p, scratch, stream);
  }
  if (p.keys <= held_keys) {
    return start<1024, 16>(p, scratch, stream);
  }
  const int reached = rank_keys + 2 * static_cast<int>(p.pool / 2);
  const int64_t blocks = ceil_div(p.keys, rank_keys) * p.batch * p.kv_heads;
  launch(rank_keys_kernel, blocks, rank_threads, reached * 4, stream, select_call(p, scratch, rank_threads));
  start<1024, 0>(p, scratch, stream);
}

}  // namespace pcbench::device
