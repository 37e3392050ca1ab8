// The attention ops on a GPU: checks, outputs, and the launch.
#include "device/kernels.h"
#include "gpu/attention.h"
#include "gpu/call.h"
#include "gpu/portable_calls.h"
#include "op_checks.h"

namespace pcbench {
namespace {

std::tuple<Tensor, Tensor, Tensor> calibrated_attention(Tensor q, Tensor k, Tensor v, double scale, bool causal,
                                                        std::optional<Tensor> query_lengths,
                                                        std::optional<Tensor> key_lengths,
                                                        std::optional<Tensor> evicted, int64_t mass_rows,
                                                        std::optional<Tensor> out_in, std::optional<Tensor> lse_in) {
  Arguments a("calibrated_attention", on_gpu);
  check_calibrated_attention(a, q, k, v, query_lengths, key_lengths, evicted, mass_rows, out_in, lse_in);
  const Call call(a);
  const int64_t batch = a.size("B"), heads = a.size("H"), rows = a.size("Q"), keys = a.size("S"), dim = a.size("D");
  const ScalarType out_dtype = out_in ? ScalarType::Float : q.scalar_type();
  Tensor out = allocate(q, {batch, heads, rows, dim}, out_dtype);
  Tensor lse = allocate(q, {batch, heads, rows}, ScalarType::Float);
  Tensor mass = allocate(q, {batch, heads, mass_rows ? keys : 0}, ScalarType::Float);
  const CalibratedAttention p{
      .batch = batch,
      .heads = heads,
      .kv_heads = a.size("Hkv"),
      .rows = rows,
      .keys = keys,
      .dim = dim,
      .dtype = float_of(q),
      .q = call.floats(q),
      .k = call.floats(k),
      .v = call.floats(v),
      .scale = static_cast<float>(scale),
      .causal = causal,
      .query_lengths = call.ints(query_lengths),
      .key_lengths = call.ints(key_lengths),
      .evicted = call.ints(evicted),
      .evicted_heads = evicted ? evicted->size(1) : 0,
      .words = a.size("W"),
      .mass_rows = mass_rows,
      .out_in = call.floats(out_in),
      .lse_in = call.floats(lse_in),
      .out = call.written<void>(out),
      .out_dtype = float_of(out),
      .lse = call.written<float>(lse),
      .mass = call.written<float>(mass),
  };
  Tensor memory = call.scratch(q, device::calibrated_attention_scratch(p));
  const char* refusal = device::calibrated_attention_fast(p, call.written<void>(memory), call.stream());
  if (!started("calibrated_attention", p.dtype, refusal)) {
    device::calibrated_attention_portable(p, call.stream());
  }
  if (mass_rows &&
      !started("the mass of calibrated_attention", p.dtype, device::calibrated_attention_mass_fast(p, call.stream()))) {
    device::calibrated_attention_mass(p, call.stream());
  }
  return {out, lse, mass};
}

Tensor key_mass(Tensor q, Tensor k, Tensor lse, double scale, bool causal, int64_t mass_rows,
                std::optional<Tensor> query_lengths, std::optional<Tensor> key_lengths) {
  Arguments a("key_mass", on_gpu);
  check_key_mass(a, q, k, lse, mass_rows, query_lengths, key_lengths);
  const Call call(a);
  const int64_t batch = a.size("B"), heads = a.size("H"), keys = a.size("S");
  Tensor mass = allocate(q, {batch, heads, mass_rows ? keys : 0}, ScalarType::Float);
  if (!mass_rows) {
    return mass;
  }
  const CalibratedAttention p{
      .batch = batch,
      .heads = heads,
      .kv_heads = a.size("Hkv"),
      .rows = a.size("Q"),
      .keys = keys,
      .dim = a.size("D"),
      .dtype = float_of(q),
      .q = call.floats(q),
      .k = call.floats(k),
      .scale = static_cast<float>(scale),
      .causal = causal,
      .query_lengths = call.ints(query_lengths),
      .key_lengths = call.ints(key_lengths),
      .mass_rows = mass_rows,
      .lse = static_cast<float*>(call.floats(lse).data),
      .mass = call.written<float>(mass),
  };
  if (!started("key_mass", p.dtype, device::calibrated_attention_mass_fast(p, call.stream()))) {
    device::calibrated_attention_mass(p, call.stream());
  }
  return mass;
}

KeyRows key_rows(const Call& call, const Arguments& a, const Tensor& k_rows, const std::optional<Tensor>& v_rows,
                 const Tensor& starts, const Tensor& lengths, const std::optional<Tensor>& v_starts,
                 const std::optional<Tensor>& slots, bool causal_last) {
  return {
      .slots_in_store = a.size("N"),
      .kv_heads = a.size("Hkv"),
      .dim = a.size("D"),
      .stored_rows = a.size("T"),
      .value_rows = a.size("Tv"),
      .dtype = float_of(k_rows),
      .k_rows = call.floats(k_rows),
      .v_rows = call.floats(v_rows),
      .starts = call.ints(starts),
      .lengths = call.ints(lengths),
      .v_starts = call.ints(v_starts),
      .batch = a.size("B"),
      .listed = a.size("P"),
      .slots = call.ints(slots),
      .causal_last = causal_last,
  };
}

CachedAttention attention_over(const Call& call, const KeyRows& keys, const Tensor& q, double scale, const Tensor& out,
                               const Tensor& lse) {
  return {
      .keys = keys,
      .heads = q.size(1),
      .rows = q.size(2),
      .q = call.floats(q),
      .scale = static_cast<float>(scale),
      .out = call.written<void>(out),
      .lse = call.written<float>(lse),
  };
}

void run_cached_attention(const char* op, const Call& call, const Tensor& q, const CachedAttention& p) {
  Tensor memory = call.scratch(q, device::cached_attention_scratch(p));
  const char* refusal = device::cached_attention_fast(p, call.written<void>(memory), call.stream());
  if (!started(op, p.keys.dtype, refusal)) {
    memory = call.scratch(q, device::cached_attention_portable_scratch(p));
    device::cached_attention_portable(p, call.written<void>(memory), call.stream());
  }
}

std::tuple<Tensor, Tensor> cached_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths,
                                            Tensor slots, double scale, std::optional<Tensor> evicted,
                                            std::optional<Tensor> v_starts, bool causal_last) {
  Arguments a("cached_attention", on_gpu);
  check_cached_attention(a, q, k_rows, v_rows, starts, lengths, slots, evicted, v_starts);
  const Call call(a);
  const KeyRows keys = key_rows(call, a, k_rows, v_rows, starts, lengths, v_starts, slots, causal_last);
  Tensor out = allocate(q, {keys.batch, a.size("H"), a.size("Q"), keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, a.size("H"), a.size("Q")}, ScalarType::Float);
  CachedAttention p = attention_over(call, keys, q, scale, out, lse);
  p.evicted = call.ints(evicted);
  p.evicted_heads = evicted ? evicted->size(1) : 0;
  p.words = evicted ? evicted->size(2) : 0;
  run_cached_attention("cached_attention", call, q, p);
  return {out, lse};
}

std::tuple<Tensor, Tensor> quantized_attention(Tensor q, Tensor k_codes, Tensor v_codes, Tensor k_scales,
                                               Tensor v_scales, Tensor starts, Tensor lengths, Tensor slots,
                                               double scale, std::optional<Tensor> k_zeros,
                                               std::optional<Tensor> v_zeros, std::optional<Tensor> evicted) {
  Arguments a("quantized_attention", on_gpu);
  check_quantized_attention(a, q, k_codes, v_codes, k_scales, v_scales, starts, lengths, slots, k_zeros, v_zeros,
                            evicted);
  const Call call(a);
  KeyRows keys = key_rows(call, a, k_codes, v_codes, starts, lengths, std::nullopt, slots, false);
  keys.dtype = float_of(q);
  keys.scales = {
      .codes = codes_of(k_codes),
      .k = call.floats(k_scales),
      .v = call.floats(v_scales),
      .k_zeros = call.floats(k_zeros),
      .v_zeros = call.floats(v_zeros),
  };
  Tensor out = allocate(q, {keys.batch, a.size("H"), a.size("Q"), keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, a.size("H"), a.size("Q")}, ScalarType::Float);
  CachedAttention p = attention_over(call, keys, q, scale, out, lse);
  p.evicted = call.ints(evicted);
  p.evicted_heads = evicted ? evicted->size(1) : 0;
  p.words = evicted ? evicted->size(2) : 0;
  Tensor memory = call.scratch(q, device::cached_attention_portable_scratch(p));
  device::quantized_attention(p, call.written<void>(memory), call.stream());
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor> decode_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts,
                                                    Tensor lengths, double scale, std::optional<Tensor> v_starts,
                                                    int64_t longest) {
  Arguments a("decode_attention", on_gpu);
  check_decode_attention(a, q, k_rows, v_rows, starts, lengths, v_starts, longest);
  const Call call(a);
  const KeyRows keys = key_rows(call, a, k_rows, v_rows, starts, lengths, v_starts, std::nullopt, false);
  const int64_t heads = a.size("H");
  Tensor out = allocate(q, {keys.batch, heads, 1, keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, heads}, ScalarType::Float);
  Tensor mass = allocate(q, {keys.batch, keys.kv_heads, longest}, ScalarType::Float);
  CachedAttention p = attention_over(call, keys, q, scale, out, lse);
  p.longest = longest;
  p.score_row = (longest + 31) / 32 * 32;
  Tensor scores = call.scratch(q, keys.batch * heads * p.score_row * static_cast<int64_t>(sizeof(float)));
  p.mass = call.written<float>(mass);
  p.scores = call.written<float>(scores);
  run_cached_attention("decode_attention", call, q, p);
  device::decode_mass(p, call.stream());
  return {out, lse, mass};
}

Tensor window_mass(Tensor q_last, Tensor lse, Tensor k_rows, Tensor starts, Tensor lengths, Tensor slots, double scale,
                   bool causal_last, int64_t longest) {
  Arguments a("window_mass", on_gpu);
  check_window_mass(a, q_last, lse, k_rows, starts, lengths, slots, longest);
  const Call call(a);
  const KeyRows keys = key_rows(call, a, k_rows, std::nullopt, starts, lengths, std::nullopt, slots, causal_last);
  Tensor mass = allocate(q_last, {keys.batch, keys.listed, a.size("H"), longest}, ScalarType::Float);
  const WindowMass p{
      .keys = keys,
      .heads = a.size("H"),
      .rows = a.size("R"),
      .longest = longest,
      .q = call.floats(q_last),
      .lse = call.floats(lse),
      .scale = static_cast<float>(scale),
      .mass = call.written<float>(mass),
  };
  if (!p.rows || !started("window_mass", keys.dtype, device::window_mass_fast(p, call.stream()))) {
    device::window_mass(p, call.stream());
  }
  return mass;
}

std::tuple<Tensor, Tensor> dual_chunk_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths,
                                                Tensor turns, double scale, int64_t period, bool interleaved,
                                                std::optional<Tensor> query_lengths, std::optional<Tensor> gains,
                                                std::optional<Tensor> chunks, int64_t tile_rows) {
  Arguments a("dual_chunk_attention", on_gpu);
  check_dual_chunk_attention(a, q, k_rows, v_rows, starts, lengths, turns, period, query_lengths, gains, chunks,
                             tile_rows);
  const Call call(a);
  const KeyRows keys = key_rows(call, a, k_rows, v_rows, starts, lengths, std::nullopt, std::nullopt, false);
  const int64_t heads = a.size("H"), rows = a.size("Q");
  Tensor out = allocate(q, {keys.batch, heads, rows, keys.dim}, q.scalar_type());
  Tensor lse = allocate(q, {keys.batch, heads, rows}, ScalarType::Float);
  const DualChunkAttention p{
      .keys = keys,
      .heads = heads,
      .rows = rows,
      .q = call.floats(q),
      .scale = static_cast<float>(scale),
      .period = period,
      .clip = turns.size(0) - 1,
      .turning = turns.size(1),
      .turns = call.floats(turns),
      .interleaved = interleaved,
      .query_lengths = call.ints(query_lengths),
      .gains = call.floats(gains),
      .chunks = call.tile_lists(chunks),
      .tile_rows = tile_rows,
      .listed = chunks ? chunks->size(3) : 0,
      .out = call.written<void>(out),
      .lse = call.written<float>(lse),
  };
  Tensor memory = call.scratch(q, device::dual_chunk_attention_scratch(p));
  const char* refusal = device::dual_chunk_attention_fast(p, call.written<void>(memory), call.stream());
  if (!started("dual_chunk_attention", keys.dtype, refusal)) {
    memory = call.scratch(q, device::dual_chunk_attention_portable_scratch(p));
    device::dual_chunk_attention_portable(p, call.written<void>(memory), call.stream());
  }
  return {out, lse};
}

std::tuple<Tensor, Tensor> merge_states(Tensor outs, Tensor lses) {
  Arguments a("merge_states", on_gpu);
  check_merge_states(a, outs, lses);
  const Call call(a);
  const int64_t batch = a.size("B"), heads = a.size("H"), rows = a.size("Q"), dim = a.size("D");
  Tensor out = allocate(outs, {batch, heads, rows, dim}, ScalarType::Float);
  Tensor lse = allocate(outs, {batch, heads, rows}, ScalarType::Float);
  const MergeStates p{
      .parts = a.size("P"),
      .batch = batch,
      .heads = heads,
      .rows = rows,
      .dim = dim,
      .outs = call.floats(outs),
      .lses = call.floats(lses),
      .out = call.written<float>(out),
      .lse = call.written<float>(lse),
  };
  device::merge_states(p, call.stream());
  return {out, lse};
}

}  // namespace

PCBENCH_LIBRARY_IMPL(PCBENCH_NAMESPACE, PCBENCH_KEY, m) {
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
