#include "parallel/nccl_job.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "core/error.h"
#include "parallel/deadline.h"

namespace switchyard {
namespace {

constexpr int64_t kTriesBeforeSleep = 1000;

class NcclExchange : public DeviceExchange {
 public:
  NcclExchange(ncclComm_t comm, std::shared_ptr<const c10::Event> done, std::function<std::string()> describe)
      : comm_(comm), done_(std::move(done)), describe_(std::move(describe)) {}

  bool is_done() const override {
    try {
      return done_->query();
    } catch (const std::exception&) {
      return false;  // the device has failed: fault() says how
    }
  }

  std::string fault() const override {
    ncclResult_t state = ncclSuccess;
    const auto answer = ncclCommGetAsyncError(comm_, &state);
    if (answer != ncclSuccess) state = answer;
    if (state != ncclSuccess && state != ncclInProgress) return c10::str(ncclGetErrorString(state), " (", ncclGetLastError(comm_), ")");
    try {
      done_->query();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  }

  std::string describe() const override { return describe_(); }

 private:
  ncclComm_t comm_;
  std::shared_ptr<const c10::Event> done_;
  std::function<std::string()> describe_;
};

ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

/// A header of one NCCL and the library of an older one link, and fail in ways that name neither.
void check_library_version() {
  int loaded = 0;
  check_nccl(ncclGetVersion(&loaded), "ncclGetVersion");
  if (loaded >= NCCL_VERSION_CODE) return;
  throw RunError(c10::str("NCCL ", nccl_version(), " was loaded, but this was built for ", NCCL_MAJOR, ".", NCCL_MINOR, ".", NCCL_PATCH,
                          "; see which libnccl.so.2 stands first in LD_LIBRARY_PATH"));
}

}  // namespace

void check_nccl(ncclResult_t result, const char* operation, ncclComm_t comm) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  throw RunError(c10::str(operation, ": NCCL: ", ncclGetErrorString(result), " (", ncclGetLastError(comm), ")"));
}

NcclJob::NcclJob(CommunicatorPtr bootstrap, at::Device device, int64_t timeout_seconds, const Progress* progress)
    : bootstrap_(std::move(bootstrap)), device_(device), timeout_seconds_(timeout_seconds), progress_(progress) {
  check_library_version();
  create_world();
  watch_ = std::make_unique<ExchangeWatch>(std::chrono::seconds(timeout_seconds), [this](const auto& message) { end_process(message); });
}

NcclJob::~NcclJob() {
  if (std::uncaught_exceptions() > 0) {
    watch_->forget();
    watch_.reset();  // it asks the communicators
    abort_all();
    return;
  }
  watch_.reset();
  try {
    close_all();
  } catch (const std::exception& exception) {
    std::fputs(c10::str("[rank ", bootstrap_->rank(), "/", bootstrap_->size(), "] ", exception.what(), "\n").c_str(), stderr);
    abort_all();
  }
}

void NcclJob::create_world() {
  ncclUniqueId id = {};
  auto bytes = at::zeros({static_cast<int64_t>(sizeof(id))}, at::kByte);
  if (bootstrap_->rank() == 0) {
    check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    std::memcpy(bytes.mutable_data_ptr(), &id, sizeof(id));
  }
  bootstrap_->broadcast(bytes, /*root=*/0);
  std::memcpy(&id, bytes.const_data_ptr(), sizeof(id));

  const c10::DeviceGuard guard(device_);
  auto config = non_blocking();
  ncclComm_t comm = nullptr;
  check_nccl(ncclCommInitRankConfig(&comm, static_cast<int>(bootstrap_->size()), id, static_cast<int>(bootstrap_->rank()), &config),
             "ncclCommInitRankConfig", comm);
  comms_.push_back(comm);
  try {
    settle(comm, "ncclCommInitRankConfig");
  } catch (...) {
    abort_all();
    throw;
  }
}

ncclComm_t NcclJob::split(ncclComm_t parent, int color, int key) {
  const c10::DeviceGuard guard(device_);
  auto config = non_blocking();
  ncclComm_t comm = nullptr;
  check_nccl(ncclCommSplit(parent, color, key, &comm, &config), "ncclCommSplit", parent);
  settle(parent, "ncclCommSplit");  // only now is the new handle filled in
  TORCH_INTERNAL_ASSERT(comm != nullptr);
  {
    const std::lock_guard lock(mutex_);
    comms_.push_back(comm);
  }
  settle(comm, "ncclCommSplit");
  return comm;
}

void NcclJob::settle(ncclComm_t comm, const char* operation) const {
  ncclResult_t state = ncclInProgress;
  poll(operation, [&] {
    check_nccl(ncclCommGetAsyncError(comm, &state), operation, comm);
    return state != ncclInProgress;
  });
  check_nccl(state, operation, comm);
}

void NcclJob::wait_on_host(const c10::Event& event, const char* operation) const {
  poll(operation, [&] { return event.query(); });
}

void NcclJob::poll(const char* operation, const std::function<bool()>& is_done) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds_);
  for (int64_t tries = 0; !is_done(); ++tries) {
    if (std::chrono::steady_clock::now() > deadline) {
      throw RunError(c10::str(operation, " on rank ", bootstrap_->rank(), " of ", bootstrap_->size(), " is not done after ",
                              timeout_seconds_, " seconds (parallel.timeout_seconds): a rank is gone, stuck or elsewhere"));
    }
    if (tries > kTriesBeforeSleep) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void NcclJob::watch(ncclComm_t comm, std::shared_ptr<const c10::Event> done, std::function<std::string()> describe) {
  watch_->add(std::make_unique<NcclExchange>(comm, std::move(done), std::move(describe)));
}

void NcclJob::abort_all() {
  if (watch_) watch_->forget();
  std::vector<ncclComm_t> comms;
  {
    const std::lock_guard lock(mutex_);
    comms.swap(comms_);
  }
  ends_within(kAbortLimit, [comms, device = device_] {
    const c10::DeviceGuard guard(device);
    for (const auto comm : comms) ncclCommAbort(comm);
  });
}

/// Groups of different ranks overlap, so all are asked to close before any is waited for.
void NcclJob::close_all() {
  const c10::DeviceGuard guard(device_);
  for (const auto comm : comms_) check_nccl(ncclCommFinalize(comm), "ncclCommFinalize", comm);
  for (const auto comm : comms_) settle(comm, "ncclCommFinalize");
  for (const auto comm : comms_) check_nccl(ncclCommDestroy(comm), "ncclCommDestroy");
  comms_.clear();
}

/// The training thread may stand in the driver, where no exception reaches it. The launcher ends the other ranks.
void NcclJob::end_process(const std::string& message) {
  const auto located = at_position(progress_ ? progress_->position() : Position{}, message);
  std::fputs(c10::str("[rank ", bootstrap_->rank(), "/", bootstrap_->size(), "] ", located, "\n").c_str(), stderr);
  std::fflush(nullptr);
  abort_all();
  std::_Exit(1);
}

}  // namespace switchyard
