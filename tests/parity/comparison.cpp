#include "tests/parity/comparison.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/balance.h"
#include "core/loss.h"
#include "core/routing/routing_trace.h"
#include "training/hf_checkpoint.h"

namespace switchyard {
namespace {

double difference(const at::Tensor& ours, const at::Tensor& theirs) {
  TORCH_CHECK(ours.numel() == theirs.numel(), "parity: ", ours.sizes(), " here, ", theirs.sizes(), " in transformers");
  return (ours.detach().to(at::kDouble).flatten() - theirs.to(at::kDouble).flatten()).abs().max().item<double>();
}

/// Collects the logits of every router that a pass goes through.
class LogitLog : public RoutingTrace {
 public:
  void see_logits(const TokenContext& /*context*/, const at::Tensor& logit_TE) override { logits.push_back(logit_TE); }
  at::Tensor choices(const TokenContext& /*context*/, const std::function<at::Tensor()>& choose) override { return choose(); }

  std::vector<at::Tensor> logits;  ///< one a MoE layer
};

struct Pass {
  at::Tensor logits_BSV;
  at::Tensor aux_loss;  ///< undefined where the family has none
  std::vector<at::Tensor> router_logits;
};

class Comparison {
 public:
  explicit Comparison(const std::filesystem::path& folder)
      : checkpoint_(folder),
        expected_(folder / "expected.safetensors"),
        mesh_(make_single_communicator(), /*expert_degree=*/1),
        model_(build_model(checkpoint_.config(), {}, mesh_, at::dtype(at::kFloat), /*seed=*/1, /*with_optimizer_state=*/true)),
        result_{checkpoint_.family()} {
    load_hugging_face(model_, checkpoint_);
  }

  ParityResult run() {
    const auto pass = forward(/*mask_BS=*/{});
    result_.take(ParityQuantity::kLogits, difference(pass.logits_BSV, expected_.read("logits")));
    compare_router_logits(pass);
    const auto loss = compare_losses(pass);
    if (has("attention_mask")) compare_masked();
    loss.backward();
    compare_gradients();
    return result_;
  }

 private:
  bool has(const std::string& name) const { return expected_.entries().contains(name); }
  const ModelConfig& config() const { return checkpoint_.config(); }

  Pass forward(const at::Tensor& mask_BS) {
    const auto log = std::make_shared<LogitLog>();
    TokenContext context;
    context.token_ids_BS = expected_.read("input_ids");
    context.global_sample_B = at::arange(context.token_ids_BS.size(0), at::kLong);
    context.domain_B = at::zeros_like(context.global_sample_B);
    context.mask_BS = mask_BS;
    context.routing_trace = log;
    const auto output = model_.transformer->forward(context);
    return {model_.transformer->logits(output.hidden_BSD), aux_loss(output.statistics), std::move(log->logits)};
  }

  at::Tensor aux_loss(const std::vector<RoutingStatistics>& statistics) const {
    if (!config().moe || config().moe->aux_loss_coeff.is_zero()) return {};
    std::vector<RoutingSums> sums;
    for (const auto& layer : statistics) sums.emplace_back(layer);
    const auto terms = balance_terms(config());
    return std::ranges::find(terms, "aux_loss", &BalanceTerm::name)->value(sums);
  }

  void compare_router_logits(const Pass& pass) {
    const auto num_layers = static_cast<int64_t>(pass.router_logits.size());
    TORCH_CHECK(num_layers == config().num_moe_layers() && !has("router_logits." + std::to_string(num_layers)), "parity: ", num_layers,
                " routers here");
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      result_.take(ParityQuantity::kRouterLogits,
                   difference(pass.router_logits[static_cast<size_t>(layer)], expected_.read("router_logits." + std::to_string(layer))));
    }
  }

