#include "parallel/all_to_all_dispatcher.h"

#include <numeric>

#include <ATen/ATen.h>

#include "core/expert_order.h"
#include "core/host_copy.h"
#include "core/row_ops.h"
#include "parallel/row_exchange.h"

namespace switchyard {
namespace {

/// How many rows go where. S ranks, e experts a rank. A rank's rows for one peer lie together, by expert.
struct RowCounts {
  at::Tensor arriving_Se;  ///< rows of each source for each expert held here, on the group's device
  std::vector<int64_t> send_rows_S;
  std::vector<int64_t> receive_rows_S;
  std::vector<int64_t> row_counts_e;
};

std::vector<int64_t> to_list(const at::Tensor& counts) {
  return {counts.const_data_ptr<int64_t>(), counts.const_data_ptr<int64_t>() + counts.numel()};
}

int64_t sum_of(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

int64_t sum_of_padded(const std::vector<int64_t>& counts) {
  int64_t sum = 0;
  for (const auto count : counts) sum += padded_rows(count);
  return sum;
}

struct AllToAllTicket : DispatchTicket {
  RowCounts counts;
  at::Tensor in_flight;  ///< rows to the experts, then outputs back
  RowExchangePtr to_experts;
  RowExchangePtr to_tokens;
  at::Tensor row_A;      ///< where each arrival stands among the experts' padded rows
  at::Tensor arrival_R;  ///< the inverse, -1 for padding
  at::Tensor slot_TK;    ///< the sent row of each (token, choice)
  at::Tensor weight_TK;
};

class AllToAllDispatcher : public TokenDispatcher {
 public:
  AllToAllDispatcher(int64_t num_experts, CommunicatorPtr group) : num_experts_(num_experts), group_(std::move(group)) {}

  std::unique_ptr<DispatchTicket> begin(const at::Tensor& x_TD, const Routing& routing) override {
    TORCH_CHECK(routing.num_experts == num_experts_, "dispatch: a routing over ", routing.num_experts, " experts in a dispatcher of ",
                num_experts_);
    const int64_t num_tokens = x_TD.size(0);
    const auto sorted = sort_by_expert(routing, num_tokens);
    auto ticket = std::make_unique<AllToAllTicket>();
    ticket->counts = exchange_counts(sorted.counts_E);
    const auto& counts = ticket->counts;
    const int64_t num_sent = sum_of(counts.send_rows_S);
    const auto token_A = sorted.token_N.narrow(0, 0, num_sent);
    const auto choice_A = sorted.choice_N.narrow(0, 0, num_sent);
    ticket->slot_TK = slots_by_token(token_A, choice_A, at::arange(num_sent, token_A.options()), num_tokens, routing.num_choices);
    ticket->to_experts = c10::make_intrusive<RowExchange>(group_, counts.send_rows_S, counts.receive_rows_S);
    ticket->in_flight = begin_exchange(dispatch_rows(x_TD, token_A, ticket->slot_TK), ticket->to_experts);
    // The rest is done while the rows travel.
    ticket->weight_TK = weights_by_token(routing, num_tokens);
    ticket->row_A = rows_of_arrivals(counts.arriving_Se, sum_of(counts.receive_rows_S));
    ticket->arrival_R = invert_places(ticket->row_A, sum_of_padded(counts.row_counts_e));
    return ticket;
  }

  ExpertRows finish(DispatchTicket& ticket) override {
    auto& mine = of(ticket);
    const auto arrivals_AD = finish_exchange(std::exchange(mine.in_flight, {}), mine.to_experts);
    return {dispatch_rows(arrivals_AD, mine.arrival_R, mine.row_A.unsqueeze(1)), mine.counts.row_counts_e};
  }

  void combine_begin(DispatchTicket& ticket, const at::Tensor& outputs_RD) override {
    auto& mine = of(ticket);
    mine.to_tokens = c10::make_intrusive<RowExchange>(group_, mine.counts.receive_rows_S, mine.counts.send_rows_S);
    mine.in_flight = begin_exchange(dispatch_rows(outputs_RD, mine.row_A, mine.arrival_R.unsqueeze(1)), mine.to_tokens);
  }

  at::Tensor combine_finish(DispatchTicket& ticket) override {
    auto& mine = of(ticket);
    const auto outputs_AD = finish_exchange(std::exchange(mine.in_flight, {}), mine.to_tokens);
    return combine_rows(outputs_AD, mine.slot_TK, mine.weight_TK);
  }

  int64_t first_expert() const override { return group_->rank() * num_local_experts(); }
  int64_t num_local_experts() const override { return num_experts_ / group_->size(); }

 private:
  static AllToAllTicket& of(DispatchTicket& ticket) { return dynamic_cast<AllToAllTicket&>(ticket); }

  /// Every rank learns how many rows each source sends to each expert held here.
  RowCounts exchange_counts(const at::Tensor& counts_E) const {
    const std::vector<int64_t> experts_S(group_->size(), num_local_experts());
    auto arriving_E = at::empty_like(counts_E);
    group_->all_to_all(counts_E, experts_S, arriving_E, experts_S)->wait();
    // The layer's one host synchronisation: what leaves and what arrives in one copy.
    const auto both_2Se = to_host(at::stack({counts_E, arriving_E})).view({2, group_->size(), num_local_experts()});
    const auto by_peer_2S = both_2Se.sum(2);
    return {arriving_E.view({group_->size(), num_local_experts()}), to_list(by_peer_2S[0]), to_list(by_peer_2S[1]),
            to_list(both_2Se[1].sum(0))};
  }

  int64_t num_experts_;
  CommunicatorPtr group_;
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(int64_t num_experts, CommunicatorPtr expert_group) {
  TORCH_CHECK(num_experts > 0 && num_experts % expert_group->size() == 0, "make_all_to_all_dispatcher: ", num_experts,
              " experts cannot be divided evenly among ", expert_group->size(), " ranks");
  if (expert_group->size() == 1) return make_local_dispatcher(num_experts);
  return std::make_unique<AllToAllDispatcher>(num_experts, std::move(expert_group));
}

}  // namespace switchyard
