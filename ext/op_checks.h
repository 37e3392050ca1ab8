// What each op asks of its arguments, on every backend.
#pragma once

#include "checks.h"

namespace pcbench {

inline void check_calibrated_attention(Arguments& a, const Tensor& q, const Tensor& k, const Tensor& v,
                                       const std::optional<Tensor>& query_lengths,
                                       const std::optional<Tensor>& key_lengths, const std::optional<Tensor>& evicted,
                                       int64_t mass_rows, const std::optional<Tensor>& out_in,
                                       const std::optional<Tensor>& lse_in) {
  a.floats("q", q, "B H Q D");
  a.floats("k", k, "B Hkv S D");
  a.floats("v", v, "B Hkv S D");
  a.same_dtype("k", k, q);
  a.same_dtype("v", v, q);
  a.grouped();
  a.head_dim();
  a.ints("query_lengths", query_lengths, "B");
  a.ints("key_lengths", key_lengths, "B Hkv");
  a.bind("W", (a.size("S") + 31) / 32);
  a.evicted(evicted, "B Hkv W", "B H W");
  a.number("mass_rows", mass_rows >= 0, ">= 0", mass_rows);
  if (out_in.has_value() != lse_in.has_value()) {
    a.fail("out_in and lse_in go together", out_in ? "no lse_in" : "no out_in");
  }
  if (out_in) {
    a.state("out_in", *out_in, "B H Q D");
    a.state("lse_in", *lse_in, "B H Q");
  }
}

inline void check_key_mass(Arguments& a, const Tensor& q, const Tensor& k, const Tensor& lse, int64_t mass_rows,
                           const std::optional<Tensor>& query_lengths, const std::optional<Tensor>& key_lengths) {
  a.floats("q", q, "B H Q D");
  a.floats("k", k, "B Hkv S D");
  a.same_dtype("k", k, q);
  a.grouped();
  a.head_dim();
  a.state("lse", lse, "B H Q");
  a.contiguous("lse", lse);
  a.number("mass_rows", mass_rows >= 0, ">= 0", mass_rows);
  a.ints("query_lengths", query_lengths, "B");
  a.ints("key_lengths", key_lengths, "B Hkv");
}

inline void check_key_rows(Arguments& a, const Tensor& q, const Tensor& k_rows, const std::optional<Tensor>& v_rows,
                           const Tensor& starts, const Tensor& lengths, const std::optional<Tensor>& v_starts,
                           const std::optional<Tensor>& slots) {
  const char* segments = slots ? "N Hkv" : "B Hkv";
  a.floats("k_rows", k_rows, "T D");
  a.same_dtype("k_rows", k_rows, q);
  if (v_rows) {
    a.floats("v_rows", *v_rows, v_starts ? "Tv D" : "T D");
    a.same_dtype("v_rows", *v_rows, q);
  }
  a.bind("Tv", a.size("T"));
  a.ints("starts", starts, segments);
  a.ints("lengths", lengths, segments);
  a.ints("v_starts", v_starts, segments);
  a.ints("slots", slots, "B P");
  a.grouped();
  a.head_dim();
}

inline void check_cached_attention(Arguments& a, const Tensor& q, const Tensor& k_rows, const Tensor& v_rows,
                                   const Tensor& starts, const Tensor& lengths, const Tensor& slots,
                                   const std::optional<Tensor>& evicted, const std::optional<Tensor>& v_starts) {
  a.floats("q", q, "B H Q D");
  check_key_rows(a, q, k_rows, v_rows, starts, lengths, v_starts, slots);
  a.evicted(evicted, "N Hkv W", "N H W");
}

inline Codes codes_of(const Tensor& x) {
  return x.scalar_type() == ScalarType::Char   ? Codes::int8
         : x.scalar_type() == ScalarType::Byte ? Codes::int4
                                               : Codes::fp8;
}

inline void check_quantized_attention(Arguments& a, const Tensor& q, const Tensor& k_codes, const Tensor& v_codes,
                                      const Tensor& k_scales, const Tensor& v_scales, const Tensor& starts,
                                      const Tensor& lengths, const Tensor& slots, const std::optional<Tensor>& k_zeros,
                                      const std::optional<Tensor>& v_zeros, const std::optional<Tensor>& evicted) {
  a.floats("q", q, "B H Q D");
  a.bind("D/2", a.size("D") / 2);
  const char* row = k_codes.scalar_type() == ScalarType::Byte ? "T D/2" : "T D";
  a.tensor("k_codes", k_codes, row, {ScalarType::Char, ScalarType::Byte, ScalarType::Float8_e4m3fn});
  a.contiguous("k_codes", k_codes);
  a.tensor("v_codes", v_codes, row, {k_codes.scalar_type()});
  a.contiguous("v_codes", v_codes);
  a.bind("Tb", (a.size("T") + scale_rows - 1) / scale_rows);
  a.bind("Tv", a.size("T"));
  a.tensor("k_scales", k_scales, "Tb D", {ScalarType::BFloat16});
  a.contiguous("k_scales", k_scales);
  a.tensor("v_scales", v_scales, "T", {ScalarType::BFloat16});
  if (k_zeros.has_value() != v_zeros.has_value()) {
    a.fail("k_zeros and v_zeros go together", k_zeros ? "no v_zeros" : "no k_zeros");
  }
  const bool needs_zeros = codes_of(k_codes) == Codes::int4;
  if (k_zeros.has_value() != needs_zeros) {
    a.fail("k_zeros and v_zeros go with uint8 codes", needs_zeros ? "none" : "some without them");
  }
  if (needs_zeros) {
    a.tensor("k_zeros", *k_zeros, "Tb D", {ScalarType::BFloat16});
    a.contiguous("k_zeros", *k_zeros);
    a.tensor("v_zeros", *v_zeros, "T", {ScalarType::BFloat16});
  }
  a.ints("starts", starts, "N Hkv");
  a.ints("lengths", lengths, "N Hkv");
  a.ints("slots", slots, "B P");
  a.grouped();
  a.head_dim();
  a.evicted(evicted, "N Hkv W", "N H W");
}

inline void check_decode_attention(Arguments& a, const Tensor& q, const Tensor& k_rows, const Tensor& v_rows,
                                   const Tensor& starts, const Tensor& lengths, const std::optional<Tensor>& v_starts,
                                   int64_t longest) {
  a.floats("q", q, "B H 1 D");
  check_key_rows(a, q, k_rows, v_rows, starts, lengths, v_starts, std::nullopt);
  a.bind("N", a.size("B"));
  a.bind("P", 1);
  a.number("longest", longest >= 0, ">= 0", longest);
}

inline void check_dual_chunk_attention(Arguments& a, const Tensor& q, const Tensor& k_rows, const Tensor& v_rows,
                                       const Tensor& starts, const Tensor& lengths, const Tensor& turns, int64_t period,
                                       const std::optional<Tensor>& query_lengths, const std::optional<Tensor>& gains,
                                       const std::optional<Tensor>& chunks, int64_t tile_rows) {
  a.floats("q", q, "B H Q D");
  check_key_rows(a, q, k_rows, v_rows, starts, lengths, std::nullopt, std::nullopt);
  a.bind("N", a.size("B"));
  a.bind("P", 1);
  a.state("turns", turns, "P+1 R");
  const int64_t turning = a.size("R"), clip = a.size("P+1") - 1;
  a.number("R of turns", turning % 2 == 0 && turning <= a.size("D"), "even and <= D", turning);
  a.number("period", period >= 1 && period <= clip, "in 1..P, the position of turns' last row", period);
  a.ints("query_lengths", query_lengths, "B");
  if (gains) {
    a.state("gains", *gains, "B Q");
  }
  a.number("tile_rows", chunks ? tile_rows >= 1 : tile_rows == 0, chunks ? ">= 1 with chunks" : "0 without chunks",
           tile_rows);
  if (chunks) {
    const int64_t rows = a.size("Q");
    a.bind("Nt", rows / tile_rows + (rows % tile_rows != 0));
    a.ints("chunks", chunks, "B Hkv Nt K");
  }
}

inline void check_window_mass(Arguments& a, const Tensor& q_last, const Tensor& lse, const Tensor& k_rows,
                              const Tensor& starts, const Tensor& lengths, const Tensor& slots, int64_t longest) {
  a.floats("q_last", q_last, "B H R D");
  a.state("lse", lse, "B H R");
  check_key_rows(a, q_last, k_rows, std::nullopt, starts, lengths, std::nullopt, slots);
  a.number("longest", longest >= 0, ">= 0", longest);
}

inline void check_merge_states(Arguments& a, const Tensor& outs, const Tensor& lses) {
  a.state("outs", outs, "P B H Q D");
  a.state("lses", lses, "P B H Q");
}

inline void check_query_nll_update(Arguments& a, const Tensor& logits, const Tensor& targets, int64_t first_column,
                                   const Tensor& row_max, const Tensor& row_sum, const Tensor& row_target) {
  a.floats("logits", logits, "X Vt");
  a.ints("targets", targets, "X");
  a.number("first_column", first_column >= 0, ">= 0", first_column);
  a.state("row_max", row_max, "X");
  a.changed();
  a.state("row_sum", row_sum, "X");
  a.changed();
  a.state("row_target", row_target, "X");
  a.changed();
  a.apart();
}

inline void check_chunk_topk(Arguments& a, const Tensor& scores, const Tensor& chunk_ids, const Tensor& slots,
                             const Tensor& best_scores, const Tensor& best_ids, const Tensor& best_slots) {
  a.state("scores", scores, "M");
  a.ints("chunk_ids", chunk_ids, "M");
  a.ints("slots", slots, "M");
  a.state("best_scores", best_scores, "K");
  a.changed();
  a.ints("best_ids", best_ids, "K");
  a.changed();
  a.ints("best_slots", best_slots, "K");
  a.changed();
  a.apart();
}

inline void check_select_tokens(Arguments& a, const Tensor& mass, const Tensor& k, const Tensor& v, int64_t capacity,
                                const std::optional<Tensor>& budgets, const std::optional<Tensor>& key_lengths,
                                int64_t pool, int64_t sink, int64_t recent, const std::optional<Tensor>& protect,
                                const std::optional<Tensor>& evicted) {
  a.floats("k", k, "B Hkv S D");
  a.floats("v", v, "B Hkv S D");
  a.same_dtype("v", v, k);
  a.state("mass", mass, "B H S");
  a.grouped();
  a.number("capacity", capacity >= 1 && capacity <= 8192, "in 1..8192", capacity);
  a.number("pool", pool >= 1 && pool % 2 == 1, "odd and >= 1", pool);
  a.number("sink", sink >= 0, ">= 0", sink);
  a.number("recent", recent >= 0, ">= 0", recent);
  a.ints("budgets", budgets, "B Hkv");
  a.ints("key_lengths", key_lengths, "B Hkv");
  if (protect) {
    a.tensor("protect", *protect, "B S", {ScalarType::Bool});
  }
  a.bind("W", (a.size("S") + 31) / 32);
  a.ints("evicted", evicted, "B Hkv W");
}

}  // namespace pcbench
