// The twin of the other nccl_*.cpp files for builds without NCCL.
#include "core/error.h"
#include "parallel/nccl_communicator.h"

namespace switchyard {

std::string nccl_version() {
  return "not built in";
}

CommunicatorPtr make_nccl_communicator(CommunicatorPtr /*bootstrap*/, at::Device /*device*/, int64_t /*timeout_seconds*/,
                                       const Progress* /*progress*/) {
  throw UserError("NCCL: this build is without it (cmake found no nccl.h with its library and the CUDA headers); use training.device: cpu");
}

}  // namespace switchyard
