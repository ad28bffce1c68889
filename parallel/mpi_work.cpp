#include "parallel/mpi_work.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <thread>

#include "core/error.h"

namespace switchyard {
namespace {

constexpr int64_t kTriesBeforeYield = 100;
/// How long a peer's notice may take to explain an error of MPI's.
constexpr std::chrono::seconds kExplanationLimit{1};

}  // namespace

MpiWork::MpiWork(const MpiGroupPtr& group, ExchangePlan plan, std::vector<at::Tensor> tensors)
    : group_(group),
      plan_(std::move(plan)),
      buffers_(std::make_unique<Buffers>(Buffers{.handshake = MpiHandshake(*group, plan_), .tensors = std::move(tensors)})) {}

MpiWork::~MpiWork() {
  if (state_ == State::kDone) return;
  // While an exception ends the job, peers may never answer; and MPI may still write into the buffers, so they are not given back.
  if (std::uncaught_exceptions() > 0 || state_ == State::kLost) {
    static_cast<void>(buffers_.release());
    return;
  }
  try {
    wait();
  } catch (const std::exception& exception) {
    const auto& session = *group_->session;
    const BoundedCall call(session.progress(), kAbortLimit, "MPI_Abort");
    const auto message = at_position(session.position(), exception.what());
    std::fputs(c10::str("[rank ", session.rank(), "/", session.size(), "] ", message, "\n").c_str(), stderr);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
}

void MpiWork::wait() {
  TORCH_CHECK(state_ == State::kUnderWay, "Work::wait: called twice");
  state_ = State::kLost;  // unless poll() returns
  poll();
  state_ = State::kDone;
  if (after) after();
}

void MpiWork::poll() {
  const auto& session = *group_->session;
  const BoundedCall call(session.progress(), session.call_limit(), [this] { return describe(); });
  auto deadline = Clock::now() + std::chrono::seconds(session.timeout_seconds());
  for (int64_t tries = 0; !is_done(); ++tries) {
    // Ranks that share a core move on only when the waiting one steps aside; in the first microseconds that costs more than it gives.
    if (tries > kTriesBeforeYield) std::this_thread::yield();
    if (mpi_error_ != MPI_SUCCESS) deadline = std::min(deadline, Clock::now() + kExplanationLimit);
    if (Clock::now() > deadline) throw_late();
  }
}

/// The peers' notices come first: bytes of another exchange must not pass for this one's.
bool MpiWork::is_done() {
  const bool all_have_entered = buffers_->handshake.poll();
  if (mpi_error_ == MPI_SUCCESS) return has_moved() && all_have_entered;
  if (all_have_entered) check_mpi(mpi_error_, plan_.operation);
  return false;
}

bool MpiWork::has_moved() {
  for (; num_done_ < requests_.size(); ++num_done_) {
    int done = 0;
    mpi_error_ = MPI_Test(&requests_[num_done_], &done, MPI_STATUS_IGNORE);
    if (mpi_error_ != MPI_SUCCESS || !done) return false;
  }
  return true;
}

void MpiWork::throw_late() {
  check_mpi(mpi_error_, plan_.operation);
  const auto missing = buffers_->handshake.missing_ranks();
  const auto who = missing.empty() ? name_ranks(unfinished_peers()) + ", which entered it: stuck since, or the network is"
                                   : name_ranks(missing) + ", gone, stuck or elsewhere";
  throw RunError(c10::str(describe(), " waited ", group_->session->timeout_seconds(), " s (parallel.timeout_seconds) for ", who));
}

std::vector<int64_t> MpiWork::unfinished_peers() {
  std::vector<int64_t> peers;
  for (size_t i = num_done_; i < requests_.size(); ++i) {
    int done = 0;
    if (MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done) continue;
    peers.push_back(group_->world_ranks[static_cast<size_t>(request_peers_[i])]);
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

}  // namespace switchyard
