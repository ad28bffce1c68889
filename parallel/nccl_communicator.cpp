#include "parallel/nccl_communicator.h"

#include <cstdio>
#include <limits>
#include <numeric>

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "core/error.h"
#include "parallel/exchange_checks.h"
#include "parallel/nccl_job.h"
#include "parallel/rank_order_sum.h"

namespace switchyard {
namespace {

/// Orders the current stream behind the exchange. Without an event there was nothing to exchange.
class NcclWork : public Work {
 public:
  NcclWork(std::shared_ptr<const c10::Event> done, at::Device device) : done_(std::move(done)), device_(device) {}
  ~NcclWork() override {
    if (is_waited_for_) return;
    try {
      wait();
    } catch (const std::exception&) {
      // The device has failed: the watch says so and ends the process.
    }
  }

  void wait() override {
    TORCH_CHECK(!is_waited_for_, "Work::wait: called twice");
    is_waited_for_ = true;
    if (done_) done_->block(c10::cuda::getCurrentCUDAStream(device_.index()).unwrap());
  }

 private:
  std::shared_ptr<const c10::Event> done_;
  at::Device device_;
  bool is_waited_for_ = false;
};

/// Bytes for every peer, one peer's behind the other's.
std::vector<size_t> to_bytes(const std::vector<int64_t>& rows, int64_t row_bytes) {
  std::vector<size_t> bytes;
  for (const auto count : rows) bytes.push_back(static_cast<size_t>(count * row_bytes));
  return bytes;
}

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclJob> job, ncclComm_t comm, int64_t node)
      : job_(std::move(job)), comm_(comm), node_(node), stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, index())) {
    check_nccl(ncclCommUserRank(comm_, &rank_), "ncclCommUserRank", comm_);
    check_nccl(ncclCommCount(comm_, &size_), "ncclCommCount", comm_);
  }

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  int64_t node() const override { return node_; }

  /// Not ncclAllReduce: it leaves the order of the sum to its algorithm, which changes with size, topology and version.
  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_tensor("all_reduce_sum", tensor);
    const auto flat = tensor.detach().view(-1);
    const auto parts = part_sizes(flat.numel(), size());
    return enqueue("all_reduce_sum", {flat}, [&] {
      add_own_part("all_reduce_sum", flat, parts);
      gather_parts("all_reduce_sum", flat, parts);
    });
  }

  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_tensor("reduce_scatter_sum", tensor);
    check_parts("reduce_scatter_sum", tensor, parts, size());
    const auto flat = tensor.detach();
    return enqueue("reduce_scatter_sum", {flat}, [&] { add_own_part("reduce_scatter_sum", flat, parts); });
  }

  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_tensor("all_gather_parts", tensor);
    check_parts("all_gather_parts", tensor, parts, size());
    const auto flat = tensor.detach();
    return enqueue("all_gather_parts", {flat}, [&] { gather_parts("all_gather_parts", flat, parts); });
  }

  /// By a gather: ncclMax does not say what becomes of NaN. Meant for small tensors.
  void all_reduce_max(at::Tensor tensor) override { tensor.detach().copy_(all_gather(tensor).amax(0)); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_tensor("all_to_all", send);
    check_tensor("all_to_all", receive);
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    const int64_t row_bytes = c10::multiply_integers(send.sizes().slice(1)) * send.element_size();
    const auto from = send.detach(), to = receive.detach();
    return enqueue(
        "all_to_all", {from, to},
        [&] { exchange("all_to_all", from, to_bytes(send_rows, row_bytes), to, to_bytes(receive_rows, row_bytes)); },
        [send_rows, receive_rows] {
          return c10::str(": sends rows ", at::IntArrayRef(send_rows), ", expects ", at::IntArrayRef(receive_rows), ",");
        });
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_tensor("all_gather", tensor);
    auto shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    const auto mine = tensor.detach();
    auto gathered = at::empty(shape, mine.options());
    enqueue("all_gather", {mine, gathered}, [&] {
      if (mine.nbytes() == 0) return;
      check_nccl(ncclAllGather(mine.const_data_ptr(), gathered.mutable_data_ptr(), mine.nbytes(), ncclUint8, comm_, stream_.stream()),
                 "all_gather", comm_);
      job_->settle(comm_, "all_gather");
    })->wait();
    return gathered;
  }

  void broadcast(at::Tensor tensor, int64_t root) override {
    check_tensor("broadcast", tensor);
    check_root(root, size());
    const auto bytes = tensor.detach();
    enqueue("broadcast", {bytes}, [&] {
      if (bytes.nbytes() == 0) return;
      void* data = bytes.mutable_data_ptr();
      check_nccl(ncclBroadcast(data, data, bytes.nbytes(), ncclUint8, static_cast<int>(root), comm_, stream_.stream()), "broadcast", comm_);
      job_->settle(comm_, "broadcast");
    })->wait();
  }

  void barrier() override {
    all_gather(at::zeros({1}, at::dtype(at::kByte).device(job_->device())));
    c10::Event done(at::kCUDA);
    done.record(stream_.unwrap());
    job_->wait_on_host(done, "barrier");
  }

  CommunicatorPtr split(int64_t color) override {
    TORCH_CHECK(color >= 0 && color <= std::numeric_limits<int>::max(), "split: color ", color, " is not in [0, 2^31)");
    return std::make_shared<NcclCommunicator>(job_, job_->split(comm_, static_cast<int>(color), rank_), node_);
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    job_->abort_all();
    job_->bootstrap().abort(exit_code);
  }

 private:
  c10::DeviceIndex index() const { return job_->device().index(); }

  /// Runs `body` with this communicator's stream as the current one, behind what the caller's current stream has been given so far.
  template <class Body>
  std::unique_ptr<NcclWork> enqueue(
      const char* operation, const std::vector<at::Tensor>& tensors, Body body,
      std::function<std::string()> detail = [] { return std::string(); }) {
    const c10::DeviceGuard device_guard(job_->device());
    c10::Event ready(at::kCUDA);
    ready.record(c10::cuda::getCurrentCUDAStream(index()).unwrap());
    ready.block(stream_.unwrap());
    {
      const c10::StreamGuard stream_guard(stream_.unwrap());
      const at::NoGradGuard no_grad;
      body();
    }
    // Their memory is not given to anybody else before this stream is past the exchange, whenever the caller lets go of them.
    for (const auto& tensor : tensors) tensor.record_stream(stream_.unwrap());
    auto done = std::make_shared<c10::Event>(at::kCUDA);
    done->record(stream_.unwrap());
    job_->watch(comm_, done, [operation, rank = rank_, size = size_, detail = std::move(detail)] {
      return c10::str(operation, " on rank ", rank, " of ", size, detail());
    });
    return std::make_unique<NcclWork>(std::move(done), job_->device());
  }

  /// All sends and receives at once. Peers agree on the sizes, so that both sides leave out what is empty.
  void exchange(const char* operation, const at::Tensor& send, const std::vector<size_t>& send_bytes, const at::Tensor& receive,
                const std::vector<size_t>& receive_bytes) const {
    if (send.nbytes() == 0 && receive.nbytes() == 0) return;
    const auto* from = static_cast<const char*>(send.const_data_ptr());
    auto* to = static_cast<char*>(receive.mutable_data_ptr());
    check_nccl(ncclGroupStart(), operation, comm_);
    for (int peer = 0; peer < size_; ++peer) {
      if (send_bytes[peer] > 0) check_nccl(ncclSend(from, send_bytes[peer], ncclUint8, peer, comm_, stream_.stream()), operation, comm_);
      if (receive_bytes[peer] > 0)
        check_nccl(ncclRecv(to, receive_bytes[peer], ncclUint8, peer, comm_, stream_.stream()), operation, comm_);
      from += send_bytes[peer];
      to += receive_bytes[peer];
    }
    check_nccl(ncclGroupEnd(), operation, comm_);
    job_->settle(comm_, operation);
  }

  /// This rank's part of `flat` becomes the sum over the ranks, in their order.
  void add_own_part(const char* operation, const at::Tensor& flat, const std::vector<int64_t>& parts) const {
    if (size_ == 1) return;
    const int64_t mine = parts[rank_];
    const auto arrived = at::empty({size_, mine}, flat.options());
    const auto bytes = flat.element_size();
    exchange(operation, flat, to_bytes(parts, bytes), arrived, to_bytes(std::vector<int64_t>(size_, mine), bytes));
    flat.split_with_sizes(parts)[rank_].copy_(sum_in_rank_order(arrived));
  }

  /// Every rank's part of `flat` goes to all.
  void gather_parts(const char* operation, const at::Tensor& flat, const std::vector<int64_t>& parts) const {
    if (size_ == 1) return;
    auto* place = static_cast<char*>(flat.mutable_data_ptr());
    check_nccl(ncclGroupStart(), operation, comm_);
    for (int root = 0; root < size_; ++root) {
      const auto bytes = static_cast<size_t>(parts[root] * flat.element_size());
      if (bytes > 0) check_nccl(ncclBroadcast(place, place, bytes, ncclUint8, root, comm_, stream_.stream()), operation, comm_);
      place += bytes;
    }
    check_nccl(ncclGroupEnd(), operation, comm_);
    job_->settle(comm_, operation);
  }

  void check_tensor(const char* operation, const at::Tensor& tensor) const {
    check_contiguous(operation, tensor);
    TORCH_CHECK(tensor.device() == job_->device(), operation, ": this NCCL communicator moves tensors on ", job_->device(),
                ", this one is on ", tensor.device());
  }

  std::shared_ptr<NcclJob> job_;
  ncclComm_t comm_;
  int64_t node_;
  c10::cuda::CUDAStream stream_;
  int rank_ = 0;
  int size_ = 1;
};

