// Processes that exchange CPU tensors over MPI. The only file that includes mpi.h.
// Every wait polls a non-blocking operation under a deadline, so that a dead or stuck peer becomes an error with a name, not a hang.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <thread>

#include <ATen/ATen.h>
#include <mpi.h>

#include "core/error.h"
#include "parallel/communicator.h"
#include "parallel/exchange_checks.h"

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

MPI_Datatype sum_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kFloat:
      return MPI_FLOAT;
    case at::kLong:
      return MPI_INT64_T;
    default:
      TORCH_CHECK(false, "all_reduce_sum: float64, float32, bfloat16 and int64 can be summed, not ", dtype);
  }
}

/// MPI between MPI_Init and MPI_Finalize. Held by every communicator, so that the last handle ends it.
class Session {
 public:
  Session() {
    int started = 0;
    MPI_Initialized(&started);
    if (started) throw RunError("make_mpi_communicator: MPI can be started only once in a process");
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_FUNNELED)
      throw RunError("MPI_Init_thread: this MPI does not allow other threads beside the one that calls it");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  /// MPI_Finalize waits for all ranks. Where an exception ends this one, the others may be waiting for it elsewhere: the job ends here.
  ~Session() {
    if (std::uncaught_exceptions() > 0) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Finalize();
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
  MpiWork(const MpiWork&) = delete;
  MpiWork& operator=(const MpiWork&) = delete;

  ~MpiWork() override {
    if (request == MPI_REQUEST_NULL) return;
    // While an exception ends the job, peers may never answer; and MPI may still write into the buffers, so they are not given back.
    if (std::uncaught_exceptions() > 0 || is_lost_) {
      static_cast<void>(buffers.release());
      return;
    }
    try {
      wait();
    } catch (const std::exception& exception) {
      std::fprintf(stderr, "[rank %ld/%ld] %s\n", static_cast<long>(place_.rank), static_cast<long>(place_.size), exception.what());
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }

  void wait() override {
    TORCH_CHECK(request != MPI_REQUEST_NULL, "Work::wait: called twice");
    poll();
    if (after) after();
  }

  MPI_Request request = MPI_REQUEST_NULL;
  std::unique_ptr<Buffers> buffers;
  std::function<void()> after;  ///< what is left to do once the bytes are here

 private:
  void poll() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(place_.timeout_seconds);
    for (int64_t tries = 0;; ++tries) {
      int done = 0;
      check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), operation_);
      if (done) return;
      // Ranks that share a core move on only when the waiting one steps aside; in the first microseconds that would cost more than it
      // gives.
      if (tries > kTriesBeforeYield) std::this_thread::yield();
      if (std::chrono::steady_clock::now() > deadline) throw_lost();
    }
  }

  [[noreturn]] void throw_lost() {
    is_lost_ = true;
    throw RunError(std::string(operation_) + " on rank " + std::to_string(place_.rank) + " of " + std::to_string(place_.size) +
                   " is not done after " + std::to_string(place_.timeout_seconds) +
                   " seconds (parallel.timeout_seconds): a rank of the group is gone, stuck or elsewhere");
  }

  static constexpr int64_t kTriesBeforeYield = 100;

  const char* operation_;
  Place place_;
  bool is_lost_ = false;
};

std::vector<int> starts_of(const std::vector<int>& counts) {
  std::vector<int> starts;
  int start = 0;
  for (const int count : counts) {
    starts.push_back(start);
    start += count;
  }
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

  /// The algorithm follows from the group's size and the number of elements alone, which all ranks share, and each of those that MPI
  /// libraries use (recursive doubling, ring, reduce and broadcast) forms an element's sum in one order, or in mirrored ones of a
  /// commutative addition: the bits are the same on every rank and in every run. MPI has no bf16, so that is summed in fp32 and rounded
  /// once.
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_tensor("all_reduce_sum", tensor);
    auto work = make_work("all_reduce_sum", {tensor});
    const auto sum = tensor.scalar_type() == at::kBFloat16 ? tensor.detach().to(at::kFloat) : tensor;
    if (!sum.is_same(tensor)) {
      work->buffers->tensors.push_back(sum);
      work->after = [tensor, sum] { tensor.detach().copy_(sum); };
    }
    check_mpi(MPI_Iallreduce(MPI_IN_PLACE, sum.data_ptr(), to_count(sum.numel(), "all_reduce_sum"), sum_type(sum.scalar_type()), MPI_SUM,
                             comm_, &work->request),
              "all_reduce_sum");
    return work;
  }

  /// By a gather: MPI_MAX does not say what becomes of NaN, and could leave another result on every rank. Meant for small tensors.
  void all_reduce_max(at::Tensor tensor) override { tensor.detach().copy_(all_gather(tensor).amax(0)); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_tensor("all_to_all", send);
    check_tensor("all_to_all", receive);
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    to_count(std::max(send.size(0), receive.size(0)), "all_to_all");
    auto work = make_work("all_to_all", {send, receive});
    auto& buffers = *work->buffers;
    buffers.send_counts = to_counts(send_rows, "all_to_all");
    buffers.send_starts = starts_of(buffers.send_counts);
    buffers.receive_counts = to_counts(receive_rows, "all_to_all");
    buffers.receive_starts = starts_of(buffers.receive_counts);
    const RowType row(c10::multiply_integers(send.sizes().slice(1)) * send.element_size(), "all_to_all");
    check_mpi(MPI_Ialltoallv(send.const_data_ptr(), buffers.send_counts.data(), buffers.send_starts.data(), row.get(), receive.data_ptr(),
                             buffers.receive_counts.data(), buffers.receive_starts.data(), row.get(), comm_, &work->request),
              "all_to_all");
    return work;
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_tensor("all_gather", tensor);
    auto shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    auto gathered = at::empty(shape, tensor.options());
    auto work = make_work("all_gather", {tensor, gathered});
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
    auto work = make_work("broadcast", {tensor});
    const RowType element(tensor.element_size(), "broadcast");
    check_mpi(MPI_Ibcast(tensor.data_ptr(), to_count(tensor.numel(), "broadcast"), element.get(), root, comm_, &work->request),
              "broadcast");
    work->wait();
  }

  void barrier() override {
    auto work = make_work("barrier", {});
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
  std::unique_ptr<MpiWork> make_work(const char* operation, std::vector<at::Tensor> tensors) const {
    auto work = std::make_unique<MpiWork>(operation, place_);
    work->buffers->tensors = std::move(tensors);
    return work;
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

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text, length);  // "Open MPI v4.1.4, package: ...", "MPICH Version:\t4.0.2\n..."
  return version.substr(0, version.find_first_of(",\n"));
}

}  // namespace switchyard
