// The attention kernels of half inputs and head dim 128.
#include "attention.cuh"
#include "cached.cuh"

namespace pcbench::device {

template void launch_calibrated<half, 128>(const CalibratedLaunch&, Stream);
template void launch_cached<half, 128>(const CachedLaunch&, Stream);

}  // namespace pcbench::device
