// The ops that score and select on a GPU: checks, outputs, and the launch.
#include "device/kernels.h"
#include "gpu/call.h"
#include "op_checks.h"

namespace pcbench {
namespace {

void query_nll_update(Tensor logits, Tensor targets, int64_t first_column, Tensor row_max, Tensor row_sum,
                      Tensor row_target) {
  Arguments a("query_nll_update", on_gpu);
  check_query_nll_update(a, logits, targets, first_column, row_max, row_sum, row_target);
  if (a.size("Vt") == 0) {
    return;
  }
  const Call call(a);
  const QueryNll p{
      .rows = a.size("X"),
      .columns = a.size("Vt"),
      .first_column = first_column,
      .dtype = float_of(logits),
      .logits = call.floats(logits),
      .targets = call.ints(targets),
      .row_max = call.changed<float>(row_max),
      .row_sum = call.changed<float>(row_sum),
      .row_target = call.changed<float>(row_target),
  };
  device::query_nll_update(p, call.stream());
}

Tensor chunk_topk(Tensor scores, Tensor chunk_ids, Tensor slots, Tensor best_scores, Tensor best_ids,
                  Tensor best_slots) {
  Arguments a("chunk_topk", on_gpu);
  check_chunk_topk(a, scores, chunk_ids, slots, best_scores, best_ids, best_slots);
  const Call call(a);
  Tensor freed = allocate(slots, {a.size("M")}, ScalarType::Int);
  const ChunkTopk p{
      .scored = a.size("M"),
      .kept = a.size("K"),
      .scores = static_cast<const float*>(call.floats(scores).data),
      .chunk_ids = call.ints(chunk_ids).data,
      .slots = call.ints(slots).data,
      .best_scores = call.changed<float>(best_scores),
      .best_ids = call.changed<int32_t>(best_ids),
      .best_slots = call.changed<int32_t>(best_slots),
      .freed = call.written<int32_t>(freed),
  };
  Tensor memory = call.scratch(slots, device::chunk_topk_scratch(p));
  device::chunk_topk(p, call.written<void>(memory), call.stream());
  return freed;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> select_tokens(Tensor mass, Tensor k, Tensor v, int64_t capacity,
                                                         std::optional<Tensor> budgets,
                                                         std::optional<Tensor> key_lengths, int64_t pool, int64_t sink,
                                                         int64_t recent, std::optional<Tensor> protect,
                                                         std::optional<Tensor> evicted) {
  Arguments a("select_tokens", on_gpu);
  check_select_tokens(a, mass, k, v, capacity, budgets, key_lengths, pool, sink, recent, protect, evicted);
  // the first of two launches keeps what pooling reaches in shared memory
  a.number("pool", pool <= 8191 || a.size("S") <= 16384, "<= 8191 with more than 16384 keys", pool);
  const Call call(a);
  const int64_t batch = a.size("B"), kv_heads = a.size("Hkv"), dim = a.size("D");
  Tensor k2 = allocate(k, {batch, kv_heads, capacity, dim}, k.scalar_type());
  Tensor v2 = allocate(k, {batch, kv_heads, capacity, dim}, k.scalar_type());
  Tensor index = allocate(k, {batch, kv_heads, capacity}, ScalarType::Int);
  Tensor lengths = allocate(k, {batch, kv_heads}, ScalarType::Int);
  const int64_t itemsize = static_cast<int64_t>(k.element_size());
  const SelectTokens p{
      .batch = batch,
      .kv_heads = kv_heads,
      .group = a.size("H") / kv_heads,
      .keys = a.size("S"),
      .row_bytes = dim * itemsize,
      .itemsize = itemsize,
      .mass = call.floats(mass),
      .k = call.floats(k),
      .v = call.floats(v),
      .budgets = call.ints(budgets),
      .key_lengths = call.ints(key_lengths),
      .protect = call.bools(protect),
      .protect_batch = protect ? protect->stride(0) : 0,
      .evicted = call.ints(evicted),
      .capacity = capacity,
      .pool = pool,
      .sink = sink,
      .recent = recent,
      .k2 = call.written<void>(k2),
      .v2 = call.written<void>(v2),
      .index = call.written<int32_t>(index),
      .lengths = call.written<int32_t>(lengths),
  };
  Tensor memory = call.scratch(k, device::select_tokens_scratch(p));
  device::select_tokens(p, call.written<void>(memory), call.stream());
  return {k2, v2, index, lengths};
}

}  // namespace

PCBENCH_LIBRARY_IMPL(PCBENCH_NAMESPACE, PCBENCH_KEY, m) {
  PCBENCH_OP(m, query_nll_update);
  PCBENCH_OP(m, chunk_topk);
  PCBENCH_OP(m, select_tokens);
}

}  // namespace pcbench
