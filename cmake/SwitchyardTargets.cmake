# One way of making a target: the same warnings, the same precompiled header, OpenMP where at::parallel_for needs it. Nothing of these
# reaches a project that links an installed library: only C++20 and the folder of the headers do.
function(switchyard_options target)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  # -fopenmp: without it at::parallel_for is serial and says nothing. -fno-math-errno: sqrt would block vectorisation.
  # -ffp-contract=off: core/kernels/vectorised.h says why.
  target_compile_options(${target} PRIVATE -Wall -Wextra $<$<BOOL:${SWITCHYARD_WERROR}>:-Werror> -fopenmp -fno-math-errno -ffp-contract=off)
  target_link_libraries(${target} PRIVATE gomp)
  target_compile_definitions(${target} PRIVATE OMPI_SKIP_MPICXX)
  if(target STREQUAL "switchyard_core")
    target_precompile_headers(${target} PRIVATE ${PROJECT_SOURCE_DIR}/core/precompiled.h)
  else()
    target_precompile_headers(${target} REUSE_FROM switchyard_core)
    # CMake gives executables -fPIE, with which the precompiled header of the libraries would be refused.
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
      set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
      target_compile_options(${target} PRIVATE -fPIC)
    endif()
  endif()
endfunction()

# switchyard_library(switchyard_NAME [LINK public targets...]): every .cpp of the folder and of its sub-folders, less those in EXCEPT. Installed,
# it is Switchyard::NAME.
function(switchyard_library target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LINK;PRIVATE_LINK;EXCEPT")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(name IN LISTS arg_EXCEPT)
    list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${name})
  endforeach()
  add_library(${target} SHARED ${sources})
  # The precompiled header is shared: CMake's <target>_EXPORTS macro would make it invalid for the other targets.
  set_target_properties(${target} PROPERTIES DEFINE_SYMBOL "")
  switchyard_options(${target})
  target_link_libraries(${target} PUBLIC ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
  string(REPLACE switchyard_ "" name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS ${target} EXPORT SwitchyardTargets LIBRARY DESTINATION lib)
endfunction()
