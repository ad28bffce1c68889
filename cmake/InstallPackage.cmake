# What makes the installation a package that find_package(Switchyard) finds: headers, targets, configuration. docs/library.md says how to use it.
include(CMakePackageConfigHelpers)
set(package_dir lib/cmake/Switchyard)

# The headers are written anew at each installation, into the build folder.
install(CODE "
  set(SOURCE_DIR \"${PROJECT_SOURCE_DIR}\")
  set(OUTPUT_DIR \"${PROJECT_BINARY_DIR}/include/switchyard\")
  include(\"${PROJECT_SOURCE_DIR}/cmake/WriteHeaders.cmake\")")
install(DIRECTORY ${PROJECT_BINARY_DIR}/include/switchyard DESTINATION include)

install(EXPORT SwitchyardTargets NAMESPACE Switchyard:: DESTINATION ${package_dir})
configure_package_config_file(cmake/SwitchyardConfig.cmake.in ${PROJECT_BINARY_DIR}/SwitchyardConfig.cmake INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/SwitchyardConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/SwitchyardConfig.cmake ${PROJECT_BINARY_DIR}/SwitchyardConfigVersion.cmake cmake/FindLibTorch.cmake
  DESTINATION ${package_dir})
