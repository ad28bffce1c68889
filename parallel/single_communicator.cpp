// A group of one: every exchange is a copy.
#include <cstdio>
#include <cstdlib>

#include <ATen/ATen.h>

#include "parallel/communicator.h"
#include "parallel/exchange_checks.h"

namespace switchyard {
namespace {

struct FinishedWork : Work {
  void wait() override {}
};

class SingleCommunicator : public Communicator {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  int64_t node() const override { return 0; }

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_contiguous("all_reduce_sum", tensor);
    return std::make_unique<FinishedWork>();
  }

  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_parts("reduce_scatter_sum", tensor, parts, size());
    return std::make_unique<FinishedWork>();
  }

  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_parts("all_gather_parts", tensor, parts, size());
    return std::make_unique<FinishedWork>();
  }

  void all_reduce_max(at::Tensor tensor) override { check_contiguous("all_reduce_max", tensor); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    TORCH_CHECK(send_rows == receive_rows, "all_to_all: rank 0 sends itself ", send_rows[0], " rows and expects ", receive_rows[0]);
    at::NoGradGuard no_grad;
    receive.copy_(send);
    return std::make_unique<FinishedWork>();
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_contiguous("all_gather", tensor);
    return tensor.detach().clone().unsqueeze(0);
  }

  void broadcast(at::Tensor tensor, int64_t root) override {
    check_contiguous("broadcast", tensor);
    check_root(root, size());
  }

  void barrier() override {}

  CommunicatorPtr split(int64_t /*color*/) override { return make_single_communicator(); }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    std::_Exit(exit_code);
  }
};

}  // namespace

CommunicatorPtr make_single_communicator() {
  return std::make_shared<SingleCommunicator>();
}

}  // namespace switchyard
