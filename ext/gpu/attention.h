// What the glue calls for attention: the tensor-core kernels of the platform.
#pragma once

#include "gpu/stream.h"
#include "params.h"

namespace pcbench::device {

// Bytes of device memory that the function of the same name needs; it is 16-byte aligned.
int64_t calibrated_attention_scratch(const CalibratedAttention& p);
int64_t cached_attention_scratch(const CachedAttention& p);
int64_t dual_chunk_attention_scratch(const DualChunkAttention& p);

// Writes out and lse, not mass, for which cached_attention keeps scores. Null, or why this dtype or shape has no
// tensor-core kernel: nothing was started then.
const char* calibrated_attention_fast(const CalibratedAttention& p, void* scratch, Stream stream);
const char* cached_attention_fast(const CachedAttention& p, void* scratch, Stream stream);
const char* dual_chunk_attention_fast(const DualChunkAttention& p, void* scratch, Stream stream);

// Writes mass from the lse that attention wrote; the same promise.
const char* calibrated_attention_mass_fast(const CalibratedAttention& p, Stream stream);
const char* window_mass_fast(const WindowMass& p, Stream stream);

}  // namespace pcbench::device
