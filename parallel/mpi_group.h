// MPI in this process, and one group of its ranks. Internal to the mpi_*.cpp files, the only ones that see mpi.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include <mpi.h>

#include "parallel/progress.h"

namespace switchyard {

/// Errors: RunError with MPI's own words.
void check_mpi(int code, const char* operation);

/// MPI between MPI_Init and MPI_Finalize. Held by every group, so that the last handle ends it. Every call that blocks is a BoundedCall.
class MpiSession {
 public:
  /// progress: null = messages name no position, and no watchdog looks.
  MpiSession(int64_t timeout_seconds, Progress* progress);
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  /// MPI_Finalize waits for all ranks. Where an exception ends this one, the others may be waiting for it elsewhere: whoever catches the
  /// exception reports it and then ends the job with abort_job.
  ~MpiSession();

  int64_t timeout_seconds() const { return timeout_seconds_; }
  /// How long a call may block before the watchdog ends the process.
  std::chrono::seconds call_limit() const { return std::chrono::seconds(timeout_seconds_) + kCallGrace; }
  Progress* progress() const { return progress_; }
  Position position() const { return progress_ ? progress_->position() : Position{}; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  /// The number of this machine: processes that share memory, numbered by the smallest of their ranks in the world.
  int64_t node() const { return node_; }

 private:
  int64_t timeout_seconds_;
  Progress* progress_;
  int rank_ = 0;
  int size_ = 1;
  int64_t node_ = 0;
};

/// One communicator of MPI's. Exchanges hold it too: one may outlive its communicator's handle.
struct MpiGroup {
  /// max_message_bytes: what is longer goes in several messages; the same on every rank. Errors: RunError.
  MpiGroup(std::shared_ptr<const MpiSession> session, MPI_Comm comm, int64_t max_message_bytes);

  std::shared_ptr<const MpiSession> session;
  MPI_Comm comm;
  int64_t max_message_bytes;
  int rank = 0;
  int size = 1;
  std::vector<int64_t> world_ranks;  ///< of the group's ranks
  int64_t num_exchanges = 0;         ///< started so far, the same on every rank: tells the messages of one exchange from those of the next
};
using MpiGroupPtr = std::shared_ptr<MpiGroup>;

/// The tags of an MPI communicator: one for notices, the others for exchanges in turn.
inline constexpr int kNoticeTag = 0;
inline constexpr int kFirstExchangeTag = 1;

}  // namespace switchyard
