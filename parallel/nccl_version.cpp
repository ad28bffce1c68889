// Where NCCL is found at build time. Its twin for builds without it is nccl_absent.cpp.
#include <nccl.h>

#include "parallel/communicator.h"

namespace switchyard {

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "found at build time, but does not answer";
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

}  // namespace switchyard
