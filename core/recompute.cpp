#include "core/recompute.h"

#include <array>

#include <torch/torch.h>

#include "core/phase_observer.h"
#include "core/routing/routing_trace.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Keeps what the first pass decided, in the order of asking, and gives it to the second.
class KeptDecisions : public RoutingTrace {
 public:
  explicit KeptDecisions(std::shared_ptr<RoutingTrace> outer) : outer_(std::move(outer)) {}

  void start_second_pass() {
    is_second_pass_ = true;
    num_given_ = 0;
  }

  void see_logits(const TokenContext& context, const at::Tensor& logit_TE) override {
    if (outer_ && !is_second_pass_) outer_->see_logits(context, logit_TE);
  }

  void see_scores(const TokenContext& context, const at::Tensor& score_TE) override {
    if (outer_ && !is_second_pass_) outer_->see_scores(context, score_TE);
  }

  at::Tensor choices(const TokenContext& context, const std::function<at::Tensor()>& choose) override {
    return keep_or_give([&] { return outer_ ? outer_->choices(context, choose) : choose(); });
  }

  at::Tensor kept(const TokenContext& context, const std::function<at::Tensor()>& decide) override {
    return keep_or_give([&] { return outer_ ? outer_->kept(context, decide) : decide(); });
  }

 private:
  at::Tensor keep_or_give(const std::function<at::Tensor()>& decide) {
    if (is_second_pass_) return decisions_.at(num_given_++);
    decisions_.push_back(decide());
    return decisions_.back();
  }

  std::shared_ptr<RoutingTrace> outer_;
  std::vector<at::Tensor> decisions_;
  bool is_second_pass_ = false;
  size_t num_given_ = 0;
};

struct Recipe : torch::CustomClassHolder {
  Pass pass;
  TokenContext context;
  std::shared_ptr<KeptDecisions> decisions;
};
using RecipePtr = c10::intrusive_ptr<Recipe>;

constexpr size_t kNumStatistics = 18;
static_assert(sizeof(RoutingStatistics) == kNumStatistics * sizeof(at::Tensor), "a new field must be listed below");

/// The first kNumDifferentiable carry gradients.
constexpr size_t kNumDifferentiable = 6;
std::array<at::Tensor*, kNumStatistics> fields_of(RoutingStatistics& s) {
  return {&s.probability_BE,
          &s.load_BE,
          &s.group_load_BG,
          &s.z_B,
          &s.domain_B,
          &s.nested_probability_BM,
          &s.nested_assigned_BM,
          &s.assigned_BE,
          &s.dropped_BE,
          &s.first_choice_BE,
          &s.group_visits_BG,
          &s.tokens_B,
          &s.lost_tokens_B,
          &s.gate_mass_B,
          &s.dropped_gate_mass_B,
          &s.entropy_B,
          &s.margin_B,
          &s.non_finite_B};
}

/// y, then the fields of each layer's statistics.
variable_list to_list(PassOutput output) {
  variable_list list = {output.y_BSD};
  for (auto& layer : output.statistics) {
    for (const auto* field : fields_of(layer)) list.push_back(*field);
  }
  return list;
}

PassOutput from_list(const variable_list& list) {
  PassOutput output{list[0], std::vector<RoutingStatistics>((list.size() - 1) / kNumStatistics)};
  for (size_t layer = 0; layer < output.statistics.size(); ++layer) {
    const auto fields = fields_of(output.statistics[layer]);
    for (size_t i = 0; i < kNumStatistics; ++i) *fields[i] = list[1 + layer * kNumStatistics + i];
  }
  return output;
}

bool is_differentiable(size_t place) {
  return place == 0 || (place - 1) % kNumStatistics < kNumDifferentiable;
}

struct RunAndRecompute : torch::autograd::Function<RunAndRecompute> {
  /// `anchor` requires a gradient, so that the pass is in the graph for its parameters' sake, whatever x is.
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& /*anchor*/, const RecipePtr& recipe) {
    context->save_for_backward({x});
    context->set_materialize_grads(false);
    context->saved_data["recipe"] = c10::IValue::make_capsule(recipe);
    auto outputs = to_list(recipe->pass(x, recipe->context));
    variable_list constants;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!is_differentiable(i)) constants.push_back(outputs[i]);
    }
    context->mark_non_differentiable(constants);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    auto& recipe = static_cast<Recipe&>(*context->saved_data["recipe"].toCapsule());
    const auto x = context->get_saved_variables()[0].detach().requires_grad_(context->needs_input_grad(0));
    variable_list roots, root_grads;
    {
      at::AutoGradMode with_gradients(true);
      recipe.decisions->start_second_pass();
      const auto outputs = to_list(recipe.pass(x, recipe.context));
      for (size_t i = 0; i < outputs.size(); ++i) {
        TORCH_INTERNAL_ASSERT(is_differentiable(i) || !outputs[i].requires_grad(), "a statistic with a gradient that would be lost");
        if (!grads[i].defined() || !outputs[i].requires_grad()) continue;
        roots.push_back(outputs[i]);
        root_grads.push_back(grads[i]);
      }
    }
    enter(recipe.context.observer, Phase::kBackward, recipe.context.layer);
    torch::autograd::backward(roots, root_grads);
    return {x.grad(), {}, {}};
  }
};

}  // namespace

PassOutput run_and_recompute(const Pass& pass, const at::Tensor& x_BSD, const TokenContext& context) {
  if (!at::GradMode::is_enabled() || !context.training) return pass(x_BSD, context);
  auto recipe = c10::make_intrusive<Recipe>();
  recipe->pass = pass;
  recipe->context = context;
  recipe->decisions = std::make_shared<KeptDecisions>(context.routing_trace);
  recipe->context.routing_trace = recipe->decisions;
  const auto anchor = at::empty({0}, x_BSD.options()).requires_grad_(true);
  return from_list(RunAndRecompute::apply(x_BSD, anchor, recipe));
}

}  // namespace switchyard
