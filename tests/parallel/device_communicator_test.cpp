// Host and device as one communicator. Both sides are ranks as threads here, and a tensor's dtype says where it "lies": whole numbers on
// the host, all others on the device.
#include "parallel/device_communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/forwarding_communicator.h"
#include "tests/parallel/communicator_conformance.h"

namespace switchyard {
namespace {

bool lies_on_device(const at::Tensor& tensor) {
  return tensor.is_floating_point();
}

using Notes = std::vector<std::string>;

/// Writes down what it is asked to do, under its name, and does it.
class NotingSide : public ForwardingCommunicator {
 public:
  NotingSide(CommunicatorPtr inner, std::string name, Notes& notes)
      : ForwardingCommunicator(std::move(inner)), name_(std::move(name)), notes_(notes) {}

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    note("all_reduce_sum");
    return inner_->all_reduce_sum(tensor);
  }
  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    note("reduce_scatter_sum");
    return inner_->reduce_scatter_sum(tensor, parts);
  }
  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    note("all_gather_parts");
    return inner_->all_gather_parts(tensor, parts);
  }
  void all_reduce_max(at::Tensor tensor) override {
    note("all_reduce_max");
    inner_->all_reduce_max(tensor);
  }
  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    note("all_to_all");
    return inner_->all_to_all(send, send_rows, receive, receive_rows);
  }
  at::Tensor all_gather(const at::Tensor& tensor) override {
    note("all_gather");
    return inner_->all_gather(tensor);
  }
  void broadcast(at::Tensor tensor, int64_t root) override {
    note("broadcast");
    inner_->broadcast(tensor, root);
  }
  void barrier() override {
    note("barrier");
    inner_->barrier();
  }
  CommunicatorPtr split(int64_t color) override { return std::make_shared<NotingSide>(inner_->split(color), name_ + " group", notes_); }
  void abort(int exit_code) override { note("abort " + std::to_string(exit_code)); }

 private:
  void note(const std::string& what) { notes_.push_back(name_ + ": " + what); }

  std::string name_;
  Notes& notes_;
};

CommunicatorPtr make_noting(const CommunicatorPtr& group, Notes& notes) {
  return make_device_communicator(std::make_shared<NotingSide>(group, "host", notes),
                                  std::make_shared<NotingSide>(group->split(0), "device", notes), lies_on_device);
}

void use_every_exchange(Communicator& group, at::ScalarType dtype) {
  const std::vector<int64_t> one_each(group.size(), 1);
  auto tensor = at::ones({group.size()}, dtype), received = at::zeros_like(tensor);
  group.all_reduce_sum(tensor)->wait();
  group.reduce_scatter_sum(tensor, one_each)->wait();
  group.all_gather_parts(tensor, one_each)->wait();
  group.all_reduce_max(tensor);
  group.all_to_all(tensor, one_each, received, one_each)->wait();
  group.all_gather(tensor);
  group.broadcast(tensor, 0);
}

Notes all_exchanges_by(const std::string& side) {
  Notes notes;
  for (const auto* what :
       {"all_reduce_sum", "reduce_scatter_sum", "all_gather_parts", "all_reduce_max", "all_to_all", "all_gather", "broadcast"})
    notes.push_back(side + ": " + what);
  return notes;
}

class DeviceRanks : public testing::TestWithParam<std::tuple<conformance::Check, int>> {};

TEST_P(DeviceRanks, Conform) {
  const auto [check, num_ranks] = GetParam();
  run_ranks_as_threads(num_ranks,
                       [&](CommunicatorPtr group) { check.run(*make_device_communicator(group, group->split(0), lies_on_device)); });
}

INSTANTIATE_TEST_SUITE_P(Communicator, DeviceRanks, testing::Combine(testing::ValuesIn(conformance::kChecks), testing::Values(1, 3)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + std::string("On") + std::to_string(std::get<1>(info.param));
                         });

TEST(DeviceCommunicator, CarriesEveryTensorOnItsOwnSide) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    Notes notes;
    const auto both = make_noting(group, notes);
    use_every_exchange(*both, at::kDouble);
    EXPECT_EQ(notes, all_exchanges_by("device"));
    notes.clear();
    use_every_exchange(*both, at::kLong);
    EXPECT_EQ(notes, all_exchanges_by("host"));
  });
}

TEST(DeviceCommunicator, ItsGroupsHaveBothSidesToo) {
  run_ranks_as_threads(4, [](CommunicatorPtr group) {
    Notes notes;
    const auto pair = make_noting(group, notes)->split(group->rank() / 2);
    use_every_exchange(*pair, at::kDouble);
    EXPECT_EQ(notes, all_exchanges_by("device group"));
    notes.clear();
    use_every_exchange(*pair, at::kLong);
    EXPECT_EQ(notes, all_exchanges_by("host group"));
  });
}

TEST(DeviceCommunicator, BarriersAreTheHostsAndTheDeviceIsAbortedFirst) {
  Notes notes;
  const auto both = make_noting(make_single_communicator(), notes);
  both->barrier();
  both->abort(3);
  EXPECT_EQ(notes, (Notes{"host: barrier", "device: abort 3", "host: abort 3"}));
}

TEST(DeviceCommunicator, GoesByTheDeviceOfATensorWhereNothingElseIsSaid) {
  Notes notes;
  const auto single = make_single_communicator();
  const auto both =
      make_device_communicator(std::make_shared<NotingSide>(single, "host", notes), std::make_shared<NotingSide>(single, "device", notes));
  both->broadcast(at::ones({2}), 0);
  both->broadcast(at::empty({2}, at::kMeta), 0);
  EXPECT_EQ(notes, (Notes{"host: broadcast", "device: broadcast"}));
  auto received = at::empty({2}, at::kMeta);
  EXPECT_THROW(both->all_to_all(at::ones({2}), {2}, received, {2}), c10::Error);
}

TEST(DeviceCommunicator, RefusesSidesOnWhichARankHasTwoNumbers) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    const auto alone = group->split(group->rank());
    EXPECT_THROW(make_device_communicator(group, alone), c10::Error);
  });
}

}  // namespace
}  // namespace switchyard
