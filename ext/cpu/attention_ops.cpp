// The attention ops on the CPU: checks, outputs, and the launch.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/launch.h"
#include "op_checks.h"
#include "registration.h"

namespace pcbench {
namespace {

std::tuple<Tensor, Tensor, Tensor> calibrated_attention(Tensor q, Tensor k, Tensor v, double scale, bool causal,
                                                        std::optional<Tensor> query_lengths,
                                                        std::optional<Tensor> key_lengths,
                                                        std::optional<Tensor> evicted, int64_t mass_rows,
                                                        std::optional<Tensor> out_in, std::optional<Tensor> lse_in) {
  Arguments a("calibrated_attention");
  check_calibrated_attention(a, q, k, v, query_lengths, key_lengths, evicted, mass_rows, out_in, lse_in);
  const int64_t batch = a.size("B"), heads = a.size("H"), rows = a.size("Q"), keys = a.size("S"), dim = a.size("D");
  const ScalarType out_dtype = out_in ? ScalarType::Float : q.scalar_type();
  Tensor out = allocate(q, {batch, heads, rows, dim}, out_dtype);
  Tensor lse = allocate(q, {batch, heads, rows}, ScalarType::Float);
  Tensor mass = allocate(q, {batch, heads, mass_rows ? keys : 0}, ScalarType::Float);
  CalibratedAttention p{
      .batch = batch,
      .heads = heads,
      .kv_heads = a.size("Hkv"),
      .rows = rows,
      .keys = keys,
      .dim = dim,
      .dtype = float_of(q),
      .q = floats(q),
      .k = floats(k),
      .v = floats(v),
      .scale = static_cast<float>(scale),
      .causal = causal,
      .query_lengths = ints(query_lengths),
      .key_lengths = ints(key_lengths),
      .evicted = ints(evicted),
      .evicted_heads = evicted ? evicted->size(1) : 0,
      .words = a.size("W"),
      .mass_rows = mass_rows,
      .out_in = floats(out_in),
      .lse_in = floats(lse_in),
      .out = out.mutable_data_ptr(),
      .out_dtype = float_of(out),
      .lse = data(lse),
      .mass = data(mass),
  };
  const Kernels& run = kernels();
  Tensor memory = scratch(q, run.calibrated_attention_scratch(p));
  run.calibrated_attention(p, data(memory));
  return {out, lse, mass};
}

Tensor key_mass(Tensor q, Tensor k, Tensor lse, double scale, bool causal, int64_t mass_rows,
                std::optional<Tensor> query_lengths, std::optional<Tensor> key_lengths) {
  Arguments a("key_mass");
  check_key_mass(a, q, k, lse, mass_rows, query_lengths, key_lengths);
  const int64_t batch = a.size("B"), heads = a.size("H"), keys = a.size("S");
  Tensor mass = allocate(q, {batch, heads, mass_rows ? keys : 0}, ScalarType::Float);
  if (!mass_rows) {
    return mass;
  }
  CalibratedAttention p{
      .batch = batch,
      .heads = heads,
      .kv_heads = a.size("Hkv"),
      .rows = a.size("Q"),
      .keys = keys,
      .dim = a.size("D"),
      .dtype = float_of(q),
      .q = floats(q),
      .k = floats(k),
      .scale = static_cast<float>(scale),
      .causal = causal,
      .query_lengths = ints(query_lengths),
      .key_lengths = ints(key_lengths),
      .mass_rows = mass_rows,
      .lse = static_cast<float*>(floats(lse).data),
      .mass = data(mass),
  };
  const Kernels& run = kernels();
  Tensor memory = scratch(q, run.key_mass_scratch(p));
  run.key_mass(p, data(memory));
  return mass;
}

KeyRows key_rows(const Arguments& a, const Tensor& k_rows, const std::optional<Tensor>& v_rows, const Tensor& starts,
                 const Tensor& lengths, const std::optional<Tensor>& v_starts, const std::optional<Tensor>& slots,
                 bool causal_last) {
  return {
      .slots_in_store = a.size("N"),
      .kv_heads = a.size("Hkv"),
      .dim = a.size("D"),
      .stored_rows = a.size("T"),
      .value_rows = a.size("Tv"),
      .dtype = float_of(k_rows),
      .k_rows = floats(k_rows),
      .v_rows = floats(v_rows),
      .starts = ints(starts),
      .lengths = ints(lengths),
      .v_starts = ints(v_starts),
      .batch = a.size("B"),
      .listed = a.size("P"),
      .slots = ints(slots),
      .causal_last = causal_last,
  };
}

CachedAttention attention_over(const KeyRows& keys, const Tensor& q, double scale, Tensor& out, Tensor& lse) {
  return {
      .keys = keys,
      .heads = q.size(1),
      .rows = q.size(2),
      .q = floats(q),
      .scale = static_cast<float>(scale),
      .out = out.mutable_data_ptr(),
      .lse = data(lse),
  };
}

void run_cached_attention(const Tensor& q, const CachedAttention& p) {
  const Kernels& run = kernels();
  Tensor memory = scratch(q, run.cached_attention_scratch(p));
  run.cached_attention(p, data(memory));
}

std::tuple<Tensor, Tensor> cached_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths,
                                            Tensor slots, double scale, std::optional<Tensor> evicted,
                                            std::optional<Tensor> v_starts, bool causal_last) {
  Arguments a("cached_attention");
  check_cached_attention(a, q, k_rows, v_rows, starts, lengths, slots, evicted, v_starts);
  const KeyRows keys = key_rows(a, k_rows, v_rows, starts, lengths, v_starts, slots, causal_last);
  Tensor out = allocate(q, {keys.batch, a.size("H"), a.size("Q"), keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, a.size("H"), a.size("Q")}, ScalarType::Float);
  CachedAttention p = attention_over(keys, q, scale, out, lse);
  p.evicted = ints(evicted);
  p.evicted_heads = evicted ? evicted->size(1) : 0;
  p.words = evicted ? evicted->size(2) : 0;
  run_cached_attention(q, p);
  return {out, lse};
}

std::tuple<Tensor, Tensor> quantized_attention(Tensor q, Tensor k_codes, Tensor v_codes, Tensor k_scales,
                                               Tensor v_scales, Tensor starts, Tensor lengths, Tensor slots,
                                               double scale, std::optional<Tensor> k_zeros,
                                               std::optional<Tensor> v_zeros, std::optional<Tensor> evicted) {
  Arguments a("quantized_attention");
  check_quantized_attention(a, q, k_codes, v_codes, k_scales, v_scales, starts, lengths, slots, k_zeros, v_zeros,
                            evicted);
  KeyRows keys = key_rows(a, k_codes, v_codes, starts, lengths, std::nullopt, slots, false);
  keys.dtype = float_of(q);
  keys.scales = {
      .codes = codes_of(k_codes),
      .k = floats(k_scales),
      .v = floats(v_scales),
      .k_zeros = floats(k_zeros),
      .v_zeros = floats(v_zeros),
  };
  Tensor out = allocate(q, {keys.batch, a.size("H"), a.size("Q"), keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, a.size("H"), a.size("Q")}, ScalarType::Float);
  CachedAttention p = attention_over(keys, q, scale, out, lse);
  p.evicted = ints(evicted);
  p.evicted_heads = evicted ? evicted->size(1) : 0;
  p.words = evicted ? evicted->size(2) : 0;
  const Kernels& run = kernels();
  Tensor memory = scratch(q, run.quantized_attention_scratch(p));
  run.quantized_attention(p, data(memory));
  return {out, lse};
}

int64_t largest(const Ints& x, int64_t rows, int64_t columns) {
  int64_t most = 0;
  for (int64_t i = 0; i < rows * columns; ++i) {
    most = std::max<int64_t>(most, x.data[i / columns * x.strides[0] + i % columns]);
  }
  return most;
}

std::tuple<Tensor, Tensor, Tensor> decode_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts,
                                                    Tensor lengths, double scale, std::optional<Tensor> v_starts,
                                                    int64_t longest) {
  Arguments a("decode_attention");
  check_decode_attention(a, q, k_rows, v_rows, starts, lengths, v_starts, longest);
  const KeyRows keys = key_rows(a, k_rows, v_rows, starts, lengths, v_starts, std::nullopt, false);
  const int64_t most = largest(keys.lengths, keys.batch, keys.kv_heads);
  a.number("longest", longest >= most, "at least every length", longest);
  const int64_t heads = a.size("H");
  Tensor out = allocate(q, {keys.batch, heads, 1, keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, heads}, ScalarType::Float);
  Tensor mass = allocate(q, {keys.batch, keys.kv_heads, longest}, ScalarType::Float);
  CachedAttention p = attention_over(keys, q, scale, out, lse);
  p.longest = longest;
  p.score_row = (longest + 31) / 32 * 32;
  Tensor scores = scratch(q, keys.batch * heads * p.score_row);
  p.mass = data(mass);
  p.scores = data(scores);
  run_cached_attention(q, p);
  return {out, lse, mass};
}

