# Run at every build: writes version.cpp when the commit has changed. -DSOURCE_DIR -DVERSION -DOUTPUT
execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --dirty --abbrev=12 OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit "no git checkout")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[
#include "training/version.h"

namespace switchyard {

const char* version() { return "@VERSION@"; }
const char* git_commit() { return "@commit@"; }

}  // namespace switchyard
]] @ONLY)
