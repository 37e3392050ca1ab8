// The attention kernels of bf16 inputs and head dim 128.
#include "attention.cuh"
#include "cached.cuh"

namespace pcbench::device {

template void launch_calibrated<bf16, 128>(const CalibratedLaunch&, Stream);
template void launch_cached<bf16, 128>(const CachedLaunch&, Stream);

}  // namespace pcbench::device
