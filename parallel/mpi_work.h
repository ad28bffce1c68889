// One exchange under way over MPI. Every wait polls non-blocking operations under a deadline, so that a dead or stuck peer becomes an error
// with a name, not a hang. Internal to the mpi_*.cpp files, the only ones that see mpi.h.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <mpi.h>

#include "parallel/communicator.h"
#include "parallel/mpi_handshake.h"

namespace switchyard {

class MpiWork : public Work {
 public:
  /// Tells the peers of the exchange; moving its bytes is the caller's. What has no request is done once all peers have entered it.
  /// tensors: what MPI reads and writes until all requests are done.
  MpiWork(const MpiGroupPtr& group, ExchangePlan plan, std::vector<at::Tensor> tensors);
  ~MpiWork() override;
  void wait() override;

  const char* operation() const { return plan_.operation; }
  /// For MPI to fill in. peer: whose part it takes.
  MPI_Request* new_request(int64_t peer) {
    request_peers_.push_back(peer);
    return &requests_.emplace_back(MPI_REQUEST_NULL);
  }

  std::function<void()> after;  ///< what is left to do once the bytes are here

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kUnderWay, kDone, kLost };
  /// What MPI reads and writes; must not move or go before all requests are done.
  struct Buffers {
    MpiHandshake handshake;
    std::vector<at::Tensor> tensors;
  };

  void poll();
  bool is_done();
  bool has_moved();
  std::string describe() const { return switchyard::describe(plan_, group_->world_ranks); }
  [[noreturn]] void throw_late();
  /// Peers with whom bytes have not moved yet, as ranks of the world.
  std::vector<int64_t> unfinished_peers();

  MpiGroupPtr group_;
  ExchangePlan plan_;
  std::unique_ptr<Buffers> buffers_;
  std::vector<MPI_Request> requests_;
  std::vector<int64_t> request_peers_;
  size_t num_done_ = 0;  ///< of the requests, in their order
  State state_ = State::kUnderWay;
  int mpi_error_ = MPI_SUCCESS;
};

}  // namespace switchyard
