// Processes that exchange CPU tensors over MPI. With mpi_job.cpp the only file that includes mpi.h.
// Every wait polls a non-blocking operation under a deadline, so that a dead or stuck peer becomes an error with a name, not a hang.
#include <chrono>
#include <cstdio>
#include <exception>
#include <limits>
#include <numeric>
#include <thread>

#include <ATen/ATen.h>
#include <mpi.h>

#include "core/error.h"
#include "parallel/communicator.h"
#include "parallel/exchange_checks.h"
#include "parallel/rank_order_sum.h"

namespace switchyard {
namespace {

void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(std::string(operation) + ": " + std::string(text, length));
}

/// MPI counts in int: rows, not bytes, are counted, and more than fit are refused.
int to_count(int64_t count, const char* operation) {
  TORCH_CHECK(count <= std::numeric_limits<int>::max(), operation, ": ", count, " rows or elements are more than MPI can count (2^31 - 1)");
  return static_cast<int>(count);
}

/// `bytes` bytes as one MPI element.
class RowType {
 public:
  RowType(int64_t bytes, const char* operation) {
    check_mpi(MPI_Type_contiguous(to_count(bytes, operation), MPI_BYTE, &type_), operation);
    check_mpi(MPI_Type_commit(&type_), operation);
  }
  RowType(const RowType&) = delete;
  RowType& operator=(const RowType&) = delete;
  /// MPI keeps the type until the exchanges that use it are done.
  ~RowType() { MPI_Type_free(&type_); }

  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

/// MPI between MPI_Init and MPI_Finalize. Held by every communicator, so that the last handle ends it.
class Session {
 public:
  Session() {
    int started = 0;
    MPI_Initialized(&started);
    if (started) throw RunError("make_mpi_communicator: MPI can be started only once in a process");
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_FUNNELED) throw RunError("MPI_Init_thread: this MPI allows no thread beside the one that calls it");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  /// MPI_Finalize waits for all ranks. Where an exception ends this one, the others may be waiting for it elsewhere: whoever catches the
  /// exception reports it and then ends the job with abort_job.
  ~Session() {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }
};

/// Where an exchange stands in the job, for messages.
struct Place {
  int64_t rank = 0;
  int64_t size = 1;
  int64_t timeout_seconds = 0;
};

/// What MPI reads and writes until the request is done; must not move or go before.
struct Buffers {
  std::vector<at::Tensor> tensors;
  std::vector<int> send_counts, send_starts, receive_counts, receive_starts;
};

class MpiWork : public Work {
 public:
  MpiWork(const char* operation, Place place) : buffers(std::make_unique<Buffers>()), operation_(operation), place_(place) {}

  ~MpiWork() override {
    if (state_ == State::kDone) return;
    // While an exception ends the job, peers may never answer; and MPI may still write into the buffers, so they are not given back.
    if (std::uncaught_exceptions() > 0 || state_ == State::kLost) {
      static_cast<void>(buffers.release());
      return;
    }
    try {
      wait();
    } catch (const std::exception& exception) {
      std::fputs(c10::str("[rank ", place_.rank, "/", place_.size, "] ", exception.what(), "\n").c_str(), stderr);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }

  void wait() override {
    TORCH_CHECK(state_ == State::kUnderWay, "Work::wait: called twice");
    state_ = State::kLost;  // unless poll() returns
    poll();
    state_ = State::kDone;
    if (after) after();
  }

  MPI_Request request = MPI_REQUEST_NULL;
  std::unique_ptr<Buffers> buffers;
  std::function<void()> after;  ///< what is left to do once the bytes are here

 private:
  enum class State { kUnderWay, kDone, kLost };

  void poll() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(place_.timeout_seconds);
    for (int64_t tries = 0;; ++tries) {
      int done = 0;
      check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), operation_);
      if (done) return;
      // Ranks that share a core move on only when the waiting one steps aside; in the first microseconds that costs more than it gives.
      if (tries > kTriesBeforeYield) std::this_thread::yield();
      if (std::chrono::steady_clock::now() > deadline) throw_late();
    }
  }

  [[noreturn]] void throw_late() const {
    throw RunError(c10::str(operation_, " on rank ", place_.rank, " of ", place_.size, " is not done after ", place_.timeout_seconds,
                            " seconds (parallel.timeout_seconds): a rank of the group is gone, stuck or elsewhere"));
  }

  static constexpr int64_t kTriesBeforeYield = 100;

  const char* operation_;
  Place place_;
  State state_ = State::kUnderWay;
};

std::vector<int> starts_of(const std::vector<int>& counts) {
  std::vector<int> starts(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), starts.begin(), 0);
  return starts;
}

