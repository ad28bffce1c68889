// Ranks that exchange tensors. Value-like handles over a small interface; MPI on processes, threads in tests, NCCL on GPUs.
// Every method but rank(), size() and node() is "Collective: every rank of the group must call this, in the same order."
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

class Progress;

/// An exchange under way. wait() returns when it is done and may be called once; a Work that is destroyed unfinished waits first.
/// Sums finish inside wait(): every rank must wait for its exchanges in the same order.
class Work {
 public:
  virtual ~Work() = default;
  /// Errors: RunError when a peer is gone or parallel.timeout_seconds have passed.
  virtual void wait() = 0;
};

/// Tensors must be contiguous, on the communicator's device, and stay alive until the exchange is waited for.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;
  /// The number of the machine (of shared memory) that this rank stands on. Machines are numbered in the order of their first rank in the
  /// world; a split group keeps the world's numbers.
  virtual int64_t node() const = 0;

  /// In place: the sum over ranks in the order of ranks, so the same bits on every rank, in every run and under every communicator. bf16 is
  /// summed in fp32.
  virtual std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) = 0;
  /// The first half of all_reduce_sum: of a one-dimensional tensor cut into parts, one a rank in the order of ranks (their sizes add up to
  /// the tensor's), this rank's own becomes the sum. The other parts keep what they held.
  virtual std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) = 0;
  /// The second half: every rank's own part goes to all.
  virtual std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) = 0;
  virtual void all_reduce_max(at::Tensor tensor) = 0;
  /// Row counts along dimension 0, one a peer; both sides agree on them. Rows are sent and received in the order of ranks.
  virtual std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                           const std::vector<int64_t>& receive_rows) = 0;
  /// gathered[r] is rank r's tensor: gathered has one more leading dimension, of size size().
  virtual at::Tensor all_gather(const at::Tensor& tensor) = 0;
  virtual void broadcast(at::Tensor tensor, int64_t root) = 0;
  virtual void barrier() = 0;
  /// The ranks with the same `color`, ordered by this communicator's rank.
  virtual std::shared_ptr<Communicator> split(int64_t color) = 0;
  /// Ends the job on every rank; does not return where that means ending the process.
  virtual void abort(int exit_code) = 0;
};

using CommunicatorPtr = std::shared_ptr<Communicator>;

/// A group of one: every exchange is a copy.
CommunicatorPtr make_single_communicator();

/// Runs `body` on `num_ranks` threads, each with its own communicator of that size, and rethrows the first exception after all have ended:
/// a rank that throws makes the others' exchanges throw too, so that nothing hangs. Each thread computes with one intra-op thread.
/// ranks_per_node: consecutive ranks that node() says share a machine; 0 = all.
void run_ranks_as_threads(int64_t num_ranks, const std::function<void(CommunicatorPtr)>& body, int64_t ranks_per_node = 0);

/// MPI_Init (once a process; MPI_Finalize at the end of the process's last handle) and the world's communicator, of all processes that the
/// launcher started. Collective: each of them must call this. Errors: RunError when MPI has been started before or cannot start.
/// timeout_seconds: see Work::wait. progress: what messages take this rank's position from, and where calls that block are noted for a
/// watchdog; must live until MPI has ended; null = neither.
/// Beside each exchange every rank tells its peers which one it enters: one that was skipped, or counted otherwise, is a RunError that
/// names both sides.
CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds, Progress* progress = nullptr);

/// Ends the job on every rank with this exit code where MPI is running (does not return then); returns where it is not.
void abort_job(int exit_code);

/// For --version: "Open MPI 4.1.4" and "2.28.9" or "not built in".
std::string mpi_version();
std::string nccl_version();

/// What the launcher (mpirun, srun) says about this process before MPI starts; 0, 1, 0, 1 without one. For the checks of a configuration
/// and for placing threads only: MPI is the truth afterwards.
struct LaunchInfo {
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t local_rank = 0;
  int64_t local_size = 1;
};
LaunchInfo read_launch_info();

}  // namespace switchyard
