#include "parallel/all_to_all_dispatcher.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/error.h"
#include "parallel/forwarding_communicator.h"
#include "tests/parallel/dispatcher_conformance.h"

namespace switchyard {
namespace {

using conformance::kNumExperts;

class AllToAllOverThreads : public testing::TestWithParam<std::tuple<conformance::Scenario, int>> {
 protected:
  void run(const std::function<void(CommunicatorPtr, const conformance::Scenario&)>& check) {
    run_ranks_as_threads(std::get<1>(GetParam()), [&](CommunicatorPtr group) { check(group, std::get<0>(GetParam())); });
  }
};

TEST_P(AllToAllOverThreads, EqualsTheLocalDispatcherToTheBitInFp64) {
  run([](const auto& group, const auto& scenario) { conformance::equals_the_local_dispatcher_to_the_bit(group, scenario, at::kDouble); });
}

TEST_P(AllToAllOverThreads, EqualsTheLocalDispatcherToTheBitInFp32) {
  run([](const auto& group, const auto& scenario) { conformance::equals_the_local_dispatcher_to_the_bit(group, scenario, at::kFloat); });
}

TEST_P(AllToAllOverThreads, EqualsTheLocalDispatcherToTheBitInAnyNumberOfChunks) {
  run([](const auto& group, const auto& scenario) {
    for (const int64_t num_chunks : {2, 3, 4, 8}) {  // 3: chunks of unequal size
      if (num_chunks > kNumExperts / group->size()) continue;
      conformance::equals_the_local_dispatcher_to_the_bit(group, scenario, at::kFloat, num_chunks);
    }
  });
}

TEST_P(AllToAllOverThreads, ReturnsTheWeightedTokens) {
  run(conformance::returns_the_weighted_tokens);
}

TEST_P(AllToAllOverThreads, BackwardOfDispatchIsItsAdjoint) {
  run(conformance::backward_of_dispatch_is_its_adjoint);
}

INSTANTIATE_TEST_SUITE_P(Dispatcher, AllToAllOverThreads,
                         testing::Combine(testing::ValuesIn(conformance::scenarios()), testing::Values(1, 2, 4)), [](const auto& info) {
                           return std::get<0>(info.param).name + std::string("On") + std::to_string(std::get<1>(info.param));
                         });

TEST(AllToAllDispatcher, StandsByExpertThenRankThenToken) {
  // Rank 0: tokens 10 11 12 -> experts 2 0 2; rank 1: tokens 20 21 -> experts 2 3. Experts 0 1 on rank 0, 2 3 on rank 1.
  // rank 0, expert 0: 11 .                     expert 1: no rows
  // rank 1, expert 2: 10 12 20, padding to 16  expert 3: row 16: 21, padding to 32
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    const bool is_first = group->rank() == 0;
    const auto x_TD = (is_first ? longs({10, 11, 12}) : longs({20, 21})).to(at::kFloat).unsqueeze(1);
    const auto expert_N = is_first ? longs({2, 0, 2}) : longs({2, 3});
    const Routing routing{at::arange(x_TD.size(0)), expert_N, at::ones({x_TD.size(0)}), at::zeros_like(expert_N), 4, 1};
    auto dispatcher = make_all_to_all_dispatcher(4, group);
    auto ticket = dispatcher->begin(x_TD, routing);
    const auto rows = dispatcher->finish(*ticket);
    auto expected_RD = at::zeros({is_first ? 16 : 32, 1});
    if (is_first) {
      expected_RD[0] = 11;
    } else {
      expected_RD.narrow(0, 0, 3).copy_(longs({10, 12, 20}).unsqueeze(1));
      expected_RD[16] = 21;
    }
    expect_equal(rows.rows_RD, expected_RD);
    EXPECT_EQ(rows.row_counts_e, is_first ? (std::vector<int64_t>{1, 0}) : (std::vector<int64_t>{3, 1}));
    dispatcher->combine_begin(*ticket, rows.rows_RD);
    expect_equal(dispatcher->combine_finish(*ticket), x_TD);
  });
}

/// Notes when exchanges start and end; passes everything on.
class NotingCommunicator : public ForwardingCommunicator {
 public:
  NotingCommunicator(CommunicatorPtr inner, std::vector<std::string>& notes) : ForwardingCommunicator(std::move(inner)), notes_(notes) {}

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    notes_.push_back("start");
    return std::make_unique<NotingWork>(inner_->all_to_all(send, send_rows, receive, receive_rows), notes_);
  }

 private:
  struct NotingWork : Work {
    NotingWork(std::unique_ptr<Work> inner, std::vector<std::string>& notes) : inner(std::move(inner)), notes(notes) {}
    void wait() override {
      inner->wait();
      notes.push_back("wait");
    }
    std::unique_ptr<Work> inner;
    std::vector<std::string>& notes;
  };

  std::vector<std::string>& notes_;
};

/// Other work of the layer, noted in both directions.
struct NotedWork : torch::autograd::Function<NotedWork> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const std::string& name,
                            std::vector<std::string>* notes) {
    context->saved_data["name"] = name;
    context->saved_data["notes"] = reinterpret_cast<int64_t>(notes);
    notes->push_back(name);
    return x * 2;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list grad) {
    reinterpret_cast<std::vector<std::string>*>(context->saved_data["notes"].toInt())->push_back(context->saved_data["name"].toStringRef());
    return {grad[0] * 2, {}, {}};
  }
};

