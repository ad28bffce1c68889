#include "parallel/all_to_all_dispatcher.h"

#include <numeric>

#include <ATen/ATen.h>

#include "core/expert_order.h"
#include "core/host_copy.h"
#include "core/row_ops.h"
#include "parallel/row_exchange.h"

namespace switchyard {
namespace {

/// How many rows of one chunk go where. S ranks, e experts of the chunk a rank. A rank's rows for one peer lie together, by expert.
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

/// The rows of one chunk.
struct Chunk {
  RowCounts counts;
  at::Tensor rows;       ///< until they are sent
  at::Tensor labels;     ///< of the rows; undefined = none travel
  at::Tensor in_flight;  ///< rows to the experts, then outputs back
  RowExchangePtr to_experts;
  RowExchangePtr to_tokens;
  at::Tensor row_A;      ///< where each arrival stands among the experts' padded rows
  at::Tensor arrival_R;  ///< the inverse, -1 for padding
};

struct AllToAllTicket : DispatchTicket {
  std::vector<Chunk> chunks;
  size_t num_finished = 0;
  size_t num_returned = 0;
  at::Tensor slot_TK;  ///< the sent row of each (token, choice)
  at::Tensor weight_TK;
};

void start(Chunk& chunk, const CommunicatorPtr& group) {
  const auto& counts = chunk.counts;
  chunk.to_experts = c10::make_intrusive<RowExchange>(group, counts.send_rows_S, counts.receive_rows_S);
  chunk.in_flight = begin_exchange(std::exchange(chunk.rows, {}), chunk.to_experts);
  std::unique_ptr<Work> labels_on_their_way;
  if (chunk.labels.defined()) {
    const auto mine = std::exchange(chunk.labels, at::empty({sum_of(counts.receive_rows_S)}, chunk.labels.options()));
    labels_on_their_way = group->all_to_all(mine.contiguous(), counts.send_rows_S, chunk.labels, counts.receive_rows_S);
  }
  // The rest is done while the rows travel.
  chunk.row_A = rows_of_arrivals(counts.arriving_Se, sum_of(counts.receive_rows_S));
  chunk.arrival_R = invert_places(chunk.row_A, sum_of_padded(counts.row_counts_e));
  if (labels_on_their_way) labels_on_their_way->wait();
}

class AllToAllDispatcher : public TokenDispatcher {
 public:
  AllToAllDispatcher(int64_t num_experts, CommunicatorPtr group, int64_t num_chunks)
      : num_experts_(num_experts), group_(std::move(group)), chunk_starts_(chunk_starts_of(num_experts / group_->size(), num_chunks)) {
    if (num_chunks > 1) place_E1_ = places_by_chunk(chunk_starts_, group_->size());
  }

  std::unique_ptr<DispatchTicket> begin(const at::Tensor& x_TD, const Routing& routing, const at::Tensor& label_T) override {
    TORCH_CHECK(routing.num_experts == num_experts_, "dispatch: a routing over ", routing.num_experts, " experts in a dispatcher of ",
                num_experts_);
    const int64_t num_tokens = x_TD.size(0);
    const auto sorted = sort_by_expert(in_order_of_sending(routing), num_tokens);
    auto ticket = std::make_unique<AllToAllTicket>();
    ticket->chunks = exchange_counts(sorted.counts_E);
    std::vector<int64_t> rows_by_chunk;
    for (const auto& chunk : ticket->chunks) rows_by_chunk.push_back(sum_of(chunk.counts.send_rows_S));
    const int64_t num_sent = sum_of(rows_by_chunk);
    const auto token_A = sorted.token_N.narrow(0, 0, num_sent);
    const auto choice_A = sorted.choice_N.narrow(0, 0, num_sent);
    ticket->slot_TK = slots_by_token(token_A, choice_A, at::arange(num_sent, token_A.options()), num_tokens, routing.num_choices);
    const auto rows_AD = dispatch_rows(x_TD, token_A, ticket->slot_TK);
    // One node, whose backward puts the chunks together without adding: a token's gradient is summed once, in the order of choice.
    const auto rows = num_chunks() == 1 ? std::vector{rows_AD} : rows_AD.split_with_sizes(rows_by_chunk);
    for (size_t c = 0; c < num_chunks(); ++c) ticket->chunks[c].rows = rows[c];
    if (label_T.defined()) {
      const auto labels = labels_of(token_A, label_T).split_with_sizes(rows_by_chunk);
      for (size_t c = 0; c < num_chunks(); ++c) ticket->chunks[c].labels = labels[c];
    }
    start(ticket->chunks[0], group_);
    ticket->weight_TK = weights_by_token(routing, num_tokens);
    return ticket;
  }

