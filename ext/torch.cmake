# The installed torch: TORCH_DIR, TORCH_VERSION, TORCH_FLAVOUR (cpu, cuda or hip), TORCH_CUDA (its CUDA, empty for
# another flavour) and the target torch_stable.
# Torch's own CMake package asks for every toolkit that torch was built with; its headers and one library are enough.

set(find_torch "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])")
# under build isolation torch lives in the environment that called pip, which -E uncovers
foreach(flags "-c" "-Ec")
  execute_process(
    COMMAND ${Python_EXECUTABLE} ${flags} "${find_torch}"
    OUTPUT_VARIABLE TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    break()
  endif()
endforeach()
if(failed)
  message(FATAL_ERROR "pcbench: the build needs torch>=2.10, got none in ${Python_EXECUTABLE}; install torch first")
endif()

execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import runpy, sys; v = runpy.run_path(sys.argv[1]); print(v['__version__'], 'cuda' if v['cuda'] else 'hip' if v['hip'] else 'cpu', v['cuda'] or '', sep=';')"
          ${TORCH_DIR}/version.py
  OUTPUT_VARIABLE torch_facts OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(GET torch_facts 0 TORCH_VERSION)
list(GET torch_facts 1 TORCH_FLAVOUR)
list(GET torch_facts 2 TORCH_CUDA)

# the stable ABI of 2.10: one binary serves every later torch
set(TORCH_TARGET_VERSION 0x020a000000000000)

add_library(torch_stable INTERFACE)
target_include_directories(torch_stable SYSTEM INTERFACE ${TORCH_DIR}/include)
target_compile_definitions(torch_stable INTERFACE TORCH_TARGET_VERSION=${TORCH_TARGET_VERSION})
target_link_libraries(torch_stable INTERFACE ${TORCH_DIR}/lib/libtorch_cpu.so)
