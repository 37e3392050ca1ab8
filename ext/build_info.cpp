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
  PCBENCH_FEATURE("avx512f")
  PCBENCH_FEATURE("avx512dq")
  PCBENCH_FEATURE("avx512bw")
  PCBENCH_FEATURE("avx512vl")
  PCBENCH_FEATURE("avx512vnni")
  PCBENCH_FEATURE("avx512bf16")
#undef PCBENCH_FEATURE
#endif
  return features;
}

}  // namespace

PYBIND11_MODULE(_build_info, m) {
  m.doc() = "What this build was made with and for.";
  m.attr("backends") = std::vector<std::string>{"cpu"};
  m.attr("cpu_isas") = split(PCBENCH_CPU_ISAS);
  m.attr("compilers") = std::map<std::string, std::string>{{"cxx", PCBENCH_CXX_COMPILER}};
  m.attr("flags") = std::map<std::string, std::string>{{"cxx", PCBENCH_CXX_FLAGS}};
  m.attr("arch_lists") = std::map<std::string, std::vector<std::string>>{{"cuda", {}}, {"hip", {}}};
  m.attr("torch_version") = PCBENCH_TORCH;
  // cpu, cuda or hip: what that torch is for
  m.attr("torch_flavour") = PCBENCH_TORCH_FLAVOUR;
  m.attr("torch_target") = PCBENCH_TORCH_TARGET;
  // kernel -> registers, spills, shared bytes of device kernels
  m.attr("kernel_resources") = pybind11::dict();
  m.def("cpu_features", &cpu_features, "Instruction sets of this CPU that kernels may ask for.");
}