  ExpertRows finish(DispatchTicket& ticket) override {
    auto& mine = of(ticket);
    auto& chunk = mine.chunks.at(mine.num_finished++);
    if (mine.num_finished < num_chunks()) start(mine.chunks[mine.num_finished], group_);
    const auto arrivals_AD = finish_exchange(std::exchange(chunk.in_flight, {}), chunk.to_experts);
    const auto label_R = chunk.labels.defined() ? labels_of(chunk.arrival_R, chunk.labels) : at::Tensor();
    return {dispatch_rows(arrivals_AD, chunk.arrival_R, chunk.row_A.unsqueeze(1)), chunk.counts.row_counts_e, label_R};
  }

  void combine_begin(DispatchTicket& ticket, const at::Tensor& outputs_RD) override {
    auto& mine = of(ticket);
    auto& chunk = mine.chunks.at(mine.num_returned++);
    chunk.to_tokens = c10::make_intrusive<RowExchange>(group_, chunk.counts.receive_rows_S, chunk.counts.send_rows_S);
    chunk.in_flight = begin_exchange(dispatch_rows(outputs_RD, chunk.row_A, chunk.arrival_R.unsqueeze(1)), chunk.to_tokens);
  }

  at::Tensor combine_finish(DispatchTicket& ticket) override {
    auto& mine = of(ticket);
    TORCH_CHECK(mine.num_returned == num_chunks(), "combine: the outputs of ", mine.num_returned, " chunks of ", num_chunks());
    std::vector<at::Tensor> outputs;
    for (auto& chunk : mine.chunks) outputs.push_back(finish_exchange(std::exchange(chunk.in_flight, {}), chunk.to_tokens));
    return combine_rows(outputs.size() == 1 ? outputs[0] : at::cat(outputs), mine.slot_TK, mine.weight_TK);
  }

  int64_t first_expert() const override { return group_->rank() * num_local_experts(); }
  int64_t num_local_experts() const override { return num_experts_ / group_->size(); }
  const std::vector<int64_t>& chunk_starts() const override { return chunk_starts_; }

 private:
  static AllToAllTicket& of(DispatchTicket& ticket) { return dynamic_cast<AllToAllTicket&>(ticket); }

  size_t num_chunks() const { return chunk_starts_.size() - 1; }

  /// The routing with experts named by their places.
  Routing in_order_of_sending(Routing routing) {
    if (num_chunks() == 1) return routing;
    if (place_E1_.device() != routing.expert_N.device()) place_E1_ = place_E1_.to(routing.expert_N.device());
    routing.expert_N = place_E1_.index_select(0, routing.expert_N);
    return routing;
  }

  /// Every rank learns how many rows each source sends to each expert held here, for all chunks at once. counts_E: by place.
  std::vector<Chunk> exchange_counts(at::Tensor counts_E) const {
    if (num_chunks() > 1) counts_E = counts_E.index_select(0, place_E1_.narrow(0, 0, num_experts_));
    const std::vector<int64_t> experts_S(group_->size(), num_local_experts());
    auto arriving_E = at::empty_like(counts_E);
    group_->all_to_all(counts_E, experts_S, arriving_E, experts_S)->wait();
    // The layer's one host synchronisation: what leaves and what arrives in one copy.
    const auto both_2Se = to_host(at::stack({counts_E, arriving_E})).view({2, group_->size(), num_local_experts()});
    const auto arriving_Se = arriving_E.view({group_->size(), num_local_experts()});
    std::vector<Chunk> chunks(num_chunks());
    for (size_t c = 0; c < chunks.size(); ++c) {
      const int64_t first = chunk_starts_[c], count = chunk_starts_[c + 1] - first;
      const auto part_2Se = both_2Se.narrow(2, first, count);
      const auto by_peer_2S = part_2Se.sum(2);
      chunks[c].counts = {arriving_Se.narrow(1, first, count), to_list(by_peer_2S[0]), to_list(by_peer_2S[1]), to_list(part_2Se[1].sum(0))};
    }
    return chunks;
  }

  int64_t num_experts_;
  CommunicatorPtr group_;
  std::vector<int64_t> chunk_starts_;
  at::Tensor place_E1_;  ///< see places_by_chunk; defined with several chunks
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(int64_t num_experts, CommunicatorPtr expert_group, int64_t num_chunks) {
  TORCH_CHECK(num_experts > 0 && num_experts % expert_group->size() == 0, "make_all_to_all_dispatcher: ", num_experts,
              " experts cannot be divided evenly among ", expert_group->size(), " ranks");
  if (expert_group->size() == 1) return make_local_dispatcher(num_experts, num_chunks);
  return std::make_unique<AllToAllDispatcher>(num_experts, std::move(expert_group), num_chunks);
}

}  // namespace switchyard
