// Warp collectives for platform.h, ptx.h and gcn.h.
#pragma once

#include <type_traits>

#include "block.h"

namespace pcbench::emulator {

// Brings `in` together with the other lanes' and returns this lane's result. `act` is a lambda without captures,
// act(const In& in(lane), Out& out(lane), lanes): it runs once for the warp, e.g.
//   collective<float>("sum", x, [](auto in, auto out, int lanes) {
//     for (int i = 0; i < lanes; ++i) { for (int j = 0; j < lanes; ++j) { out(i) += in(j); } } });
template <class Out, class In, class F>
Out collective(const char* name, const In& in, F) {
  static_assert(std::is_empty_v<F>, "what differs between lanes goes into the operand");
  Out out{};
  block().collective(name, &in, &out, [](const void* const* ins, void* const* outs, int lanes) {
    auto in_of = [ins](int lane) -> const In& { return *static_cast<const In*>(ins[lane]); };
    auto out_of = [outs](int lane) -> Out& { return *static_cast<Out*>(outs[lane]); };
    F{}(in_of, out_of, lanes);
  });
  return out;
}

}  // namespace pcbench::emulator
