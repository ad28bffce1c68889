// NCCL as a whole in one process: its communicators, the deadline of every call, the watch over what is under way, and the end.
// Internal to the nccl_*.cpp files, the only ones that see nccl.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <c10/core/Event.h>
#include <nccl.h>

#include "parallel/communicator.h"
#include "parallel/exchange_watch.h"
#include "parallel/progress.h"

namespace switchyard {

/// Errors: RunError with NCCL's own words. ncclInProgress is none: NcclJob::settle waits for what it stands for.
void check_nccl(ncclResult_t result, const char* operation, ncclComm_t comm = nullptr);

/// Held by every communicator, so that the last handle ends it. Communicators are non-blocking: no call of NCCL's waits for a peer.
class NcclJob {
 public:
  /// progress: where messages take this rank's position from; null = they name none. Collective over `bootstrap`.
  NcclJob(CommunicatorPtr bootstrap, at::Device device, int64_t timeout_seconds, const Progress* progress);
  NcclJob(const NcclJob&) = delete;
  NcclJob& operator=(const NcclJob&) = delete;
  /// Waits for all exchanges and, with all ranks, closes the communicators in the order in which they were made. While an exception ends
  /// this rank, peers may never answer: then they are aborted.
  ~NcclJob();

  at::Device device() const { return device_; }
  Communicator& bootstrap() const { return *bootstrap_; }
  ncclComm_t world() const { return comms_.front(); }
  /// Collective over `parent`; ranks of one color in the order of `key`.
  ncclComm_t split(ncclComm_t parent, int color, int key);

  /// Polls until what was asked of `comm` is under way on the device. Errors: RunError on NCCL's error or after the deadline.
  void settle(ncclComm_t comm, const char* operation) const;
  /// Polls until `event` has happened. Errors: RunError after the deadline.
  void wait_on_host(const c10::Event& event, const char* operation) const;
  /// Ends the process, with a message, if `done` has not happened by the deadline.
  void watch(ncclComm_t comm, std::shared_ptr<const c10::Event> done, std::function<std::string()> describe);
  /// Ends all exchanges, whether or not the peers answer; gives up after some seconds.
  void abort_all();

 private:
  void create_world();
  void close_all();
  void poll(const char* operation, const std::function<bool()>& is_done) const;
  [[noreturn]] void end_process(const std::string& message);

  CommunicatorPtr bootstrap_;
  at::Device device_;
  int64_t timeout_seconds_;
  const Progress* progress_;
  std::mutex mutex_;  ///< of comms_: the watch aborts them
  std::vector<ncclComm_t> comms_;
  std::unique_ptr<ExchangeWatch> watch_;
};

}  // namespace switchyard
