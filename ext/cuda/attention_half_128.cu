// The attention kernels of half inputs and head dim 128.
#include "attention.cuh"
#include "cached.cuh"
#include "dual_chunk.cuh"

namespace pcbench::device {

template void launch_calibrated<half, 128>(const CalibratedLaunch&, Stream);
template void launch_cached<half, 128>(const CachedLaunch&, Stream);
template void launch_dual_chunk<half, 128>(const DualChunkLaunch&, Stream);

}  // namespace pcbench::device
