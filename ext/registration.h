// How a library registers its ops: under which namespace and dispatch key, which test builds choose, and so that their
// errors begin with their names.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstddef>
#include <stdexcept>
#include <string>

#ifndef PCBENCH_NAMESPACE
#define PCBENCH_NAMESPACE pcbench
#endif
#ifndef PCBENCH_KEY
#define PCBENCH_KEY CUDA
#endif

// torch pastes and quotes its arguments as they stand; these expand them first
#define PCBENCH_LIBRARY(space, m) STABLE_TORCH_LIBRARY(space, m)
#define PCBENCH_LIBRARY_IMPL(space, key, m) STABLE_TORCH_LIBRARY_IMPL(space, key, m)
#define PCBENCH_QUOTE(x) #x
#define PCBENCH_QUOTED(x) PCBENCH_QUOTE(x)

namespace pcbench {

template <std::size_t N>
struct OpName {
  char text[N];

  constexpr OpName(const char (&name)[N]) {
    for (std::size_t i = 0; i < N; ++i) {
      text[i] = name[i];
    }
  }
};

template <OpName name, void (*boxed)(StableIValue*, uint64_t, uint64_t)>
void named_op(StableIValue* stack, uint64_t arguments, uint64_t outputs) {
  try {
    boxed(stack, arguments, outputs);
  } catch (const std::exception& error) {
    const std::string own = std::string(name.text) + ": ", text = error.what();
    throw std::runtime_error(text.starts_with(own) ? text : own + text);
  }
}

}  // namespace pcbench

// The function of an op's name, in a library `m`.
#define PCBENCH_OP(m, op) m.impl(#op, &pcbench::named_op<#op, &TORCH_BOX(&op)>)
