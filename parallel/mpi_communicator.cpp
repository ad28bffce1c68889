// Processes that exchange CPU tensors over MPI. Every wait is that of an MpiWork.
#include "parallel/mpi_communicator.h"

#include <cstdio>
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

std::vector<int64_t> to_bytes(const std::vector<int64_t>& rows, int64_t row_bytes) {
  std::vector<int64_t> bytes;
  for (const auto count : rows) bytes.push_back(count * row_bytes);
  return bytes;
}

class MpiCommunicator : public Communicator {
 public:
  explicit MpiCommunicator(MpiGroupPtr group) : group_(std::move(group)) {}

  int64_t rank() const override { return group_->rank; }
  int64_t size() const override { return group_->size; }
  int64_t node() const override { return group_->session->node(); }

  /// Every rank adds one part of the tensor in the order of ranks, and all gather the parts. MPI_Iallreduce would leave the order to the
  /// library, has no bf16, and took three times as long for 40 MB on two ranks.
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_tensor("all_reduce_sum", tensor);
    const auto flat = tensor.detach().view(-1);
    const auto parts = part_sizes(flat.numel(), size());
    auto work = start_reduce_scatter("all_reduce_sum", flat, parts);
    work->after = [group = group_, flat, parts, add = std::move(work->after)] {
      add();
      gather("all_reduce_sum", group, flat, parts)->wait();
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
    return gather("all_gather_parts", group_, tensor.detach(), parts);
  }

  /// By a gather: MPI_MAX does not say what becomes of NaN, and could leave another result on every rank. Meant for small tensors.
  void all_reduce_max(at::Tensor tensor) override { tensor.detach().copy_(all_gather(tensor).amax(0)); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_tensor("all_to_all", send);
    check_tensor("all_to_all", receive);
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    const int64_t row_bytes = c10::multiply_integers(send.sizes().slice(1)) * send.element_size();
    return move_rows({"all_to_all", row_bytes, send_rows, receive_rows}, send, receive);
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_tensor("all_gather", tensor);
    auto shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    auto gathered = at::empty(shape, tensor.options());
    gathered[rank()].copy_(tensor.detach());
    gather("all_gather", group_, gathered.view(-1), std::vector<int64_t>(size(), tensor.numel()))->wait();
    return gathered;
  }

  void broadcast(at::Tensor tensor, int64_t root) override {
    check_tensor("broadcast", tensor);
    check_root(root, size());
    std::vector<int64_t> expects(size(), 0);
    expects[root] = tensor.numel();
    const std::vector<int64_t> sends(size(), rank() == root ? tensor.numel() : 0);
    MpiWork work(group_, {"broadcast", tensor.element_size(), sends, expects}, {tensor});
    start_broadcast(*group_, work, tensor.data_ptr(), static_cast<int64_t>(tensor.nbytes()), root);
    work.wait();
  }

  void barrier() override { MpiWork(group_, {"barrier"}, {}).wait(); }

  /// The groups live as long as the job: MPI_Comm_free is collective, and handles go in an order of their own on every rank.
  CommunicatorPtr split(int64_t color) override {
    TORCH_CHECK(color >= 0 && color <= kMaxInt, "split: color ", color, " is not in [0, 2^31)");
    barrier();  // MPI_Comm_split cannot be polled: who is missing is found here, under the deadline
    const auto& session = *group_->session;
    const BoundedCall call(session.progress(), session.call_limit(), "MPI_Comm_split");
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(group_->comm, static_cast<int>(color), static_cast<int>(rank()), &part), "split");
    return std::make_shared<MpiCommunicator>(std::make_shared<MpiGroup>(group_->session, part, group_->max_message_bytes));
  }

  void abort(int exit_code) override {
    const BoundedCall call(group_->session->progress(), kAbortLimit, "MPI_Abort");
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }

 private:
  /// The rows of `send` by the plan's counts.
  std::unique_ptr<MpiWork> move_rows(const ExchangePlan& plan, const at::Tensor& send, const at::Tensor& receive) const {
    auto work = std::make_unique<MpiWork>(group_, plan, std::vector<at::Tensor>{send, receive});
    start_all_to_all(*group_, *work, send.const_data_ptr(), to_bytes(plan.sends, plan.row_bytes), receive.data_ptr(),
                     to_bytes(plan.expects, plan.row_bytes));
    return work;
  }

  std::unique_ptr<MpiWork> start_reduce_scatter(const char* operation, const at::Tensor& flat, const std::vector<int64_t>& parts) const {
    const std::vector<int64_t> mine(size(), parts[rank()]);
    auto arrived = at::empty({size(), parts[rank()]}, flat.options());
    auto work = move_rows({operation, flat.element_size(), parts, mine}, flat, arrived);
    work->after = [arrived, own = flat.split_with_sizes(parts)[rank()]] { own.copy_(sum_in_rank_order(arrived)); };
    return work;
  }

  /// Not a method: it runs when a Work is waited for, which may outlive its communicator's handle.
  static std::unique_ptr<MpiWork> gather(const char* operation, const MpiGroupPtr& group, const at::Tensor& flat,
                                         const std::vector<int64_t>& parts) {
    const std::vector<int64_t> mine(group->size, parts[group->rank]);
    auto work = std::make_unique<MpiWork>(group, ExchangePlan{operation, flat.element_size(), mine, parts}, std::vector<at::Tensor>{flat});
    start_gather(*group, *work, flat.data_ptr(), to_bytes(parts, flat.element_size()));
    return work;
  }

  static void check_tensor(const char* operation, const at::Tensor& tensor) {
    check_contiguous(operation, tensor);
    TORCH_CHECK(tensor.device().is_cpu(), operation, ": the MPI communicator moves CPU tensors, this one is on ", tensor.device());
  }

  MpiGroupPtr group_;
};

}  // namespace

CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds, int64_t max_message_bytes, Progress* progress) {
  TORCH_CHECK(timeout_seconds > 0, "make_mpi_communicator: timeout_seconds must be positive, got ", timeout_seconds);
  TORCH_CHECK(max_message_bytes > 0 && max_message_bytes <= kMaxInt, "make_mpi_communicator: max_message_bytes = ", max_message_bytes,
              " is not in [1, 2^31)");
  auto session = std::make_shared<const MpiSession>(timeout_seconds, progress);
  return std::make_shared<MpiCommunicator>(std::make_shared<MpiGroup>(std::move(session), MPI_COMM_WORLD, max_message_bytes));
}

CommunicatorPtr make_mpi_communicator(int64_t timeout_seconds, Progress* progress) {
  return make_mpi_communicator(timeout_seconds, kMaxMessageBytes, progress);
}

}  // namespace switchyard
