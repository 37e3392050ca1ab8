# CUDA sources by nvcc.
#
#   PCBENCH_CUDA_ARCHITECTURES   what to compile for; `80` is code for sm_80 and PTX of compute_80
# Sets PCBENCH_CUDA_WHY_NOT where it cannot; otherwise PCBENCH_CUDA_CODE (what a GPU must be able to run) and
# PCBENCH_CUDA_BUILT_WITH, and defines pcbench_add_cuda. Needs torch.cmake.

set(PCBENCH_CUDA_ARCHITECTURES 80 90-real CACHE STRING "NVIDIA architectures to compile for, as CMake writes them")
foreach(architecture ${PCBENCH_CUDA_ARCHITECTURES})
  if(NOT architecture MATCHES "^[0-9]")
    message(FATAL_ERROR "PCBENCH_CUDA_ARCHITECTURES: must be numbers such as 80 and 90-real, got ${architecture}")
  endif()
endforeach()
file(GLOB toolkits /usr/local/cuda*/bin)
find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDACXX ENV CUDA_HOME PATH_SUFFIXES bin PATHS ${toolkits})

set(PCBENCH_CUDA_WHY_NOT "")
if(NOT CMAKE_CUDA_COMPILER)
  set(PCBENCH_CUDA_WHY_NOT "nvcc was not found; install the CUDA toolkit, or put its bin folder into PATH")
  return()
endif()

set(CMAKE_CUDA_ARCHITECTURES ${PCBENCH_CUDA_ARCHITECTURES})
enable_language(CUDA)
set(PCBENCH_CUDA_BUILT_WITH "nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
pcbench_refuse_nvcc(PCBENCH_CUDA_WHY_NOT "${CMAKE_CUDA_COMPILER_VERSION}" "${TORCH_CUDA}")
if(PCBENCH_CUDA_WHY_NOT)
  return()
endif()
set(PCBENCH_CUDA_CODE "")
foreach(architecture ${PCBENCH_CUDA_ARCHITECTURES})
  string(REGEX MATCH "^[0-9]+" number ${architecture})
  if(NOT architecture MATCHES "-virtual$")
    list(APPEND PCBENCH_CUDA_CODE sm_${number})
  endif()
  if(NOT architecture MATCHES "-real$")
    list(APPEND PCBENCH_CUDA_CODE compute_${number})
  endif()
endforeach()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  # CMake before 3.26 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

# The library of the GPU ops: kernels by nvcc, the glue by the host's compiler.
function(pcbench_add_cuda)
  file(GLOB kernels CONFIGURE_DEPENDS cuda/*.cu device/*.cpp)
  file(GLOB glue CONFIGURE_DEPENDS gpu/*.cpp cuda/*.cpp)
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CUDA)
  add_library(pcbench_cuda MODULE ${glue} ${kernels})
  target_include_directories(pcbench_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_include_directories(pcbench_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${CMAKE_CURRENT_SOURCE_DIR}/cuda>)
  target_compile_options(pcbench_cuda PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall$<SEMICOLON>-Wextra>)
  set_target_properties(pcbench_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  target_link_libraries(pcbench_cuda PRIVATE torch_stable ${CMAKE_DL_LIBS})
  target_link_options(pcbench_cuda PRIVATE -Wl,--no-undefined)
endfunction()
