// The attention kernels of bf16 inputs and head dim 64.
#include "attention.cuh"
#include "cached.cuh"
#include "dual_chunk.cuh"

namespace pcbench::device {

template void launch_calibrated<bf16, 64>(const CalibratedLaunch&, Stream);
template void launch_cached<bf16, 64>(const CachedLaunch&, Stream);
template void launch_dual_chunk<bf16, 64>(const DualChunkLaunch&, Stream);

}  // namespace pcbench::device
