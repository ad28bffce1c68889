# LibTorch::torch, from LIBTORCH_ROOT (CMake variable or environment: a folder with include/ and lib/, a wheel's torch package or an
# unpacked LibTorch), else from the torch wheel in the project's virtual environment, .venv-cuda or .venv. Sets LibTorch_VERSION.
# The wheel's own TorchConfig.cmake insists on a CUDA toolkit even where nothing uses CUDA; imported targets need none.
if(NOT LIBTORCH_ROOT AND DEFINED ENV{LIBTORCH_ROOT})
  set(LIBTORCH_ROOT $ENV{LIBTORCH_ROOT})
endif()
if(NOT LIBTORCH_ROOT)
  set(_environment .venv)
  if(SWITCHYARD_WITH_CUDA AND EXISTS ${PROJECT_SOURCE_DIR}/.venv-cuda)
    set(_environment .venv-cuda)
  endif()
  file(GLOB _wheels ${PROJECT_SOURCE_DIR}/${_environment}/lib/python3*/site-packages/torch)
  if(_wheels)
    list(GET _wheels 0 LIBTORCH_ROOT)
  endif()
endif()
set(LIBTORCH_ROOT "${LIBTORCH_ROOT}" CACHE PATH "LibTorch: a folder with include/ and lib/")

# Not cached: with another LIBTORCH_ROOT none of them may stay behind.
find_path(LIBTORCH_INCLUDE_DIR torch/types.h HINTS ${LIBTORCH_ROOT}/include/torch/csrc/api/include NO_DEFAULT_PATH NO_CACHE)
find_library(LIBTORCH_CPU_LIBRARY torch_cpu HINTS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
find_library(LIBTORCH_C10_LIBRARY c10 HINTS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
set(_required LIBTORCH_CPU_LIBRARY LIBTORCH_C10_LIBRARY LIBTORCH_INCLUDE_DIR)
# Streams and events of CUDA. It needs the CUDA runtime only, so that what uses it can be built and linked without torch_cuda.
find_library(LIBTORCH_C10_CUDA_LIBRARY c10_cuda HINTS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
if(SWITCHYARD_WITH_CUDA)
  find_library(LIBTORCH_CUDA_LIBRARY torch_cuda HINTS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
  list(APPEND _required LIBTORCH_CUDA_LIBRARY LIBTORCH_C10_CUDA_LIBRARY)
endif()
foreach(_header torch/csrc/api/include/torch/version.h torch/headeronly/version.h)
  if(EXISTS ${LIBTORCH_ROOT}/include/${_header})
    file(STRINGS ${LIBTORCH_ROOT}/include/${_header} _lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
    if(_numbers)
      string(REPLACE ";" "." LibTorch_VERSION "${_numbers}")
    endif()
  endif()
endforeach()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS ${_required} LibTorch_VERSION VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "Run scripts/setup.sh, or point LIBTORCH_ROOT at a LibTorch (the CUDA preset: scripts/setup.sh --cuda).")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LIBTORCH_C10_LIBRARY})
  add_library(LibTorch::torch SHARED IMPORTED)
  # -idirafter: the wheel ships its own fmt and protobuf headers, which must not hide the system's.
  set_target_properties(LibTorch::torch PROPERTIES
    IMPORTED_LOCATION ${LIBTORCH_CPU_LIBRARY}
    INTERFACE_LINK_LIBRARIES LibTorch::c10
    INTERFACE_COMPILE_OPTIONS "SHELL:-idirafter ${LIBTORCH_ROOT}/include;SHELL:-idirafter ${LIBTORCH_ROOT}/include/torch/csrc/api/include")
  if(LIBTORCH_C10_CUDA_LIBRARY)
    add_library(LibTorch::c10_cuda SHARED IMPORTED)
    set_target_properties(LibTorch::c10_cuda PROPERTIES IMPORTED_LOCATION ${LIBTORCH_C10_CUDA_LIBRARY} INTERFACE_LINK_LIBRARIES LibTorch::c10)
  endif()
  if(SWITCHYARD_WITH_CUDA)
    # Nothing of ours names a symbol of torch_cuda: it registers its kernels when it is loaded, so the linker must keep it.
    set_property(TARGET LibTorch::torch APPEND PROPERTY INTERFACE_LINK_LIBRARIES
      "-Wl,--no-as-needed" ${LIBTORCH_CUDA_LIBRARY} ${LIBTORCH_C10_CUDA_LIBRARY} "-Wl,--as-needed")
  endif()
endif()
