// The mass of keys on HIP.
#include "mass.h"

#include "gpu/attention.h"

namespace pcbench::device {

const char* calibrated_attention_mass_fast(const CalibratedAttention& p, Stream stream) {
  return mass::start_calibrated_mass<mass::MfmaMassTile>(p, stream);
}

const char* window_mass_fast(const WindowMass& p, Stream stream) {
  return mass::start_window_mass<mass::MfmaMassTile>(p, stream);
}

}  // namespace pcbench::device
