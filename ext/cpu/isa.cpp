#include "cpu/isa.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace pcbench {
namespace {

struct Isa {
  const char* name;
  const Kernels* kernels;
  bool (*present)();
};

// best first
const Isa isas[] = {
#ifdef PCBENCH_X86
    {"avx512", &avx512::kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
     }},
    {"avx2", &avx2::kernels, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {"portable", &portable::kernels, [] { return true; }},
};

std::string present_names() {
  std::string names;
  for (const Isa& isa : isas) {
    if (isa.present()) {
      names += (names.empty() ? "" : ", ") + std::string(isa.name);
    }
  }
  return names;
}

struct Choice {
  const Isa* isa = nullptr;
  std::string error;

  explicit Choice(const char* name) {
    for (const Isa& x : isas) {
      bool wanted = !name || !*name || std::strcmp(name, x.name) == 0;
      if (!isa && wanted && x.present()) {
        isa = &x;
      }
    }
    if (!isa) {
      error = "PCBENCH_CPU_ISA: must be one of " + present_names() + " on this CPU, got " + name + "; unset it";
    }
  }
};

Choice& choice() {
  static Choice chosen(std::getenv("PCBENCH_CPU_ISA"));
  return chosen;
}

}  // namespace

const Kernels& kernels() {
  const Choice& chosen = choice();
  if (!chosen.isa) {
    throw std::runtime_error(chosen.error);
  }
  return *chosen.isa->kernels;
}

}  // namespace pcbench

extern "C" {

// The instruction set in use; null where none is.
[[gnu::visibility("default")]] const char* pcbench_cpu_isa() {
  return pcbench::choice().isa ? pcbench::choice().isa->name : nullptr;
}

// Why no instruction set is in use; null where one is.
[[gnu::visibility("default")]] const char* pcbench_cpu_isa_error() {
  return pcbench::choice().isa ? nullptr : pcbench::choice().error.c_str();
}

// Chooses anew, null or "" for the best; returns whether it can run here. Not while an op runs.
[[gnu::visibility("default")]] int pcbench_cpu_use_isa(const char* name) {
  pcbench::Choice chosen(name);
  if (chosen.isa) {
    pcbench::choice() = chosen;
  }
  return chosen.isa != nullptr;
}
}