std::tuple<Tensor, Tensor> dual_chunk_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths,
                                                Tensor turns, double scale, int64_t period, bool interleaved,
                                                std::optional<Tensor> query_lengths, std::optional<Tensor> gains,
                                                std::optional<Tensor> chunks, int64_t tile_rows) {
  Arguments a("dual_chunk_attention");
  check_dual_chunk_attention(a, q, k_rows, v_rows, starts, lengths, turns, period, query_lengths, gains, chunks,
                             tile_rows);
  const KeyRows keys = key_rows(a, k_rows, v_rows, starts, lengths, std::nullopt, std::nullopt, false);
  const int64_t heads = a.size("H"), rows = a.size("Q");
  Tensor out = allocate(q, {keys.batch, heads, rows, keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, heads, rows}, ScalarType::Float);
  DualChunkAttention p{
      .keys = keys,
      .heads = heads,
      .rows = rows,
      .q = floats(q),
      .scale = static_cast<float>(scale),
      .period = period,
      .clip = turns.size(0) - 1,
      .turning = turns.size(1),
      .turns = floats(turns),
      .interleaved = interleaved,
      .query_lengths = ints(query_lengths),
      .gains = floats(gains),
      .chunks = tile_lists(chunks),
      .tile_rows = tile_rows,
      .listed = chunks ? chunks->size(3) : 0,
      .out = out.mutable_data_ptr(),
      .lse = data(lse),
  };
  const Kernels& run = kernels();
  Tensor memory = scratch(q, run.dual_chunk_attention_scratch(p));
  run.dual_chunk_attention(p, data(memory));
  return {out, lse};
}

