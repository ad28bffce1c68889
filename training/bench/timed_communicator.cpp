#include "training/bench/timed_communicator.h"

#include <chrono>

namespace switchyard {
namespace {

/// Calls `body` and adds what it takes.
template <class Body>
auto timed(const std::shared_ptr<double>& seconds, Body body) {
  struct Adding {
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    double& sum;
    ~Adding() { sum += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }
  };
  const Adding adding{.sum = *seconds};
  return body();
}

class TimedWork : public Work {
 public:
  TimedWork(std::unique_ptr<Work> inner, std::shared_ptr<double> seconds) : inner_(std::move(inner)), seconds_(std::move(seconds)) {}
  void wait() override {
    timed(seconds_, [&] { inner_->wait(); });
  }

 private:
  std::unique_ptr<Work> inner_;
  std::shared_ptr<double> seconds_;
};

/// The start of an exchange, and later its end.
template <class Start>
std::unique_ptr<Work> timed_exchange(const std::shared_ptr<double>& seconds, Start start) {
  return std::make_unique<TimedWork>(timed(seconds, start), seconds);
}

}  // namespace

TimedCommunicator::TimedCommunicator(CommunicatorPtr inner, std::shared_ptr<double> seconds)
    : ForwardingCommunicator(std::move(inner)), seconds_(std::move(seconds)) {}

std::unique_ptr<Work> TimedCommunicator::all_reduce_sum(at::Tensor tensor) {
  return timed_exchange(seconds_, [&] { return inner_->all_reduce_sum(tensor); });
}

std::unique_ptr<Work> TimedCommunicator::reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) {
  return timed_exchange(seconds_, [&] { return inner_->reduce_scatter_sum(tensor, parts); });
}

std::unique_ptr<Work> TimedCommunicator::all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) {
  return timed_exchange(seconds_, [&] { return inner_->all_gather_parts(tensor, parts); });
}

void TimedCommunicator::all_reduce_max(at::Tensor tensor) {
  timed(seconds_, [&] { inner_->all_reduce_max(tensor); });
}

std::unique_ptr<Work> TimedCommunicator::all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                                    const std::vector<int64_t>& receive_rows) {
  return timed_exchange(seconds_, [&] { return inner_->all_to_all(send, send_rows, receive, receive_rows); });
}

at::Tensor TimedCommunicator::all_gather(const at::Tensor& tensor) {
  return timed(seconds_, [&] { return inner_->all_gather(tensor); });
}

void TimedCommunicator::broadcast(at::Tensor tensor, int64_t root) {
  timed(seconds_, [&] { inner_->broadcast(tensor, root); });
}

void TimedCommunicator::barrier() {
  timed(seconds_, [&] { inner_->barrier(); });
}

CommunicatorPtr TimedCommunicator::split(int64_t color) {
  return std::make_shared<TimedCommunicator>(inner_->split(color), seconds_);
}

}  // namespace switchyard
