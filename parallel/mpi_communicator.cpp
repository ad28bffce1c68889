// Processes that exchange CPU tensors over MPI. Every wait is that of an MpiWork.
#include "parallel/mpi_communicator.h"

#include <cstdio>
#include <exception>
#include <limits>

#include <ATen/ATen.h>

#include "core/error.h"
#include "parallel/exchange_checks.h"
#include "parallel/mpi_exchange.h"
#include "parallel/rank_order_sum.h"

namespace switchyard {
namespace {

/// Transports have limits of their own below 2^31 bytes: process_vm_readv and writev move a page less than that at once.
constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;
constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

/// MPI between MPI_Init and MPI_Finalize. Held by every communicator, so that the last handle ends it.
class Session {
 public:
  Session() {
    int started = 0;
    MPI_Initialized(&started);
    if (started) throw RunError("make_mpi_communicator: MPI can be started only once in a process");
    // Backward of CUDA tensors runs on a thread of autograd's, while the one that called it waits: one at a time, but not always the same.
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_SERIALIZED) throw RunError("MPI_Init_thread: this MPI can be called from one thread only");
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

std::vector<int64_t> to_bytes(const std::vector<int64_t>& rows, int64_t row_bytes) {
  std::vector<int64_t> bytes;
  for (const auto count : rows) bytes.push_back(count * row_bytes);
  return bytes;
}

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<Session> session, MPI_Comm comm, int64_t node, int64_t timeout_seconds, int64_t max_message_bytes)
      : session_(std::move(session)), node_(node) {
    int rank = 0, size = 0;
    check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
    group_ =
        std::make_shared<MpiGroup>(MpiGroup{.comm = comm, .place = {rank, size, timeout_seconds}, .max_message_bytes = max_message_bytes});
  }

  int64_t rank() const override { return group_->place.rank; }
  int64_t size() const override { return group_->place.size; }
  int64_t node() const override { return node_; }

  /// Every rank adds one part of the tensor in the order of ranks, and all gather the parts. MPI_Iallreduce would leave the order to the
  /// library, has no bf16, and took three times as long for 40 MB on two ranks.
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_tensor("all_reduce_sum", tensor);
    const auto flat = tensor.detach().view(-1);
    const auto parts = part_sizes(flat.numel(), size());
    auto work = start_reduce_scatter("all_reduce_sum", flat, parts);
    work->after = [group = group_, flat, parts, add = std::move(work->after)] {
      add();
      gather("all_reduce_sum", *group, flat, parts)->wait();
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
    return gather("all_gather_parts", *group_, tensor.detach(), parts);
  }

  /// By a gather: MPI_MAX does not say what becomes of NaN, and could leave another result on every rank. Meant for small tensors.
  void all_reduce_max(at::Tensor tensor) override { tensor.detach().copy_(all_gather(tensor).amax(0)); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_tensor("all_to_all", send);
    check_tensor("all_to_all", receive);
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    const int64_t row_bytes = c10::multiply_integers(send.sizes().slice(1)) * send.element_size();
    auto work = make_work("all_to_all", *group_, {send, receive});
    start_all_to_all(*group_, *work, send.const_data_ptr(), to_bytes(send_rows, row_bytes), receive.data_ptr(),
                     to_bytes(receive_rows, row_bytes));
    return work;
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_tensor("all_gather", tensor);
    auto shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    auto gathered = at::empty(shape, tensor.options());
    gathered[rank()].copy_(tensor.detach());
    gather("all_gather", *group_, gathered.view(-1), std::vector<int64_t>(size(), tensor.numel()))->wait();
    return gathered;
  }

  void broadcast(at::Tensor tensor, int64_t root) override {
    check_tensor("broadcast", tensor);
    check_root(root, size());
    auto work = make_work("broadcast", *group_, {tensor});
    start_broadcast(*group_, *work, tensor.data_ptr(), static_cast<int64_t>(tensor.nbytes()), root);
    work->wait();
  }

  void barrier() override {
    auto work = make_work("barrier", *group_, {});
    check_mpi(MPI_Ibarrier(group_->comm, work->new_request()), "barrier");
    work->wait();
  }

  /// The groups live as long as the job: MPI_Comm_free is collective, and handles go in an order of their own on every rank.
  CommunicatorPtr split(int64_t color) override {
    TORCH_CHECK(color >= 0 && color <= kMaxInt, "split: color ", color, " is not in [0, 2^31)");
    barrier();  // MPI_Comm_split cannot be polled: who is missing is found here, under the deadline
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(group_->comm, static_cast<int>(color), static_cast<int>(rank()), &part), "split");
    return std::make_shared<MpiCommunicator>(session_, part, node_, group_->place.timeout_seconds, group_->max_message_bytes);
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }

 private:
  static std::unique_ptr<MpiWork> make_work(const char* operation, const MpiGroup& group, std::vector<at::Tensor> tensors) {
    return std::make_unique<MpiWork>(operation, group.place, std::move(tensors));
  }

  std::unique_ptr<MpiWork> start_reduce_scatter(const char* operation, const at::Tensor& flat, const std::vector<int64_t>& parts) const {
    const int64_t mine = parts[rank()], bytes = flat.element_size();
    auto arrived = at::empty({size(), mine}, flat.options());
    auto work = make_work(operation, *group_, {flat, arrived});
    start_all_to_all(*group_, *work, flat.const_data_ptr(), to_bytes(parts, bytes), arrived.data_ptr(),
                     to_bytes(std::vector<int64_t>(size(), mine), bytes));
    work->after = [arrived, own = flat.split_with_sizes(parts)[rank()]] { own.copy_(sum_in_rank_order(arrived)); };
    return work;
  }

  /// Not a method: it runs when a Work is waited for, which may outlive its communicator's handle.
  static std::unique_ptr<MpiWork> gather(const char* operation, MpiGroup& group, const at::Tensor& flat,
                                         const std::vector<int64_t>& parts) {
    auto work = make_work(operation, group, {flat});
    start_gather(group, *work, flat.data_ptr(), to_bytes(parts, flat.element_size()));
    return work;
  }

  static void check_tensor(const char* operation, const at::Tensor& tensor) {
    check_contiguous(operation, tensor);
    TORCH_CHECK(tensor.device().is_cpu(), operation, ": the MPI communicator moves CPU tensors, this one is on ", tensor.device());
  }

  std::shared_ptr<Session> session_;
  int64_t node_;
  std::shared_ptr<MpiGroup> group_;
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

CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds, int64_t max_message_bytes) {
  TORCH_CHECK(timeout_seconds > 0, "make_mpi_communicator: timeout_seconds must be positive, got ", timeout_seconds);
  TORCH_CHECK(max_message_bytes > 0 && max_message_bytes <= kMaxInt, "make_mpi_communicator: max_message_bytes = ", max_message_bytes,
              " is not in [1, 2^31)");
  auto session = std::make_shared<Session>();
  const auto node = find_node();
  return std::make_shared<MpiCommunicator>(std::move(session), MPI_COMM_WORLD, node, timeout_seconds, max_message_bytes);
}

CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds) {
  return make_mpi_communicator(timeout_seconds, kMaxMessageBytes);
}

}  // namespace switchyard
