# Run at installation: writes the headers that name each other from switchyard/, so that no core/error.h of a user's project is taken for ours.
# Those that need mpi.h or nccl.h are internal to the .cpp files beside them. -DSOURCE_DIR -DOUTPUT_DIR
file(GLOB_RECURSE headers RELATIVE ${SOURCE_DIR} ${SOURCE_DIR}/core/*.h ${SOURCE_DIR}/parallel/*.h ${SOURCE_DIR}/training/*.h)
list(FILTER headers EXCLUDE REGEX "^(core/precompiled|parallel/mpi_(exchange|group|handshake|work)|parallel/nccl_job)\\.h$")
file(REMOVE_RECURSE ${OUTPUT_DIR})
foreach(header IN LISTS headers)
  file(READ ${SOURCE_DIR}/${header} text)
  string(REGEX REPLACE "#include \"(core|parallel|training)/" "#include \"switchyard/\\1/" text "${text}")
  file(WRITE ${OUTPUT_DIR}/${header} "${text}")
endforeach()
