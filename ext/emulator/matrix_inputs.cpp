#include "matrix_inputs.h"

namespace pcbench::emulator {
namespace {

bool flushes = false;

}  // namespace

bool flushes_subnormal_inputs() {
  return flushes;
}

}  // namespace pcbench::emulator

extern "C" __attribute__((visibility("default"))) void pcbench_emulator_flush_subnormal_inputs(bool flush) {
  pcbench::emulator::flushes = flush;
}
