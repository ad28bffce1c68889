#include "parallel/hierarchical_communicator.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <numeric>

#include <ATen/ATen.h>

#include "core/error.h"
#include "parallel/exchange_checks.h"
#include "parallel/forwarding_communicator.h"
#include "parallel/machine_grid.h"

namespace switchyard {
namespace {

using Counts = std::vector<int64_t>;

Counts in_order(const Counts& counts, const Counts& order) {
  Counts ordered;
  for (const auto index : order) ordered.push_back(counts[index]);
  return ordered;
}

/// Sums of `length` counts each.
Counts sums_of_runs(const Counts& counts, int64_t length) {
  Counts sums;
  for (auto run = counts.begin(); run != counts.end(); run += length) sums.push_back(std::accumulate(run, run + length, int64_t{0}));
  return sums;
}

/// Block i of the result is block order[i] of `rows`.
at::Tensor blocks_in_order(const at::Tensor& rows, const Counts& rows_of_block, const Counts& order) {
  if (std::is_sorted(order.begin(), order.end())) return rows;
  const auto blocks = rows.split_with_sizes(rows_of_block);
  std::vector<at::Tensor> ordered;
  for (const auto index : order) ordered.push_back(blocks[index]);
  return at::cat(ordered);
}

at::Tensor empty_rows(const Counts& rows, const at::Tensor& like) {
  auto shape = like.sizes().vec();
  shape[0] = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  return at::empty(shape, like.options());
}

/// What all exchanges of one communicator share, and what an exchange needs beyond the communicator's handle.
struct Stages {
  CommunicatorPtr flat;
  CommunicatorPtr inside;  ///< the ranks (m, any)
  CommunicatorPtr across;  ///< the ranks (any, l)
  TwoStageRoute route;
};

class HierarchicalWork : public Work {
 public:
  HierarchicalWork(std::shared_ptr<const Stages> stages, at::Tensor receive, Counts receive_rows)
      : stages_(std::move(stages)), receive_(std::move(receive)), receive_rows_(std::move(receive_rows)) {}

  ~HierarchicalWork() override {
    if (!first_stage_ || std::uncaught_exceptions() > 0) return;
    try {
      wait();
    } catch (const std::exception& exception) {
      std::fputs(c10::str("[rank ", stages_->flat->rank(), "/", stages_->flat->size(), "] ", exception.what(), "\n").c_str(), stderr);
      stages_->flat->abort(1);
    }
  }

  void start(const at::Tensor& send, const Counts& send_rows) {
    const auto& inside = stages_->route.inside;
    const int64_t num_machines = stages_->across->size();
    const auto leaving = in_order(send_rows, inside);
    passing_rows_ = exchange_counts(leaving);
    const auto arriving = sums_of_runs(passing_rows_, num_machines);
    passing_ = empty_rows(arriving, send);
    first_stage_ =
        stages_->inside->all_to_all(blocks_in_order(send, send_rows, inside), sums_of_runs(leaving, num_machines), passing_, arriving);
  }

  void wait() override {
    TORCH_CHECK(first_stage_, "Work::wait: called twice");
    std::exchange(first_stage_, nullptr)->wait();
    const auto &across = stages_->route.across, &by_source = stages_->route.by_source;
    const int64_t num_neighbours = stages_->inside->size();
    Counts arriving(receive_rows_.size());
    for (size_t source = 0; source < by_source.size(); ++source) arriving[by_source[source]] = receive_rows_[source];
    const bool comes_by_source = std::is_sorted(by_source.begin(), by_source.end());
    auto arrived = comes_by_source ? receive_ : at::empty_like(receive_);
    const auto leaving = blocks_in_order(std::exchange(passing_, {}), passing_rows_, across);
    stages_->across
        ->all_to_all(leaving, sums_of_runs(in_order(passing_rows_, across), num_neighbours), arrived,
                     sums_of_runs(arriving, num_neighbours))
        ->wait();
    if (!comes_by_source) receive_.copy_(blocks_in_order(arrived, arriving, by_source));
  }

 private:
  /// How many rows each neighbour sends through here to each machine. Both sides have them on the host, so they travel there: over a
  /// device they would cost a wait for all that it has been given to do.
  Counts exchange_counts(const Counts& leaving) const {
    const Counts machines_of_neighbour(stages_->inside->size(), stages_->across->size());
    auto arriving = at::empty({std::ssize(leaving)}, at::kLong);
    stages_->inside->all_to_all(at::tensor(leaving, at::kLong), machines_of_neighbour, arriving, machines_of_neighbour)->wait();
    return {arriving.const_data_ptr<int64_t>(), arriving.const_data_ptr<int64_t>() + arriving.numel()};
  }

  std::shared_ptr<const Stages> stages_;
  at::Tensor receive_;
  Counts receive_rows_;
  at::Tensor passing_;   ///< rows of this machine for the ranks (any, l), by neighbour, then machine
  Counts passing_rows_;  ///< of each of these blocks
  std::unique_ptr<Work> first_stage_;
};

class HierarchicalCommunicator : public ForwardingCommunicator {
 public:
  explicit HierarchicalCommunicator(std::shared_ptr<const Stages> stages)
      : ForwardingCommunicator(stages->flat), stages_(std::move(stages)) {}

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const Counts& send_rows, at::Tensor receive,
                                   const Counts& receive_rows) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    auto work = std::make_unique<HierarchicalWork>(stages_, receive.detach(), receive_rows);
    work->start(send.detach(), send_rows);
    return work;
  }

 private:
  std::shared_ptr<const Stages> stages_;
};

}  // namespace

void check_machines_alike(const std::vector<int64_t>& node_of_rank) {
  if (arrange_in_grid(node_of_rank)) return;
  throw UserError("parallel.all_to_all = hierarchical needs the same number of an expert group's ranks on each of its machines, but " +
                  list_ranks_per_machine(node_of_rank) + "; start as many ranks on every machine, or use flat or auto");
}

CommunicatorPtr make_hierarchical_communicator(CommunicatorPtr flat, const std::vector<int64_t>& node_of_rank) {
  TORCH_CHECK(static_cast<int64_t>(node_of_rank.size()) == flat->size(), "make_hierarchical_communicator: ", node_of_rank.size(),
              " nodes for ", flat->size(), " ranks");
  check_machines_alike(node_of_rank);
  const auto grid = arrange_in_grid(node_of_rank);
  const auto route = route_of_rank(*grid, flat->rank());
  const auto inside = flat->split(route.machine), across = flat->split(route.local_rank);
  return std::make_shared<HierarchicalCommunicator>(std::make_shared<const Stages>(Stages{std::move(flat), inside, across, route}));
}

std::vector<int64_t> gather_nodes(Communicator& group) {
  const auto nodes = group.all_gather(at::scalar_tensor(group.node(), at::kLong));
  return {nodes.const_data_ptr<int64_t>(), nodes.const_data_ptr<int64_t>() + nodes.numel()};
}

std::string list_ranks_per_machine(const std::vector<int64_t>& node_of_rank) {
  std::string text;
  for (const auto& machine : ranks_by_machine(node_of_rank)) text += (text.empty() ? "" : ", ") + std::to_string(machine.size());
  return "the machines hold " + text + " of its ranks";
}

}  // namespace switchyard
