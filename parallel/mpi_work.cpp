#include "parallel/mpi_work.h"

#include <chrono>
#include <cstdio>
#include <exception>
#include <thread>

#include "core/error.h"

namespace switchyard {
namespace {

constexpr int64_t kTriesBeforeYield = 100;

}  // namespace

void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(std::string(operation) + ": " + std::string(text, length));
}

MpiWork::~MpiWork() {
  if (state_ == State::kDone) return;
  // While an exception ends the job, peers may never answer; and MPI may still write into the buffers, so they are not given back.
  if (std::uncaught_exceptions() > 0 || state_ == State::kLost) {
    static_cast<void>(tensors_.release());
    return;
  }
  try {
    wait();
  } catch (const std::exception& exception) {
    std::fputs(c10::str("[rank ", place_.rank, "/", place_.size, "] ", exception.what(), "\n").c_str(), stderr);
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
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(place_.timeout_seconds);
  for (int64_t tries = 0;; ++tries) {
    if (all_done()) return;
    // Ranks that share a core move on only when the waiting one steps aside; in the first microseconds that costs more than it gives.
    if (tries > kTriesBeforeYield) std::this_thread::yield();
    if (std::chrono::steady_clock::now() > deadline) throw_late();
  }
}

bool MpiWork::all_done() {
  for (; num_done_ < requests_.size(); ++num_done_) {
    int done = 0;
    check_mpi(MPI_Test(&requests_[num_done_], &done, MPI_STATUS_IGNORE), operation_);
    if (!done) return false;
  }
  return true;
}

void MpiWork::throw_late() const {
  throw RunError(c10::str(operation_, " on rank ", place_.rank, " of ", place_.size, " is not done after ", place_.timeout_seconds,
                          " seconds (parallel.timeout_seconds): a rank of the group is gone, stuck or elsewhere"));
}

}  // namespace switchyard
