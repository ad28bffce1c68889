// The twin of nccl_version.cpp for builds without NCCL.
#include "parallel/communicator.h"

namespace switchyard {

std::string nccl_version() {
  return "not built in";
}

}  // namespace switchyard
