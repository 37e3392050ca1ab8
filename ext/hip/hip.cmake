# HIP sources to objects for gfx9, by calling clang: CMake's HIP language knows no layout but ROCm's own.
#
#   PCBENCH_HIP_ARCHITECTURES   what to compile for
#   PCBENCH_HIP_COMPILER        ROCm's clang++, or Debian's clang++-19
# Sets PCBENCH_HIP_WHY_NOT where it cannot; otherwise PCBENCH_HIP_CODE (what a GPU must be able to run) and
# PCBENCH_HIP_BUILT_WITH, and defines pcbench_hip_objects, pcbench_add_hip and the target hip_runtime. Needs torch.cmake.

cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH PCBENCH_EXT)

set(PCBENCH_HIP_ARCHITECTURES gfx90a gfx942 CACHE STRING "AMD architectures to compile for")
set(ROCM_PATH $ENV{ROCM_PATH} CACHE PATH "ROCm, /opt/rocm by default")
if(NOT ROCM_PATH)
  set(ROCM_PATH /opt/rocm)
endif()
find_program(PCBENCH_HIP_COMPILER NAMES clang++ PATHS ${ROCM_PATH}/llvm/bin ${ROCM_PATH}/lib/llvm/bin NO_DEFAULT_PATH)
find_program(PCBENCH_HIP_COMPILER NAMES amdclang++ clang++-19)
# the runtime that torch loaded must be the only one in the process
find_library(PCBENCH_HIP_RUNTIME amdhip64 PATHS ${TORCH_DIR}/lib NO_DEFAULT_PATH)
find_library(PCBENCH_HIP_RUNTIME amdhip64 PATHS ${ROCM_PATH}/lib)
find_path(PCBENCH_HIP_INCLUDE hip/hip_runtime.h PATHS ${ROCM_PATH}/include)

set(PCBENCH_HIP_WHY_NOT "")
foreach(part PCBENCH_HIP_COMPILER PCBENCH_HIP_RUNTIME PCBENCH_HIP_INCLUDE)
  if(NOT ${part})
    set(PCBENCH_HIP_WHY_NOT "${part} was not found; install ROCm, or on Debian clang-19 lld-19 llvm-19 libamdhip64-dev rocm-device-libs")
    return()
  endif()
endforeach()

execute_process(COMMAND ${PCBENCH_HIP_COMPILER} --version OUTPUT_VARIABLE version ERROR_QUIET)
pcbench_refuse_clang(PCBENCH_HIP_WHY_NOT "${PCBENCH_HIP_COMPILER}" "${version}")
if(PCBENCH_HIP_WHY_NOT)
  return()
endif()

# Bitcode of the device libraries. Debian's knows no gfx942: that is one constant.
set(bitcode /usr/lib/x86_64-linux-gnu/amdgcn/bitcode)
if(EXISTS ${ROCM_PATH}/amdgcn/bitcode)
  set(hip_flags --rocm-path=${ROCM_PATH})
elseif(EXISTS ${bitcode}/ockl.bc)
  set(own ${CMAKE_BINARY_DIR}/bitcode)
  set(hip_flags --rocm-path=/usr --rocm-device-lib-path=${own})
  file(COPY ${bitcode}/ DESTINATION ${own} FILES_MATCHING PATTERN "*.bc")
  if(NOT EXISTS ${own}/oclc_isa_version_942.bc)
    cmake_path(GET PCBENCH_HIP_COMPILER PARENT_PATH bin)
    find_program(PCBENCH_LLVM_AS NAMES llvm-as llvm-as-19 HINTS ${bin} /usr/lib/llvm-19/bin)
    file(WRITE ${own}/empty.c "void f(void) {}\n")
    execute_process(
      COMMAND ${PCBENCH_HIP_COMPILER} -x c -target amdgcn-amd-amdhsa -nogpulib -S -emit-llvm -o - ${own}/empty.c
      OUTPUT_VARIABLE ir COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCH "target datalayout = \"[^\"]*\"" layout "${ir}")
    file(WRITE ${own}/isa_942.ll "${layout}\ntarget triple = \"amdgcn-amd-amdhsa\"\n"
         "@__oclc_ISA_version = linkonce_odr protected local_unnamed_addr addrspace(4) constant i32 9402, align 4\n")
    execute_process(COMMAND ${PCBENCH_LLVM_AS} -o ${own}/oclc_isa_version_942.bc ${own}/isa_942.ll COMMAND_ERROR_IS_FATAL ANY)
  endif()
else()
  set(PCBENCH_HIP_WHY_NOT "no device libraries in ${ROCM_PATH}/amdgcn/bitcode or ${bitcode}; install rocm-device-libs")
  return()
endif()

add_library(hip_runtime INTERFACE)
target_link_libraries(hip_runtime INTERFACE ${PCBENCH_HIP_RUNTIME})

set(PCBENCH_HIP_CODE ${PCBENCH_HIP_ARCHITECTURES})
set(PCBENCH_HIP_BUILT_WITH ${PCBENCH_HIP_COMPILER})
list(TRANSFORM PCBENCH_HIP_ARCHITECTURES PREPEND --offload-arch= OUTPUT_VARIABLE hip_architectures)
set(PCBENCH_HIP_FLAGS ${hip_flags} ${hip_architectures} -x hip -std=c++20 -O3 -fPIC -fvisibility=hidden
    -Wall -Wextra -Werror=pass-failed -D__HIP_PLATFORM_AMD__
    -I${PCBENCH_EXT} -I${PCBENCH_EXT}/hip)

# pcbench_hip_objects(objects hip/a.hip device/b.cpp …): of sources in ext, objects for the host with the code of every
# architecture inside.
function(pcbench_hip_objects objects)
  foreach(source ${ARGN})
    set(from ${PCBENCH_EXT}/${source})
    set(to ${CMAKE_CURRENT_BINARY_DIR}/hip_objects/${source}.o)
    cmake_path(GET to PARENT_PATH folder)
    file(MAKE_DIRECTORY ${folder})
    set(compiler ${PCBENCH_HIP_COMPILER})
    if(PCBENCH_CCACHE)
      list(PREPEND compiler ${PCBENCH_CCACHE})
    endif()
    add_custom_command(
      OUTPUT ${to}
      COMMAND ${compiler} ${PCBENCH_HIP_FLAGS} -MD -MF ${to}.d -c ${from} -o ${to}
      DEPENDS ${from} DEPFILE ${to}.d COMMAND_EXPAND_LISTS VERBATIM
      COMMENT "HIP ${source}")
    list(APPEND made ${to})
  endforeach()
  set(${objects} ${made} PARENT_SCOPE)
endfunction()

# The library of the GPU ops: kernels by clang, the glue by the host's compiler.
function(pcbench_add_hip)
  file(GLOB kernels RELATIVE ${PCBENCH_EXT} CONFIGURE_DEPENDS ${PCBENCH_EXT}/hip/*.hip ${PCBENCH_EXT}/device/*.cpp)
  pcbench_hip_objects(objects ${kernels})
  file(GLOB glue CONFIGURE_DEPENDS ${PCBENCH_EXT}/gpu/*.cpp ${PCBENCH_EXT}/hip/*.cpp)
  add_library(pcbench_hip MODULE ${glue} ${objects})
  target_include_directories(pcbench_hip PRIVATE ${PCBENCH_EXT})
  target_compile_options(pcbench_hip PRIVATE -Wall -Wextra)
  target_link_libraries(pcbench_hip PRIVATE torch_stable hip_runtime ${CMAKE_DL_LIBS})
  target_link_options(pcbench_hip PRIVATE -Wl,--no-undefined)
endfunction()
