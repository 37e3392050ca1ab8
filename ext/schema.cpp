// The ops of pcbench, defined here and nowhere else. Each equals the function of pcbench.reference of the same name;
// one with an underscore is a part of another.
//
// Letters: B batch rows, H query heads, Hkv kv heads, Q query rows, S keys, D head dim, W = ⌈S/32⌉ words of eviction
// bits, T rows of a store, Tv those of its values, N its slots, P slots a row reads or parts, R rows of a window, L
// keys reported per segment, X rows of logits, Vt columns of a vocabulary tile, M scored chunks, K kept or listed
// chunks, Nt tiles of query rows, C capacity, Tb = ⌈T/64⌉ blocks of rows.
#include "registration.h"

PCBENCH_LIBRARY(PCBENCH_NAMESPACE, m) {
  // q [B, H, Q, D], k and v [B, Hkv, S, D], query_lengths [B], key_lengths [B, Hkv], evicted [B, Hkv|H, W],
  // out_in [B, H, Q, D], lse_in [B, H, Q] -> out [B, H, Q, D], lse [B, H, Q], mass [B, H, S] or [B, H, 0]
  m.def(
      "calibrated_attention(Tensor q, Tensor k, Tensor v, *, float scale, bool causal, Tensor? query_lengths=None, "
      "Tensor? key_lengths=None, Tensor? evicted=None, int mass_rows=0, Tensor? out_in=None, Tensor? lse_in=None) "
      "-> (Tensor out, Tensor lse, Tensor mass)");

  // q [B, H, Q, D], k [B, Hkv, S, D], lse [B, H, Q], query_lengths [B], key_lengths [B, Hkv] -> [B, H, S] or [B, H, 0]
  m.def(
      "key_mass(Tensor q, Tensor k, Tensor lse, *, float scale, bool causal, int mass_rows, "
      "Tensor? query_lengths=None, Tensor? key_lengths=None) -> Tensor");

  // q [B, H, Q, D], k_rows [T, D], v_rows [T|Tv, D], starts, lengths and v_starts [N, Hkv], slots [B, P],
  // evicted [N, Hkv|H, W]
  // -> out [B, H, Q, D], lse [B, H, Q]
  m.def(
      "cached_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths, Tensor slots, *, "
      "float scale, Tensor? evicted=None, Tensor? v_starts=None, bool causal_last) -> (Tensor out, Tensor lse)");

  // q [B, H, Q, D], k_codes and v_codes [T, D|D/2], k_scales and k_zeros [Tb, D], v_scales and v_zeros [T],
  // starts and lengths [N, Hkv], slots [B, P], evicted [N, Hkv|H, W]
  // -> out [B, H, Q, D], lse [B, H, Q]
  m.def(
      "quantized_attention(Tensor q, Tensor k_codes, Tensor v_codes, Tensor k_scales, Tensor v_scales, Tensor starts, "
      "Tensor lengths, Tensor slots, *, float scale, Tensor? k_zeros=None, Tensor? v_zeros=None, "
      "Tensor? evicted=None) -> (Tensor out, Tensor lse)");

  // q [B, H, 1, D], k_rows [T, D], v_rows [T|Tv, D], starts, lengths and v_starts [B, Hkv]
  // -> out [B, H, 1, D], lse [B, H], mass [B, Hkv, L]
  m.def(
      "decode_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths, *, float scale, "
      "Tensor? v_starts=None, int longest) -> (Tensor out, Tensor lse, Tensor mass)");

  // q [B, H, Q, D], k_rows and v_rows [T, D], starts and lengths [B, Hkv], turns [positions, R channels],
  // query_lengths [B], gains [B, Q], chunks [B, Hkv, Nt, K]
  // -> out [B, H, Q, D], lse [B, H, Q]
  m.def(
      "dual_chunk_attention(Tensor q, Tensor k_rows, Tensor v_rows, Tensor starts, Tensor lengths, Tensor turns, *, "
      "float scale, int period, bool interleaved=False, Tensor? query_lengths=None, Tensor? gains=None, "
      "Tensor? chunks=None, int tile_rows=0) -> (Tensor out, Tensor lse)");

  // q_last [B, H, R, D], lse [B, H, R], k_rows [T, D], starts and lengths [N, Hkv], slots [B, P] -> [B, P, H, L]
  m.def(
      "window_mass(Tensor q_last, Tensor lse, Tensor k_rows, Tensor starts, Tensor lengths, Tensor slots, *, "
      "float scale, bool causal_last, int longest) -> Tensor");

  // outs [P, B, H, Q, D], lses [P, B, H, Q] -> out [B, H, Q, D], lse [B, H, Q]
  m.def("merge_states(Tensor outs, Tensor lses) -> (Tensor out, Tensor lse)");

  // logits [X, Vt], targets [X], row_max, row_sum and row_target [X]
  m.def(
      "query_nll_update(Tensor logits, Tensor targets, int first_column, Tensor(a!) row_max, Tensor(b!) row_sum, "
      "Tensor(c!) row_target) -> ()");

  // A part of chunk_select, which is Python over other ops, on CPUs that multiply bfloat16.
  // rows [X, E], weights [Vt, E] -> out [X, Vt], float32
  m.def("_logits(Tensor rows, Tensor weights, Tensor(a!) out) -> ()");

  // scores, chunk_ids and slots [M], best_scores, best_ids and best_slots [K] -> freed [M]
  m.def(
      "chunk_topk(Tensor scores, Tensor chunk_ids, Tensor slots, Tensor(a!) best_scores, Tensor(b!) best_ids, "
      "Tensor(c!) best_slots) -> Tensor");

  // mass [B, H|Hkv, S], k and v [B, Hkv, S, D], budgets and key_lengths [B, Hkv], protect [B, S], evicted [B, Hkv, W]
  // -> k2 and v2 [B, Hkv, C, D], index [B, Hkv, C], lengths [B, Hkv]
  m.def(
      "select_tokens(Tensor mass, Tensor k, Tensor v, *, int capacity, Tensor? budgets=None, "
      "Tensor? key_lengths=None, int pool=7, int sink=0, int recent=0, Tensor? protect=None, Tensor? evicted=None) "
      "-> (Tensor k2, Tensor v2, Tensor index, Tensor lengths)");
}