void check_device(at::Device device) {
  TORCH_CHECK(device.is_cuda() && device.has_index(), "make_nccl_communicator: expected a CUDA device with its number, got ", device);
  if (!at::globalContext().hasCUDART()) {  // hasCUDA() asks for a device that is there
    throw UserError("NCCL: this build of LibTorch is without CUDA; build the preset `cuda`, or use training.device: cpu");
  }
  const int64_t num_devices = c10::cuda::device_count();
  if (device.index() < num_devices) return;
  throw UserError("NCCL: CUDA device " + std::to_string(device.index()) + " is not there, this machine has " + std::to_string(num_devices) +
                  " (a driver that is missing, or CUDA_VISIBLE_DEVICES); use training.device: cpu");
}

}  // namespace

CommunicatorPtr make_nccl_communicator(CommunicatorPtr bootstrap, at::Device device, int64_t timeout_seconds, const Progress* progress) {
  TORCH_CHECK(timeout_seconds > 0, "make_nccl_communicator: timeout_seconds must be positive, got ", timeout_seconds);
  check_device(device);
  c10::cuda::set_device(device.index());
  const auto node = bootstrap->node();
  auto job = std::make_shared<NcclJob>(std::move(bootstrap), device, timeout_seconds, progress);
  const auto world = job->world();
  return std::make_shared<NcclCommunicator>(std::move(job), world, node);
}

}  // namespace switchyard
