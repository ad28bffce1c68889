// All experts beside the tokens: begin() lays the rows out, nothing travels.
#include <ATen/ATen.h>

#include "core/dispatcher.h"
#include "core/expert_order.h"
#include "core/host_copy.h"
#include "core/row_ops.h"

namespace switchyard {
namespace {

struct LocalTicket : DispatchTicket {
  ExpertRows rows;
  at::Tensor slot_TK;  ///< the row of each (token, choice)
  at::Tensor weight_TK;
  at::Tensor outputs_RD;
};

class LocalDispatcher : public TokenDispatcher {
 public:
  explicit LocalDispatcher(int64_t num_experts) : num_experts_(num_experts) {
    TORCH_CHECK(num_experts > 0, "make_local_dispatcher: the number of experts must be positive, got ", num_experts);
  }

  std::unique_ptr<DispatchTicket> begin(const at::Tensor& x_TD, const Routing& routing) override {
    TORCH_CHECK(routing.num_experts == num_experts_, "dispatch: a routing over ", routing.num_experts, " experts in a dispatcher of ",
                num_experts_);
    const int64_t num_tokens = x_TD.size(0);
    const auto sorted = sort_by_expert(routing, num_tokens);
    const auto counts_E = to_host(sorted.counts_E);  // the layer's one host synchronisation
    auto ticket = std::make_unique<LocalTicket>();
    ticket->rows.row_counts_e.assign(counts_E.const_data_ptr<int64_t>(), counts_E.const_data_ptr<int64_t>() + num_experts_);
    int64_t num_kept = 0, num_rows = 0;
    for (const auto count : ticket->rows.row_counts_e) {
      num_kept += count;
      num_rows += padded_rows(count);
    }
    const auto token_A = sorted.token_N.narrow(0, 0, num_kept);
    const auto choice_A = sorted.choice_N.narrow(0, 0, num_kept);
    const auto row_A = rows_of_arrivals(sorted.counts_E.unsqueeze(0), num_kept);
    const auto token_R = at::full({num_rows}, -1, row_A.options()).scatter_(0, row_A, token_A);
    ticket->slot_TK = slots_by_token(token_A, choice_A, row_A, num_tokens, routing.num_choices);
    ticket->weight_TK = weights_by_token(routing, num_tokens);
    ticket->rows.rows_RD = dispatch_rows(x_TD, token_R, ticket->slot_TK);
    return ticket;
  }

  ExpertRows finish(DispatchTicket& ticket) override { return std::move(of(ticket).rows); }

  void combine_begin(DispatchTicket& ticket, const at::Tensor& outputs_RD) override { of(ticket).outputs_RD = outputs_RD; }

  at::Tensor combine_finish(DispatchTicket& ticket) override {
    const auto& local = of(ticket);
    return combine_rows(local.outputs_RD, local.slot_TK, local.weight_TK);
  }

  int64_t first_expert() const override { return 0; }
  int64_t num_local_experts() const override { return num_experts_; }

 private:
  static LocalTicket& of(DispatchTicket& ticket) { return dynamic_cast<LocalTicket&>(ticket); }

  int64_t num_experts_;
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_local_dispatcher(int64_t num_experts) {
  return std::make_unique<LocalDispatcher>(num_experts);
}

}  // namespace switchyard
