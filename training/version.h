// What was built: written at build time by cmake/WriteVersion.cmake.
#pragma once

namespace switchyard {

const char* version();
const char* git_commit();

}  // namespace switchyard