Tensor window_mass(Tensor q_last, Tensor lse, Tensor k_rows, Tensor starts, Tensor lengths, Tensor slots, double scale,
                   bool causal_last, int64_t longest) {
  Arguments a("window_mass");
  check_window_mass(a, q_last, lse, k_rows, starts, lengths, slots, longest);
  const KeyRows keys = key_rows(a, k_rows, std::nullopt, starts, lengths, std::nullopt, slots, causal_last);
  Tensor mass = allocate(q_last, {keys.batch, keys.listed, a.size("H"), longest}, ScalarType::Float);
  WindowMass p{
      .keys = keys,
      .heads = a.size("H"),
      .rows = a.size("R"),
      .longest = longest,
      .q = floats(q_last),
      .lse = floats(lse),
      .scale = static_cast<float>(scale),
      .mass = data(mass),
  };
  const Kernels& run = kernels();
  Tensor memory = scratch(q_last, run.window_mass_scratch(p));
  run.window_mass(p, data(memory));
  return mass;
}

std::tuple<Tensor, Tensor> merge_states(Tensor outs, Tensor lses) {
  Arguments a("merge_states");
  check_merge_states(a, outs, lses);
  const int64_t batch = a.size("B"), heads = a.size("H"), rows = a.size("Q"), dim = a.size("D");
  Tensor out = allocate(outs, {batch, heads, rows, dim}, ScalarType::Float);
  Tensor lse = allocate(outs, {batch, heads, rows}, ScalarType::Float);
  kernels().merge_states({
      .parts = a.size("P"),
      .batch = batch,
      .heads = heads,
      .rows = rows,
      .dim = dim,
      .outs = floats(outs),
      .lses = floats(lses),
      .out = data(out),
      .lse = data(lse),
  });
  return {out, lse};
}

}  // namespace

PCBENCH_LIBRARY_IMPL(PCBENCH_NAMESPACE, CPU, m) {
  PCBENCH_OP(m, calibrated_attention);
  PCBENCH_OP(m, key_mass);
  PCBENCH_OP(m, cached_attention);
  PCBENCH_OP(m, quantized_attention);
  PCBENCH_OP(m, decode_attention);
  PCBENCH_OP(m, dual_chunk_attention);
  PCBENCH_OP(m, window_mass);
  PCBENCH_OP(m, merge_states);
}

}  // namespace pcbench