TEST(AllToAllDispatcher, WorkBetweenThePhasesOverlapsTheRowsInBothDirections) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    std::vector<std::string> notes;
    auto dispatcher = make_all_to_all_dispatcher(4, std::make_shared<NotingCommunicator>(group, notes));
    auto x_TD = at::ones({4, 2}).requires_grad_(true);
    const Routing routing{at::arange(4), at::arange(4), at::ones({4}), at::zeros({4}, at::kLong), 4, 1};
    auto ticket = dispatcher->begin(x_TD, routing);
    const auto early = NotedWork::apply(x_TD, "beside dispatch", &notes);
    const auto rows = dispatcher->finish(*ticket);
    dispatcher->combine_begin(*ticket, rows.rows_RD * 3);
    const auto late = NotedWork::apply(early, "beside combine", &notes);
    const auto y_TD = dispatcher->combine_finish(*ticket) + late;
    // The first exchange is that of the counts.
    EXPECT_EQ(notes, (std::vector<std::string>{"start", "wait", "start", "beside dispatch", "wait", "start", "beside combine", "wait"}));
    notes.clear();
    y_TD.sum().backward();
    EXPECT_EQ(notes, (std::vector<std::string>{"start", "beside combine", "wait", "start", "beside dispatch", "wait"}));
    expect_equal(x_TD.grad(), at::full({4, 2}, 7.0));
  });
}

TEST(AllToAllDispatcher, AChunksExpertsComputeWhileTheNextChunkTravelsInBothDirections) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    std::vector<std::string> notes;
    auto dispatcher = make_all_to_all_dispatcher(4, std::make_shared<NotingCommunicator>(group, notes), /*num_chunks=*/2);
    auto x_TD = at::ones({4, 2}).requires_grad_(true);
    const Routing routing{at::arange(4), at::arange(4), at::ones({4}), at::zeros({4}, at::kLong), 4, 1};
    auto ticket = dispatcher->begin(x_TD, routing);
    for (const auto* name : {"experts 0", "experts 1"}) {
      dispatcher->combine_begin(*ticket, NotedWork::apply(dispatcher->finish(*ticket).rows_RD, name, &notes));
    }
    const auto y_TD = dispatcher->combine_finish(*ticket);
    // The counts of both chunks go in one exchange. Then: chunk 0, and chunk 1 before chunk 0 is waited for.
    EXPECT_EQ(notes, (std::vector<std::string>{"start", "wait",                                 //
                                               "start", "start", "wait", "experts 0", "start",  // chunk 0 goes back
                                               "wait", "experts 1", "start",                    // chunk 1 goes back
                                               "wait", "wait"}));
    notes.clear();
    y_TD.sum().backward();
    // Both chunks' gradients start, last chunk first; the experts of one compute while the other's travel.
    EXPECT_EQ(notes, (std::vector<std::string>{"start", "start",                                            //
                                               "wait", "experts 1", "start", "wait", "experts 0", "start",  //
                                               "wait", "wait"}));
    expect_equal(x_TD.grad(), at::full({4, 2}, 2.0));
  });
}

TEST(AllToAllDispatcher, RefusesMoreChunksThanExpertsOfARank) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) { EXPECT_THROW(make_all_to_all_dispatcher(4, group, 3), c10::Error); });
  EXPECT_THROW(make_local_dispatcher(4, 5), c10::Error);
  EXPECT_THROW(make_local_dispatcher(4, 0), c10::Error);
}

TEST(AllToAllDispatcher, NeedsNoGraphInEvaluation) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) {
    const at::NoGradGuard no_grad;
    auto dispatcher = make_all_to_all_dispatcher(2, group);
    const auto x_TD = at::full({1, 2}, static_cast<double>(group->rank()));
    auto ticket = dispatcher->begin(x_TD, {longs({0}), longs({1 - group->rank()}), at::ones({1}), longs({0}), 2, 1});
    const auto rows = dispatcher->finish(*ticket);
    EXPECT_EQ(rows.rows_RD[0][0].item<double>(), 1.0 - static_cast<double>(group->rank()));
    dispatcher->combine_begin(*ticket, rows.rows_RD);
    expect_equal(dispatcher->combine_finish(*ticket), x_TD);
  });
}

/// An expert that fails in backward.
struct FailingExpert : torch::autograd::Function<FailingExpert> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) { return x * 1; }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list) {
    throw std::invalid_argument("this expert fails");
  }
};

TEST(AllToAllDispatcher, ARankThatFailsBetweenTheExchangesOfBackwardEndsTheOthers) {
  EXPECT_THROW(run_ranks_as_threads(2,
                                    [](CommunicatorPtr group) {
                                      auto dispatcher = make_all_to_all_dispatcher(2, group);
                                      auto x_TD = at::ones({1, 2}).requires_grad_(true);
                                      auto ticket = dispatcher->begin(x_TD, {longs({0}), longs({0}), at::ones({1}), longs({0}), 2, 1});
                                      const auto rows_RD = dispatcher->finish(*ticket).rows_RD;
                                      dispatcher->combine_begin(*ticket, group->rank() == 1 ? FailingExpert::apply(rows_RD) : rows_RD);
                                      dispatcher->combine_finish(*ticket).sum().backward();
                                    }),
               std::invalid_argument);
}

TEST(AllToAllDispatcher, RefusesExpertsThatCannotBeDividedEvenly) {
  run_ranks_as_threads(2, [](CommunicatorPtr group) { EXPECT_THROW(make_all_to_all_dispatcher(3, group), c10::Error); });
}

}  // namespace
}  // namespace switchyard
