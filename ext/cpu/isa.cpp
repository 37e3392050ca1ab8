#include "cpu/isa.h"

#ifdef PCBENCH_X86
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

#ifdef PCBENCH_X86
[[maybe_unused]] bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

[[maybe_unused]] bool has_amx() {
  // Linux lets a process use tiles that has asked for them (arch_prctl(2), ARCH_REQ_XCOMP_PERM of XTILEDATA)
  return has_avx512_bf16() && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}
#endif

// best first
const Isa isas[] = {
#ifdef PCBENCH_EMULATED_AMX
    {"amx", &amx::kernels, has_avx512_bf16},
};
#else
#ifdef PCBENCH_X86
    {"amx", &amx::kernels, has_amx},
    {"avx512_bf16", &avx512_bf16::kernels, has_avx512_bf16},
    {"avx512", &avx512::kernels, has_avx512},
    {"avx2", &avx2::kernels, has_avx2},
#endif
    {"portable", &portable::kernels, [] { return true; }},
};
#endif

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

// The instruction sets that can run here, best first.
[[gnu::visibility("default")]] const char* pcbench_cpu_isas() {
  static const std::string names = pcbench::present_names();
  return names.c_str();
}

// Why no instruction set is in use; null where one is.
[[gnu::visibility("default")]] const char* pcbench_cpu_isa_error() {
  return pcbench::choice().isa ? nullptr : pcbench::choice().error.c_str();
}

// Whether the instruction set in use has `logits`; not where none is in use.
[[gnu::visibility("default")]] int pcbench_cpu_has_logits() {
  return pcbench::choice().isa && pcbench::choice().isa->kernels->logits;
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
