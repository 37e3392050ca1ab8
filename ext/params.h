// What a launch needs, in plain structs: no torch here. Strides are in elements; the last dimension is contiguous.
//
// Letters: B batch rows, H query heads, Hkv kv heads, Q query rows, S keys, D head dim, W words of eviction bits,
// N slots of a store, P slots a row reads or parts of an attention, T rows of a store, Tv those of its values, L keys
// of the longest segment, R rows of a window or channels that turn, X rows of logits, Vt columns of a vocabulary tile,
// Nt tiles of query rows, K chunks listed for each, Tb blocks of rows of a store.
#pragma once

#include <cstdint>

namespace pcbench {

enum class Float : int32_t { f32, bf16, f16 };

// A tensor of a Float type: leading strides, outermost first.
struct Floats {
  void* data;
  int64_t strides[4];
};

// A tensor of int32: leading strides, outermost first.
struct Ints {
  const int32_t* data;
  int64_t strides[2];
};

// What key_mass has no use for is null; its lse is given.
struct CalibratedAttention {
  int64_t batch, heads, kv_heads, rows, keys, dim;
  Float dtype;
  Floats q;            // [B, H, Q, D] of dtype
  Floats k;            // [B, Hkv, S, D] of dtype
  Floats v = {};       // [B, Hkv, S, D] of dtype
  float scale;         // multiplies the scores
  bool causal;         // bottom-right aligned
  Ints query_lengths;  // [B], may be null
  Ints key_lengths;    // [B, Hkv], may be null
  Ints evicted = {};   // [B, Hkv|H, W], may be null
  int64_t evicted_heads = 0, words = 0;
  int64_t mass_rows;
  Floats out_in = {};   // [B, H, Q, D] float32, may be null
  Floats lse_in = {};   // [B, H, Q] float32, null as out_in
  void* out = nullptr;  // [B, H, Q, D] of out_dtype, contiguous
  Float out_dtype = {};
  float* lse;   // [B, H, Q], contiguous
  float* mass;  // [B, H, S], contiguous; null without mass_rows
};

// What quantised rows hold: int8 −127…127, two of 0…15 in a byte (channel d below 2^4, d + D/2 above), or e4m3fn.
enum class Codes : int32_t { none, int8, int4, fp8 };

// rows of a store whose keys share a channel's scale
constexpr int64_t scale_rows = 64;

// Scales of quantised rows, bfloat16: an element is code·scale + zero.
struct Scales {
  Codes codes = Codes::none;
  Floats k = {}, v = {};              // [Tb, D], contiguous, and [T]
  Floats k_zeros = {}, v_zeros = {};  // the same, of int4; null otherwise
};

// The segment of (slot n, kv-head h) is the lengths[n, h] rows from starts[n, h]; its values begin at v_starts[n, h],
// or where its keys do.
struct KeyRows {
  int64_t slots_in_store, kv_heads, dim, stored_rows, value_rows;
  Float dtype;
  Floats k_rows, v_rows;  // [T, D] and [Tv, D] of dtype; or codes of a byte, [T, D|D/2], contiguous
  Ints starts, lengths;   // [N, Hkv]
  Ints v_starts;          // [N, Hkv], may be null
  int64_t batch, listed;
  Ints slots;  // [B, P], −1 unused; null: batch row b reads slot b alone
  bool causal_last;
  Scales scales = {};  // of codes
};

struct CachedAttention {
  KeyRows keys;
  int64_t heads, rows;
  Floats q;  // [B, H, Q, D] of keys.dtype
  float scale;
  void* out;          // [B, H, Q, D] of keys.dtype, contiguous
  float* lse;         // [B, H, Q], contiguous
  Ints evicted = {};  // [N, Hkv|H, W], may be null
  int64_t evicted_heads = 0, words = 0;
  // of decode_attention: one row, one listed slot; null otherwise
  float* mass = nullptr;               // [B, Hkv, L], contiguous
  float* scores = nullptr;             // [B, H, score_row], kept on the way, in nats
  int64_t longest = 0, score_row = 0;  // L, and L filled up to full vectors: those may be written and read as a whole
};

// A tensor [B, Hkv, Nt, K] of int32: leading strides, outermost first.
struct TileLists {
  const int32_t* data;
  int64_t strides[3];
};

struct DualChunkAttention {
  KeyRows keys;  // one segment a batch row
  int64_t heads, rows;
  Floats q;  // [B, H, Q, D] of keys.dtype
  float scale;
  int64_t period, clip, turning;  // s, the position of the last turn, R
  Floats turns;                   // [clip + 1, R] float32: R/2 cosines, then R/2 sines
  bool interleaved;               // pairs (0, 1), (2, 3), …; otherwise (c, c + R/2)
  Ints query_lengths;             // [B], may be null
  Floats gains;                   // [B, Q] float32, may be null
  TileLists chunks;               // [B, Hkv, Nt, K], −1 unused; null without chunks and where K is 0
  int64_t tile_rows, listed;      // rows of a tile, 0 without chunks; K
  void* out;                      // [B, H, Q, D] of keys.dtype, contiguous
  float* lse;                     // [B, H, Q], contiguous
};

struct WindowMass {
  KeyRows keys;  // without v_rows
  int64_t heads, rows, longest;
  Floats q;    // [B, H, R, D] of keys.dtype
  Floats lse;  // [B, H, R] float32
  float scale;
  float* mass;  // [B, P, H, L], contiguous
};

struct MergeStates {
  int64_t parts, batch, heads, rows, dim;
  Floats outs;  // [P, B, H, Q, D] float32
  Floats lses;  // [P, B, H, Q] float32
  float* out;   // [B, H, Q, D], contiguous
  float* lse;   // [B, H, Q], contiguous
};

struct QueryNll {
  int64_t rows, columns, first_column;
  Float dtype;
  Floats logits;      // [X, Vt] of dtype
  Ints targets;       // [X]
  float* row_max;     // [X], changed
  float* row_sum;     // [X], changed
  float* row_target;  // [X], changed
};

struct Logits {
  int64_t rows, columns, depth;
  Floats a;        // [X, E] bfloat16
  Floats weights;  // [Vt, E] bfloat16
  float* out;      // [X, Vt], contiguous
};

struct SelectTokens {
  int64_t batch, kv_heads, group, keys, row_bytes, itemsize;
  Floats mass;                // [B, Hkv·group, S] float32
  Floats k, v;                // [B, Hkv, S, D] of any dtype
  Ints budgets, key_lengths;  // [B, Hkv], may be null
  const bool* protect;        // [B, S], may be null
  int64_t protect_batch;      // stride
  Ints evicted;               // [B, Hkv, W], may be null
  int64_t capacity, pool, sink, recent;
  void* k2;          // [B, Hkv, C, D], contiguous
  void* v2;          // [B, Hkv, C, D], contiguous
  int32_t* index;    // [B, Hkv, C], contiguous
  int32_t* lengths;  // [B, Hkv], contiguous
};

struct ChunkTopk {
  int64_t scored, kept;
  const float* scores;       // [M]
  const int32_t* chunk_ids;  // [M]
  const int32_t* slots;      // [M]
  float* best_scores;        // [K], changed
  int32_t* best_ids;         // [K], changed
  int32_t* best_slots;       // [K], changed
  int32_t* freed;            // [M]
};

}  // namespace pcbench
