// The kernels that exist once for each instruction set.
#pragma once

#include <cstdint>

#include "params.h"

namespace pcbench {

// `scratch` is 64-byte aligned and holds what the function of the same name before it asked for, in floats.
struct Kernels {
  int64_t (*calibrated_attention_scratch)(const CalibratedAttention&);
  void (*calibrated_attention)(const CalibratedAttention&, float* scratch);
  int64_t (*key_mass_scratch)(const CalibratedAttention&);
  void (*key_mass)(const CalibratedAttention&, float* scratch);
  int64_t (*cached_attention_scratch)(const CachedAttention&);
  void (*cached_attention)(const CachedAttention&, float* scratch);
  int64_t (*quantized_attention_scratch)(const CachedAttention&);
  void (*quantized_attention)(const CachedAttention&, float* scratch);
  int64_t (*dual_chunk_attention_scratch)(const DualChunkAttention&);
  void (*dual_chunk_attention)(const DualChunkAttention&, float* scratch);
  int64_t (*window_mass_scratch)(const WindowMass&);
  void (*window_mass)(const WindowMass&, float* scratch);
  void (*merge_states)(const MergeStates&);
  void (*query_nll_update)(const QueryNll&);
  // null without an instruction that multiplies pairs of bfloat16
  int64_t (*logits_scratch)(const Logits&);
  void (*logits)(const Logits&, float* scratch);
  int64_t (*select_indices_scratch)(const SelectTokens&);
  void (*select_indices)(const SelectTokens&, int64_t pair, float* scratch);
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}
namespace amx {
extern const Kernels kernels;
}

}  // namespace pcbench
