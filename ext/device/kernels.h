// The portable kernels, as the glue calls them. Each equals the function of pcbench.reference of its name.
//
// `scratch` is device memory of the bytes that the function of the same name before it asks for, 16-byte aligned.
#pragma once

#include "gpu/stream.h"
#include "params.h"

namespace pcbench::device {

void merge_states(const MergeStates& p, Stream stream);

void query_nll_update(const QueryNll& p, Stream stream);

int64_t chunk_topk_scratch(const ChunkTopk& p);
void chunk_topk(const ChunkTopk& p, void* scratch, Stream stream);

int64_t select_tokens_scratch(const SelectTokens& p);
void select_tokens(const SelectTokens& p, void* scratch, Stream stream);

void window_mass(const WindowMass& p, Stream stream);

// mass of calibrated_attention and key_mass, from the lse that an attention kernel wrote.
void calibrated_attention_mass(const CalibratedAttention& p, Stream stream);

// out and lse, for what the tensor-core kernels refuse.
void calibrated_attention_portable(const CalibratedAttention& p, Stream stream);

// mass of decode_attention, from the scores and the lse that an attention kernel wrote.
void decode_mass(const CachedAttention& p, Stream stream);

int64_t cached_attention_portable_scratch(const CachedAttention& p);
void cached_attention_portable(const CachedAttention& p, void* scratch, Stream stream);

// Over codes; scratch as of cached_attention_portable.
void quantized_attention(const CachedAttention& p, void* scratch, Stream stream);

int64_t dual_chunk_attention_portable_scratch(const DualChunkAttention& p);
void dual_chunk_attention_portable(const DualChunkAttention& p, void* scratch, Stream stream);

// Bytes of what splits of the keys leave of each row: [B·Hkv, Q·G, splits, D + 2] floats, which are out before
// normalisation, the maximum in nats and the sum.
inline int64_t partial_bytes(const KeyRows& keys, int64_t heads, int64_t rows, int64_t splits) {
  return keys.batch * heads * rows * splits * (keys.dim + 2) * static_cast<int64_t>(sizeof(float));
}

// out and lse from what the splits left.
void merge_dual_chunk_splits(const DualChunkAttention& p, int32_t splits, float* partials, Stream stream);

}  // namespace pcbench::device
