// One exchange under way over MPI. Every wait polls non-blocking operations under a deadline, so that a dead or stuck peer becomes an error
// with a name, not a hang. Internal to the mpi_*.cpp files, the only ones that see mpi.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <mpi.h>

#include "parallel/communicator.h"

namespace switchyard {

/// Errors: RunError with MPI's own words.
void check_mpi(int code, const char* operation);

/// Where an exchange stands in the job, for messages.
struct Place {
  int64_t rank = 0;
  int64_t size = 1;
  int64_t timeout_seconds = 0;
};

class MpiWork : public Work {
 public:
  /// tensors: what MPI reads and writes until all requests are done.
  MpiWork(const char* operation, Place place, std::vector<at::Tensor> tensors)
      : operation_(operation), place_(place), tensors_(std::make_unique<std::vector<at::Tensor>>(std::move(tensors))) {}
  ~MpiWork() override;
  void wait() override;

  const char* operation() const { return operation_; }
  /// For MPI to fill in.
  MPI_Request* new_request() { return &requests_.emplace_back(MPI_REQUEST_NULL); }

  std::function<void()> after;  ///< what is left to do once the bytes are here

 private:
  enum class State { kUnderWay, kDone, kLost };

  void poll();
  bool all_done();
  [[noreturn]] void throw_late() const;

  const char* operation_;
  Place place_;
  std::unique_ptr<std::vector<at::Tensor>> tensors_;
  std::vector<MPI_Request> requests_;
  size_t num_done_ = 0;  ///< of the requests, in their order
  State state_ = State::kUnderWay;
};

}  // namespace switchyard
