// Processes that exchange CPU tensors over MPI. Every wait is that of an MpiWork.
#include <cstdio>
#include <exception>
#include <numeric>

#include <ATen/ATen.h>

#include "core/error.h"
#include "parallel/communicator.h"
#include "parallel/exchange_checks.h"
#include "parallel/mpi_work.h"
#include "parallel/rank_order_sum.h"

namespace switchyard {
namespace {

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
  MpiCommunicator(std::shared_ptr<Session> session, MPI_Comm comm, int64_t node, int64_t timeout_seconds)
      : session_(std::move(session)), comm_(comm), node_(node) {
    int rank = 0, size = 0;
    check_mpi(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
    place_ = {rank, size, timeout_seconds};
  }

  int64_t rank() const override { return place_.rank; }
  int64_t size() const override { return place_.size; }
  int64_t node() const override { return node_; }

  /// Every rank adds one part of the tensor in the order of ranks, and all gather the parts. MPI_Iallreduce would leave the order to the
  /// library, has no bf16, and took three times as long for 40 MB on two ranks.
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_tensor("all_reduce_sum", tensor);
    const auto flat = tensor.detach().view(-1);
    const auto parts = part_sizes(flat.numel(), size());
    auto work = start_reduce_scatter("all_reduce_sum", flat, parts);
    work->after = [comm = comm_, place = place_, flat, parts, add = std::move(work->after)] {
      add();
      start_gather("all_reduce_sum", comm, place, flat, parts)->wait();
    };
    return work;
  }

  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_tensor("reduce_scatter_sum", tensor);
    check_parts("reduce_scatter_sum", tensor, parts, size());
    return start_reduce_scatter("reduce_scatter_sum", tensor.detach(), parts);
  }

  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_tensor("all_gather_parts", tensor);
    check_parts("all_gather_parts", tensor, parts, size());
    return start_gather("all_gather_parts", comm_, place_, tensor.detach(), parts);
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
    return std::make_shared<MpiCommunicator>(session_, part, node_, place_.timeout_seconds);
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

  std::unique_ptr<MpiWork> start_reduce_scatter(const char* operation, const at::Tensor& flat, const std::vector<int64_t>& parts) const {
    const int64_t mine = parts[rank()];
    auto arrived = at::empty({size() * mine}, flat.options());
    auto work = start_all_to_all(operation, flat, parts, arrived, std::vector<int64_t>(size(), mine));
    work->after = [arrived, size = size(), place = flat.split_with_sizes(parts)[rank()]] {
      place.copy_(sum_in_rank_order(arrived.view({size, place.numel()})));
    };
    return work;
  }

  /// Not a method: it runs when a Work is waited for, which may outlive its communicator's handle.
  static std::unique_ptr<MpiWork> start_gather(const char* operation, MPI_Comm comm, Place place, const at::Tensor& flat,
                                               const std::vector<int64_t>& parts) {
    auto work = make_work(operation, place, {flat});
    auto& buffers = *work->buffers;
    buffers.receive_counts = to_counts(parts, operation);
    buffers.receive_starts = starts_of(buffers.receive_counts);
    const RowType element(flat.element_size(), operation);
    check_mpi(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, flat.data_ptr(), buffers.receive_counts.data(),
                              buffers.receive_starts.data(), element.get(), comm, &work->request),
              operation);
    return work;
  }

  static void check_tensor(const char* operation, const at::Tensor& tensor) {
    check_contiguous(operation, tensor);
    TORCH_CHECK(tensor.device().is_cpu(), operation, ": the MPI communicator moves CPU tensors, this one is on ", tensor.device());
  }

  std::shared_ptr<Session> session_;
  MPI_Comm comm_;
  int64_t node_;
  Place place_;
};

/// Processes that share memory, numbered by the smallest of their ranks in the world.
int64_t find_node() {
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, /*key=*/0, MPI_INFO_NULL, &machine), "MPI_Comm_split_type");
  int rank = 0, size = 0;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  int first = rank;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, machine), "find_node");
  std::vector<int> first_of(size);
  check_mpi(MPI_Allgather(&first, 1, MPI_INT, first_of.data(), 1, MPI_INT, MPI_COMM_WORLD), "find_node");
  check_mpi(MPI_Comm_free(&machine), "MPI_Comm_free");
  int64_t node = 0;
  for (int r = 0; r < first; ++r) node += first_of[r] == r;
  return node;
}

}  // namespace

CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds) {
  TORCH_CHECK(timeout_seconds > 0, "make_mpi_communicator: timeout_seconds must be positive, got ", timeout_seconds);
  auto session = std::make_shared<Session>();
  const auto node = find_node();
  return std::make_shared<MpiCommunicator>(std::move(session), MPI_COMM_WORLD, node, timeout_seconds);
}

}  // namespace switchyard
