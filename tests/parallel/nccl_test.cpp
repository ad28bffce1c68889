// What can be known of NCCL without a GPU: which library this process has loaded, and what it says where there is none to use.
#include "parallel/nccl_communicator.h"

#include <dlfcn.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace switchyard {
namespace {

std::string failure_of_making(at::Device device) {
  try {
    make_nccl_communicator(make_single_communicator(), device, /*timeout_seconds=*/5);
  } catch (const UserError& error) {
    return error.what();
  }
  return "none";
}

TEST(Nccl, VersionIsThatOfTheLibraryThatIsLoaded) {
  using GetVersion = int(int*);
  const auto get_version = reinterpret_cast<GetVersion*>(dlsym(RTLD_DEFAULT, "ncclGetVersion"));
  if (get_version == nullptr) {
    EXPECT_EQ(nccl_version(), "not built in");
    return;
  }
  int code = 0;
  ASSERT_EQ(get_version(&code), 0);
  const auto text = nccl_version();
  const auto first = text.find('.'), second = text.rfind('.');
  EXPECT_EQ(std::stoi(text) * 10000 + std::stoi(text.substr(first + 1)) * 100 + std::stoi(text.substr(second + 1)), code);
}

// The header that was found and the library that was loaded belong to one NCCL; of two, the process would start, and fail later.
TEST(Nccl, VersionIsThatOfTheHeaderThatWasFound) {
  EXPECT_EQ(nccl_version(), SWITCHYARD_NCCL_VERSION);
}

TEST(Nccl, SaysWhatIsMissingWhereThereIsNoSuchGpu) {
  const auto message = failure_of_making(at::Device(at::kCUDA, 100));
  EXPECT_EQ(message.substr(0, 6), "NCCL: ") << message;
  const char* cause = nccl_version() == "not built in"  ? "this build is without it"
                      : at::globalContext().hasCUDART() ? "CUDA device 100 is not there"
                                                        : "this build of LibTorch is without CUDA";
  EXPECT_NE(message.find(cause), std::string::npos) << message;
  EXPECT_NE(message.find("training.device: cpu"), std::string::npos) << message;
}

}  // namespace
}  // namespace switchyard
