// pcbench._build_info: what this build was made with and for, and what the CPU can do.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <vector>

namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  for (size_t from = 0; from < list.size();) {
    size_t to = std::min(list.find(',', from), list.size());
    items.push_back(list.substr(from, to - from));
    from = to + 1;
  }
  return items;
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> features;
#if defined(__x86_64__)
#define PCBENCH_FEATURE(name)         \
  if (__builtin_cpu_supports(name)) { \
    features.push_back(name);         \
  }
  PCBENCH_FEATURE("sse4.2")
  PCBENCH_FEATURE("avx")
  PCBENCH_FEATURE("avx2")
  PCBENCH_FEATURE("fma")
  PCBENCH_FEATURE("f16c")
  PCBENCH_FEATURE("avx512f")
  PCBENCH_FEATURE("avx512dq")
  PCBENCH_FEATURE("avx512bw")
  PCBENCH_FEATURE("avx512vl")
  PCBENCH_FEATURE("avx512vnni")
  PCBENCH_FEATURE("avx512bf16")
  PCBENCH_FEATURE("amx-tile")
  PCBENCH_FEATURE("amx-bf16")
#undef PCBENCH_FEATURE
#endif
  return features;
}

}  // namespace

PYBIND11_MODULE(_build_info, m) {
  using Text = std::map<std::string, std::string>;
  m.doc() = "What this build was made with and for.";
  m.attr("backends") = split(PCBENCH_BACKENDS);
  m.attr("cpu_isas") = split(PCBENCH_CPU_ISAS);
  const std::string gpu = PCBENCH_GPU, why_not = PCBENCH_GPU_WHY_NOT;
  const bool has_gpu = gpu != "cpu" && why_not.empty();
  // backend -> why it was asked for and not built
  m.attr("why_not") = why_not.empty() ? Text{} : Text{{gpu, why_not}};
  Text compilers{{"cxx", PCBENCH_CXX_COMPILER}};
  std::map<std::string, std::vector<std::string>> arch_lists{{"cuda", {}}, {"hip", {}}};
  if (has_gpu) {
    compilers[gpu] = PCBENCH_GPU_COMPILER;
    arch_lists[gpu] = split(PCBENCH_GPU_CODE);
  }
  m.attr("compilers") = compilers;
  m.attr("flags") = Text{{"cxx", PCBENCH_CXX_FLAGS}};
  // sm_N and gfxN: machine code; compute_N: PTX for sm_N and later
  m.attr("arch_lists") = arch_lists;
  m.attr("torch_version") = PCBENCH_TORCH;
  // cpu, cuda or hip: what that torch is for
  m.attr("torch_flavour") = PCBENCH_TORCH_FLAVOUR;
  m.attr("torch_target") = PCBENCH_TORCH_TARGET;
  // "sm_80 name" -> registers, spills and shared memory; empty where the machine that built had no tool to read them
  m.attr("kernel_resources") = std::map<std::string, std::map<std::string, int>>{
#include "kernel_resources.inc"
  };
  m.def("cpu_features", &cpu_features, "Instruction sets of this CPU that kernels may ask for.");
}
