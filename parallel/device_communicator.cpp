#include "parallel/device_communicator.h"

#include "parallel/forwarding_communicator.h"

namespace switchyard {
namespace {

/// What it does not do itself is the host's.
class DeviceCommunicator : public ForwardingCommunicator {
 public:
  DeviceCommunicator(CommunicatorPtr host, CommunicatorPtr device, TensorPredicate is_on_device)
      : ForwardingCommunicator(std::move(host)), device_(std::move(device)), is_on_device_(std::move(is_on_device)) {
    TORCH_CHECK(device_->rank() == inner_->rank() && device_->size() == inner_->size(), "make_device_communicator: rank ", inner_->rank(),
                " of ", inner_->size(), " on the host is rank ", device_->rank(), " of ", device_->size(), " on the device");
  }

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override { return carrier_of(tensor).all_reduce_sum(tensor); }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    return carrier_of(tensor).reduce_scatter_sum(tensor, parts);
  }
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    return carrier_of(tensor).all_gather_parts(tensor, parts);
  }
  void all_reduce_max(at::Tensor tensor) override { carrier_of(tensor).all_reduce_max(tensor); }
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    TORCH_CHECK(send.device() == receive.device(), "all_to_all: rows on ", send.device(), " cannot be received on ", receive.device());
    return carrier_of(send).all_to_all(send, send_rows, receive, receive_rows);
  }
  at::Tensor all_gather(const at::Tensor& tensor) override { return carrier_of(tensor).all_gather(tensor); }
  void broadcast(at::Tensor tensor, int64_t root) override { carrier_of(tensor).broadcast(tensor, root); }
  CommunicatorPtr split(int64_t color) override {
    auto host = inner_->split(color);
    return make_device_communicator(std::move(host), device_->split(color), is_on_device_);
  }
  void abort(int exit_code) override {
    device_->abort(exit_code);
    inner_->abort(exit_code);
  }

 private:
  Communicator& carrier_of(const at::Tensor& tensor) const {
    TORCH_CHECK(tensor.defined(), "an exchange needs a tensor");
    return is_on_device_(tensor) ? *device_ : *inner_;
  }

  CommunicatorPtr device_;
  TensorPredicate is_on_device_;
};

}  // namespace

CommunicatorPtr make_device_communicator(CommunicatorPtr host, CommunicatorPtr device, TensorPredicate is_on_device) {
  return std::make_shared<DeviceCommunicator>(std::move(host), std::move(device), std::move(is_on_device));
}

CommunicatorPtr make_device_communicator(CommunicatorPtr host, CommunicatorPtr device) {
  return make_device_communicator(std::move(host), std::move(device), [](const at::Tensor& tensor) { return !tensor.is_cpu(); });
}

}  // namespace switchyard
