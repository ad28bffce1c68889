// All experts beside the tokens: begin() lays the rows out, nothing travels.
#include <numeric>

#include <ATen/ATen.h>

#include "core/dispatcher.h"
#include "core/expert_order.h"
#include "core/host_copy.h"
#include "core/row_ops.h"

namespace switchyard {
namespace {

struct LocalTicket : DispatchTicket {
  std::vector<ExpertRows> chunks;
  size_t num_finished = 0;
  at::Tensor slot_TK;  ///< the row of each (token, choice)
  at::Tensor weight_TK;
  std::vector<at::Tensor> outputs;  ///< by chunk
};

int64_t sum_of_padded(const std::vector<int64_t>& counts) {
  int64_t sum = 0;
  for (const auto count : counts) sum += padded_rows(count);
  return sum;
}

class LocalDispatcher : public TokenDispatcher {
 public:
  LocalDispatcher(int64_t num_experts, int64_t num_chunks)
      : num_experts_(num_experts), chunk_starts_(chunk_starts_of(num_experts, num_chunks)) {}

  std::unique_ptr<DispatchTicket> begin(const at::Tensor& x_TD, const Routing& routing, const at::Tensor& label_T) override {
    TORCH_CHECK(routing.num_experts == num_experts_, "dispatch: a routing over ", routing.num_experts, " experts in a dispatcher of ",
                num_experts_);
    const int64_t num_tokens = x_TD.size(0);
    const auto sorted = sort_by_expert(routing, num_tokens);
    const auto counts_E = to_host(sorted.counts_E);  // the layer's one host synchronisation
    const std::vector<int64_t> row_counts_E(counts_E.const_data_ptr<int64_t>(), counts_E.const_data_ptr<int64_t>() + num_experts_);
    const int64_t num_kept = std::accumulate(row_counts_E.begin(), row_counts_E.end(), int64_t{0});
    const int64_t num_rows = sum_of_padded(row_counts_E);
    auto ticket = std::make_unique<LocalTicket>();
    const auto token_A = sorted.token_N.narrow(0, 0, num_kept);
    const auto choice_A = sorted.choice_N.narrow(0, 0, num_kept);
    const auto row_A = rows_of_arrivals(sorted.counts_E.unsqueeze(0), num_kept);
    const auto token_R = at::full({num_rows}, -1, row_A.options()).scatter_(0, row_A, token_A);
    ticket->slot_TK = slots_by_token(token_A, choice_A, row_A, num_tokens, routing.num_choices);
    ticket->weight_TK = weights_by_token(routing, num_tokens);
    const auto label_R = label_T.defined() ? labels_of(token_R, label_T) : at::Tensor();
    ticket->chunks = in_chunks(dispatch_rows(x_TD, token_R, ticket->slot_TK), row_counts_E, label_R);
    return ticket;
  }

  ExpertRows finish(DispatchTicket& ticket) override {
    auto& mine = of(ticket);
    return std::exchange(mine.chunks.at(mine.num_finished++), {});
  }

  void combine_begin(DispatchTicket& ticket, const at::Tensor& outputs_RD) override { of(ticket).outputs.push_back(outputs_RD); }

  at::Tensor combine_finish(DispatchTicket& ticket) override {
    const auto& mine = of(ticket);
    TORCH_CHECK(mine.outputs.size() + 1 == chunk_starts_.size(), "combine: the outputs of ", mine.outputs.size(), " chunks of ",
                chunk_starts_.size() - 1);
    return combine_rows(mine.outputs.size() == 1 ? mine.outputs[0] : at::cat(mine.outputs), mine.slot_TK, mine.weight_TK);
  }

  int64_t first_expert() const override { return 0; }
  int64_t num_local_experts() const override { return num_experts_; }
  const std::vector<int64_t>& chunk_starts() const override { return chunk_starts_; }

 private:
  static LocalTicket& of(DispatchTicket& ticket) { return dynamic_cast<LocalTicket&>(ticket); }

  std::vector<ExpertRows> in_chunks(const at::Tensor& rows_RD, const std::vector<int64_t>& row_counts_E, const at::Tensor& label_R) const {
    if (chunk_starts_.size() == 2) return {{rows_RD, row_counts_E, label_R}};
    std::vector<ExpertRows> chunks;
    std::vector<int64_t> sizes;
    for (size_t c = 0; c + 1 < chunk_starts_.size(); ++c) {
      chunks.push_back({{}, {row_counts_E.begin() + chunk_starts_[c], row_counts_E.begin() + chunk_starts_[c + 1]}});
      sizes.push_back(sum_of_padded(chunks.back().row_counts_e));
    }
    const auto parts = rows_RD.split_with_sizes(sizes);  // one node, whose backward puts the parts together without adding
    const auto labels = label_R.defined() ? label_R.split_with_sizes(sizes) : std::vector<at::Tensor>(sizes.size());
    for (size_t c = 0; c < chunks.size(); ++c) {
      chunks[c].rows_RD = parts[c];
      chunks[c].label_R = labels[c];
    }
    return chunks;
  }

  int64_t num_experts_;
  std::vector<int64_t> chunk_starts_;
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_local_dispatcher(int64_t num_experts, int64_t num_chunks) {
  TORCH_CHECK(num_experts > 0, "make_local_dispatcher: the number of experts must be positive, got ", num_experts);
  return std::make_unique<LocalDispatcher>(num_experts, num_chunks);
}

}  // namespace switchyard