  /// Returns what backward starts from.
  at::Tensor compare_losses(const Pass& pass) {
    const int64_t S = pass.logits_BSV.size(1);
    const auto targets = expected_.read("labels").narrow(1, 1, S - 1).reshape({-1}), counts = targets >= 0;
    const auto logits = pass.logits_BSV.narrow(1, 0, S - 1).flatten(0, 1);
    const auto cross_entropy = cross_entropy_sum(logits, targets.clamp_min(0), counts) / counts.sum();
    result_.take(ParityQuantity::kLoss, difference(cross_entropy, expected_.read("lm_loss")));
    TORCH_CHECK(pass.aux_loss.defined() == has("aux_loss"), "parity: one side alone has a balancing loss");
    if (!pass.aux_loss.defined()) return cross_entropy;
    result_.take(ParityQuantity::kAuxLoss, difference(pass.aux_loss, expected_.read("aux_loss")));
    const auto loss = cross_entropy + config().moe->aux_loss_coeff.at(0) * pass.aux_loss;
    result_.take(ParityQuantity::kLoss, difference(loss, expected_.read("loss")));
    return loss;
  }

  void compare_masked() {
    at::NoGradGuard no_grad;
    const auto mask_BS = expected_.read("attention_mask").to(at::kBool);
    const auto pass = forward(mask_BS);
    result_.take(ParityQuantity::kAuxLoss, difference(pass.aux_loss, expected_.read("aux_loss_masked")));
    const auto seen = [&](const at::Tensor& logits_BSV) { return logits_BSV.flatten(0, 1).index({mask_BS.flatten()}); };
    result_.take(ParityQuantity::kLogits, difference(seen(pass.logits_BSV), seen(expected_.read("logits_masked"))));
  }

  /// Ours, flattened, by name.
  std::map<std::string, at::Tensor> gradients() {
    std::map<std::string, at::Tensor> all;
    for (auto& group : model_.store->groups()) {
      for (const auto& slot : group.slots) all[slot.name] = ParameterGroup::view(group.gradients, slot).flatten();
    }
    return all;
  }

  void compare_gradients() {
    const auto ours = gradients();
    size_t num_expected = 0, num_compared = 0;
    double largest = 0.0;
    for (const auto& [name, entry] : expected_.entries()) {
      if (!name.starts_with("grad.")) continue;
      ++num_expected;
      largest = std::max(largest, expected_.read(name).norm().item<double>());
    }
    for (const auto& tensor : hf_tensors(config(), checkpoint_.family())) {
      if (num_expected == 0 || !ours.contains(tensor.ours)) continue;  // a selection bias has none
      const auto theirs = expected_.read("grad." + tensor.name).to(at::kDouble);
      const auto distance = (tensor.in(ours.at(tensor.ours)).reshape(tensor.shape).to(at::kDouble) - theirs).norm().item<double>();
      result_.take(ParityQuantity::kGradients, distance / std::max(theirs.norm().item<double>(), 1e-4 * largest));
      ++num_compared;
    }
    TORCH_CHECK(num_compared == num_expected, "parity: ", num_expected, " gradients from transformers, ", num_compared,
                " have a place here");
  }

  HfCheckpoint checkpoint_;
  SafetensorsFile expected_;
  ProcessMesh mesh_;
  ModelInstance model_;
  ParityResult result_;
};

}  // namespace

void ParityResult::take(ParityQuantity quantity, double difference) {
  auto& largest = worst[static_cast<size_t>(quantity)];
  // Not max, which may lose a NaN.
  if (!largest || !(difference <= *largest)) largest = difference;
}

std::vector<std::string> ParityResult::misses() const {
  std::vector<std::string> found;
  for (const auto& rule : kParityRules) {
    const auto value = of(rule.quantity);
    if (value && !(*value <= rule.limit))
      found.push_back(fmt::format("{} differ by {:.1e}, the limit is {:.0e}", rule.name, *value, rule.limit));
  }
  return found;
}

ParityResult compare_with_transformers(const std::filesystem::path& folder) {
  return Comparison(folder).run();
}

std::vector<std::filesystem::path> parity_folders(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> folders;
  if (!std::filesystem::is_directory(folder)) return folders;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (std::filesystem::exists(entry.path() / "expected.safetensors")) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

}  // namespace switchyard