std::vector<int> to_counts(const std::vector<int64_t>& rows, const char* operation) {
  std::vector<int> counts;
  for (const auto count : rows) counts.push_back(to_count(count, operation));
  return counts;
}

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<Session> session, MPI_Comm comm, int64_t timeout_seconds) : session_(std::move(session)), comm_(comm) {
    int rank = 0, size = 0;
    check_mpi(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
    place_ = {rank, size, timeout_seconds};
  }

  int64_t rank() const override { return place_.rank; }
  int64_t size() const override { return place_.size; }

  /// Every rank adds one part of the tensor in the order of ranks, and all gather the parts. MPI_Iallreduce would leave the order to the
  /// library, has no bf16, and took three times as long for 40 MB on two ranks.
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_tensor("all_reduce_sum", tensor);
    const auto parts = part_sizes(tensor.numel(), size());
    auto arrived = at::empty({size() * parts[rank()]}, tensor.options());
    auto work = start_all_to_all("all_reduce_sum", tensor.detach().view(-1), parts, arrived, std::vector<int64_t>(size(), parts[rank()]));
    work->after = [comm = comm_, place = place_, tensor, parts, arrived] {
      const auto sum = sum_in_rank_order(arrived.view({place.size, parts[place.rank]}));
      gather_parts(comm, place, sum, parts, tensor);
    };
    return work;
  }

  /// By a gather: MPI_MAX does not say what becomes of NaN, and could leave another result on every rank. Meant for small tensors.
  void all_reduce_max(at::Tensor tensor) override { tensor.detach().copy_(all_gather(tensor).amax(0)); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_tensor("all_to_all", send);
    check_tensor("all_to_all", receive);
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    return start_all_to_all("all_to_all", send, send_rows, receive, receive_rows);
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_tensor("all_gather", tensor);
    auto shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    auto gathered = at::empty(shape, tensor.options());
    auto work = make_work("all_gather", place_, {tensor, gathered});
    const RowType element(tensor.element_size(), "all_gather");
    const int count = to_count(tensor.numel(), "all_gather");
    check_mpi(
        MPI_Iallgather(tensor.const_data_ptr(), count, element.get(), gathered.data_ptr(), count, element.get(), comm_, &work->request),
        "all_gather");
    work->wait();
    return gathered;
  }

  void broadcast(at::Tensor tensor, int64_t root) override {
    check_tensor("broadcast", tensor);
    check_root(root, size());
    auto work = make_work("broadcast", place_, {tensor});
    const RowType element(tensor.element_size(), "broadcast");
    check_mpi(MPI_Ibcast(tensor.data_ptr(), to_count(tensor.numel(), "broadcast"), element.get(), root, comm_, &work->request),
              "broadcast");
    work->wait();
  }

  void barrier() override {
    auto work = make_work("barrier", place_, {});
    check_mpi(MPI_Ibarrier(comm_, &work->request), "barrier");
    work->wait();
  }

  /// The groups live as long as the job: MPI_Comm_free is collective, and handles go in an order of their own on every rank.
  CommunicatorPtr split(int64_t color) override {
    barrier();  // MPI_Comm_split cannot be polled: who is missing is found here, under the deadline
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_, to_count(color, "split"), static_cast<int>(rank()), &part), "split");
    return std::make_shared<MpiCommunicator>(session_, part, place_.timeout_seconds);
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }

 private:
  static std::unique_ptr<MpiWork> make_work(const char* operation, Place place, std::vector<at::Tensor> tensors) {
    auto work = std::make_unique<MpiWork>(operation, place);
    work->buffers->tensors = std::move(tensors);
    return work;
  }

  std::unique_ptr<MpiWork> start_all_to_all(const char* operation, const at::Tensor& send, const std::vector<int64_t>& send_rows,
                                            const at::Tensor& receive, const std::vector<int64_t>& receive_rows) const {
    to_count(std::max(send.size(0), receive.size(0)), operation);
    auto work = make_work(operation, place_, {send, receive});
    auto& buffers = *work->buffers;
    buffers.send_counts = to_counts(send_rows, operation);
    buffers.send_starts = starts_of(buffers.send_counts);
    buffers.receive_counts = to_counts(receive_rows, operation);
    buffers.receive_starts = starts_of(buffers.receive_counts);
    const RowType row(c10::multiply_integers(send.sizes().slice(1)) * send.element_size(), operation);
    check_mpi(MPI_Ialltoallv(send.const_data_ptr(), buffers.send_counts.data(), buffers.send_starts.data(), row.get(), receive.data_ptr(),
                             buffers.receive_counts.data(), buffers.receive_starts.data(), row.get(), comm_, &work->request),
              operation);
    return work;
  }

  /// The tensor from its parts, one a rank. Not a method: it runs when a Work is waited for, which may outlive its communicator's handle.
  static void gather_parts(MPI_Comm comm, Place place, const at::Tensor& mine, const std::vector<int64_t>& parts,
                           const at::Tensor& tensor) {
    auto work = make_work("all_reduce_sum", place, {mine, tensor});
    auto& buffers = *work->buffers;
    buffers.receive_counts = to_counts(parts, "all_reduce_sum");
    buffers.receive_starts = starts_of(buffers.receive_counts);
    const RowType element(tensor.element_size(), "all_reduce_sum");
    check_mpi(MPI_Iallgatherv(mine.const_data_ptr(), buffers.receive_counts[place.rank], element.get(), tensor.data_ptr(),
                              buffers.receive_counts.data(), buffers.receive_starts.data(), element.get(), comm, &work->request),
              "all_reduce_sum");
    work->wait();
  }

  static void check_tensor(const char* operation, const at::Tensor& tensor) {
    check_contiguous(operation, tensor);
    TORCH_CHECK(tensor.device().is_cpu(), operation, ": the MPI communicator moves CPU tensors, this one is on ", tensor.device());
  }

  std::shared_ptr<Session> session_;
  MPI_Comm comm_;
  Place place_;
};

}  // namespace

CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds) {
  TORCH_CHECK(timeout_seconds > 0, "make_mpi_communicator: timeout_seconds must be positive, got ", timeout_seconds);
  return std::make_shared<MpiCommunicator>(std::make_shared<Session>(), MPI_COMM_WORLD, timeout_seconds);
}

}  // namespace switchyard
