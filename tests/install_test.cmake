# Installs into a new folder and runs the binary there: cmake -DBUILD=build/release -P tests/install_test.cmake
set(prefix ${BUILD}/tests/installed)
file(REMOVE_RECURSE ${prefix})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${prefix}/bin/switchyard --version WORKING_DIRECTORY / COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE_RECURSE ${prefix})
