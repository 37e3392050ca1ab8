// The ops that score and select on the CPU: checks, outputs, and the launch.
#include <torch/csrc/stable/library.h>

#include "cpu/isa.h"
#include "cpu/launch.h"
#include "cpu/select.h"
#include "cpu/tasks.h"
#include "op_checks.h"
#include "registration.h"

namespace pcbench {
namespace {

int32_t* int_data(const Tensor& x) {
  return static_cast<int32_t*>(x.mutable_data_ptr());
}

void query_nll_update(Tensor logits, Tensor targets, int64_t first_column, Tensor row_max, Tensor row_sum,
                      Tensor row_target) {
  Arguments a("query_nll_update");
  check_query_nll_update(a, logits, targets, first_column, row_max, row_sum, row_target);
  if (a.size("Vt") == 0) {
    return;
  }
  kernels().query_nll_update({
      .rows = a.size("X"),
      .columns = a.size("Vt"),
      .first_column = first_column,
      .dtype = float_of(logits),
      .logits = floats(logits),
      .targets = ints(targets),
      .row_max = data(row_max),
      .row_sum = data(row_sum),
      .row_target = data(row_target),
  });
}

void _logits(Tensor rows, Tensor weights, Tensor out) {
  // of which it is a part
  Arguments a("chunk_select");
  a.tensor("rows", rows, "X E", {ScalarType::BFloat16});
  a.tensor("weights", weights, "Vt E", {ScalarType::BFloat16});
  a.state("out", out, "X Vt");
  a.changed();
  a.apart();
  a.number("E", a.size("E") % 2 == 0, "even", a.size("E"));
  a.number("stride of out", out.stride(0) == a.size("Vt"), "that of a contiguous tensor", out.stride(0));
  const Kernels& run = kernels();
  if (!run.logits) {
    throw std::runtime_error(
        "chunk_select: an instruction set that multiplies bfloat16, got one that does not; widen them");
  }
  const Logits p{
      .rows = a.size("X"),
      .columns = a.size("Vt"),
      .depth = a.size("E"),
      .a = floats(rows),
      .weights = floats(weights),
      .out = data(out),
  };
  Tensor memory = scratch(out, run.logits_scratch(p));
  run.logits(p, data(memory));
}

Tensor chunk_topk(Tensor scores, Tensor chunk_ids, Tensor slots, Tensor best_scores, Tensor best_ids,
                  Tensor best_slots) {
  Arguments a("chunk_topk");
  check_chunk_topk(a, scores, chunk_ids, slots, best_scores, best_ids, best_slots);
  Tensor freed = allocate(slots, {a.size("M")}, ScalarType::Int);
  plain::chunk_topk({
      .scored = a.size("M"),
      .kept = a.size("K"),
      .scores = data(scores),
      .chunk_ids = ints(chunk_ids).data,
      .slots = ints(slots).data,
      .best_scores = data(best_scores),
      .best_ids = int_data(best_ids),
      .best_slots = int_data(best_slots),
      .freed = int_data(freed),
  });
  return freed;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> select_tokens(Tensor mass, Tensor k, Tensor v, int64_t capacity,
                                                         std::optional<Tensor> budgets,
                                                         std::optional<Tensor> key_lengths, int64_t pool, int64_t sink,
                                                         int64_t recent, std::optional<Tensor> protect,
                                                         std::optional<Tensor> evicted) {
  Arguments a("select_tokens");
  check_select_tokens(a, mass, k, v, capacity, budgets, key_lengths, pool, sink, recent, protect, evicted);
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
      .mass = floats(mass),
      .k = floats(k),
      .v = floats(v),
      .budgets = ints(budgets),
      .key_lengths = ints(key_lengths),
      .protect = protect ? static_cast<const bool*>(protect->const_data_ptr()) : nullptr,
      .protect_batch = protect ? protect->stride(0) : 0,
      .evicted = ints(evicted),
      .capacity = capacity,
      .pool = pool,
      .sink = sink,
      .recent = recent,
      .k2 = k2.mutable_data_ptr(),
      .v2 = v2.mutable_data_ptr(),
      .index = int_data(index),
      .lengths = int_data(lengths),
  };
  const Kernels& run = kernels();
  const int64_t words = run.select_indices_scratch(p);
  alignas(64) float few[1 << 12];
  std::optional<Tensor> memory;
  if (words * task_workers() > static_cast<int64_t>(std::size(few))) {
    memory = scratch(k, words * task_workers());
  }
  plain::select_tokens(p, run, memory ? data(*memory) : few, words);
  return {k2, v2, index, lengths};
}

}  // namespace

PCBENCH_LIBRARY_IMPL(PCBENCH_NAMESPACE, CPU, m) {
  PCBENCH_OP(m, query_nll_update);
  PCBENCH_OP(m, _logits);
  PCBENCH_OP(m, chunk_topk);
  PCBENCH_OP(m, select_tokens);
}

}  // namespace pcbench
