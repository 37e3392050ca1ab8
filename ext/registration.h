// Under which namespace and dispatch key a library registers its ops; test builds choose others.
#pragma once

#include <torch/csrc/stable/library.h>

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
