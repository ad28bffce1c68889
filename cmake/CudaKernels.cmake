# What the CUDA kernels are compiled with (nvcc and its headers) and linked to: CUDA::libraries, the runtime and cuBLAS. All of the version that
# torch_cuda was built for where its wheel is: scripts/setup.sh --cuda puts nvcc beside it. A toolkit's only where LibTorch brings none.
file(GLOB cuda_of_wheel ${LIBTORCH_ROOT}/../nvidia/cu[0-9]*)
find_program(nvcc nvcc NO_CACHE PATHS ${cuda_of_wheel}/bin NO_DEFAULT_PATH)
find_program(nvcc nvcc NO_CACHE PATHS /usr/local/cuda/bin)
if(NOT CMAKE_CUDA_COMPILER AND NOT nvcc)
  message(FATAL_ERROR "No nvcc, which compiles the CUDA kernels: run scripts/setup.sh --cuda, or name one with -DCMAKE_CUDA_COMPILER=...")
endif()
set(CMAKE_CUDA_COMPILER ${nvcc} CACHE FILEPATH "nvcc")
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know that nvcc has it
endif()

string(REGEX MATCH "^[0-9]+" major ${CMAKE_CUDA_COMPILER_VERSION})
foreach(name cudart cublas)
  find_library(${name}_library NAMES lib${name}.so.${major} NO_DEFAULT_PATH NO_CACHE REQUIRED
    PATHS ${cuda_of_wheel}/lib ${LIBTORCH_ROOT}/lib ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES})
endforeach()
add_library(CUDA::libraries INTERFACE IMPORTED)
target_link_libraries(CUDA::libraries INTERFACE LibTorch::c10_cuda ${LIBTORCH_CUDA_LIBRARY} ${cublas_library} ${cudart_library})
target_include_directories(CUDA::libraries SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} ${cuda_of_wheel}/include)
get_filename_component(cuda_libraries_dir ${cublas_library} DIRECTORY)
list(APPEND CMAKE_INSTALL_RPATH ${cuda_libraries_dir})

# switchyard_cuda_kernels(TARGET): every .cu of the folder and of its sub-folders joins the library. Apart from the C++ files: nvcc knows neither
# their options nor the precompiled header. -fmad=false: with fused multiply-adds the kernels would give other bits than the CPU's.
function(switchyard_cuda_kernels target)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cu)
  add_library(${target}_cuda OBJECT ${sources})
  set_target_properties(${target}_cuda PROPERTIES CUDA_RUNTIME_LIBRARY None)
  target_include_directories(${target}_cuda PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(${target}_cuda SYSTEM PRIVATE ${LIBTORCH_ROOT}/include)
  target_compile_options(${target}_cuda PRIVATE -fmad=false --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra
    "$<$<BOOL:${SWITCHYARD_WERROR}>:SHELL:-Werror all-warnings>")
  target_link_libraries(${target} PRIVATE CUDA::libraries)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_cuda>)
endfunction()
