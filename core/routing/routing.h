// What a router decides, and what is remembered of it. The seams that every routing rule, capacity rule and balancing term shares.
// T tokens here, N assignments (token x choice), E all experts, B sequences, S sequence length.
#pragma once

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

namespace switchyard {

class PhaseObserver;
class RoutingTrace;

/// A list of assignments, not a [T, K] rectangle: top-k has N = T k, the dense gate T E, expert choice E C.
/// An assignment that goes nowhere (its token is masked, or it was dropped for capacity) has expert_N = num_experts; it stays in the list,
/// so that no size depends on the data. No token chooses one expert twice, and (token, choice) is unique.
struct Routing {
  at::Tensor token_N;   ///< int64, row of the token in x_TD
  at::Tensor expert_N;  ///< int64, global expert number, or num_experts for "nowhere"
  at::Tensor weight_N;  ///< what the expert's output is multiplied by; max(fp32, run dtype); differentiable
  at::Tensor choice_N;  ///< int64, 0 = first choice
  int64_t num_experts = 0;
  int64_t num_choices = 0;    ///< choice_N < num_choices
  bool is_rectangle = false;  ///< assignment n is choice n % num_choices of token n / num_choices, for all tokens
};

/// Where the activations come from. Everything that a rule, a mask, a random number or a report may depend on, and nothing of the layout.
struct TokenContext {
  at::Tensor global_sample_B;  ///< int64, number of the sequence in the global batch of this step
  at::Tensor mask_BS;          ///< bool, true = a real token. Undefined = all are
  at::Tensor token_ids_BS;     ///< int64
  at::Tensor next_ids_BS;      ///< int64, the token behind each, for blocks of multi-token prediction. Undefined = these do not run
  at::Tensor domain_B;         ///< int64, which data source
  at::Tensor document_BS;      ///< int64, number of the document within its sequence; attention stays inside one. Undefined = one document
  at::Tensor position_BS;      ///< int64, position for the rotary embeddings. Undefined = 0 ... S-1
  int64_t step = 0;
  int64_t layer = 0;
  bool training = false;
  uint64_t seed = 0;
  std::shared_ptr<RoutingTrace> routing_trace;  ///< keeps or gives the routers' choices; null = they are made and forgotten
  PhaseObserver* observer = nullptr;            ///< is told how far the pass has come; null = nobody is
};

/// Sums over the tokens of each sequence, one MoE layer, one micro-batch. Additive: any scope is a sum over B, over micro-batches, over
/// ranks. Tensors marked "grad" are differentiable. All in max(fp32, run dtype) but the counts, which are float64 so that they can share a
/// reduction. G groups of consecutive experts; 1 where the configuration has none. M experts
/// inside nested experts, over all of them.
struct RoutingStatistics {
  at::Tensor assigned_BE;            ///< assignments before drops
  at::Tensor dropped_BE;             ///< of these, dropped for capacity
  at::Tensor first_choice_BE;        ///< of the assignments, those with choice 0
  at::Tensor group_visits_BG;        ///< tokens with an assignment inside the group, before drops
  at::Tensor tokens_B;               ///< unmasked tokens
  at::Tensor probability_BE;         ///< sum of router probabilities (grad)
  at::Tensor load_BE;                ///< sum of the rule's smooth estimate of the assignments (grad); zeros where it has none
  at::Tensor group_load_BG;          ///< the same of whole groups (grad)
  at::Tensor nested_assigned_BM;     ///< rows by expert inside the experts held here; [B, 0] without nested experts. The sequences that
                                     ///< rows belong to may be on other ranks: only sums over B have a meaning
  at::Tensor nested_probability_BM;  ///< sum of the inner gates' probabilities over these rows (grad); as the last
  at::Tensor z_B;                    ///< sum of logsumexp(logits)^2 over the router's maps (grad)
  at::Tensor domain_B;               ///< sum of -log(probability of the experts that the sequence's domain owns) (grad); 0 without domains
  at::Tensor lost_tokens_B;          ///< tokens that no expert sees: all were dropped, or none took it
  at::Tensor gate_mass_B;            ///< sum of gate weights before drops
  at::Tensor dropped_gate_mass_B;    ///< sum of the gate weights that were dropped
  at::Tensor entropy_B;              ///< sum of the entropy of the probabilities, in nats
  at::Tensor margin_B;               ///< sum of p(first) - p(second)
  at::Tensor non_finite_B;           ///< tokens with a non-finite logit; what to do is decided by all ranks together
};

}  // namespace switchyard
