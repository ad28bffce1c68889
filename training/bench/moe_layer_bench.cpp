#include <numeric>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/init.h"
#include "core/moe_layer.h"
#include "core/parameters_by_name.h"
#include "core/routing/routing_trace.h"
#include "parallel/all_to_all_dispatcher.h"
#include "parallel/process_mesh.h"
#include "training/bench/benches.h"
#include "training/bench/expert_products.h"

namespace switchyard {
namespace {

/// How the tokens fall on the experts: expert e is chosen in proportion to (e + 1)^-exponent; without an exponent the first top_k experts
/// take everything.
struct Skew {
  const char* name;
  std::optional<double> exponent;
};
constexpr Skew kSkews[] = {{"uniform", 0.0}, {"zipf", 1.0}, {"one_expert", std::nullopt}};

at::Tensor draw_choices(const Skew& skew, int64_t num_tokens, const MoeConfig& moe) {
  if (!skew.exponent) return at::arange(moe.top_k).expand({num_tokens, moe.top_k}).contiguous();
  const auto weight_E = at::pow(at::arange(1, moe.num_experts + 1, at::kDouble), -*skew.exponent);
  return at::multinomial(weight_E.expand({num_tokens, moe.num_experts}), moe.top_k, /*replacement=*/false);
}

/// Lets the router decide, and puts other choices in the place of its own.
class ImposedChoices : public RoutingTrace {
 public:
  at::Tensor choices(const TokenContext& /*context*/, const std::function<at::Tensor()>& choose) override {
    choose();
    return choice_TK;
  }
  at::Tensor choice_TK;
};

/// One layer with its flat storage, as a model has it.
class LayerUnderTest {
 public:
  LayerUnderTest(const BenchInputs& inputs)
      : inputs_(inputs), mesh_(inputs.world, inputs.config.parallel.expert, inputs.config.parallel.rank_order) {
    const auto& model = inputs.config.model;
    layer_ = MoeLayer(model, std::shared_ptr<TokenDispatcher>(make_all_to_all_dispatcher(model.moe->num_experts, mesh_.group("expert"),
                                                                                         inputs.config.parallel.dispatch_chunks)));
    const auto parameters = parameters_by_name(*layer_);
    initialize_parameters(parameters, model, /*seed=*/1);
    store_ = std::make_unique<ParameterStore>(parameters, inputs.dtype, inputs.device, /*with_optimizer_state=*/true);
    context_.global_sample_B = at::arange(sequences(), at::dtype(at::kLong).device(inputs.device));
    context_.training = true;
    context_.routing_trace = trace_;
    context_.token_ids_BS = at::zeros({sequences(), inputs.config.sequence_length()}, context_.global_sample_B.options());
  }

  void prepare(const Skew& skew) {
    const int64_t S = inputs_.config.sequence_length(), D = inputs_.config.model.hidden_size;
    const auto options = at::dtype(inputs_.dtype).device(inputs_.device);
    x_BSD_ = at::randn({sequences(), S, D}, options).requires_grad_(true);
    grad_BSD_ = at::randn({sequences(), S, D}, options);
    const auto choice_TK = draw_choices(skew, sequences() * S, *inputs_.config.model.moe);
    count_rows(choice_TK);
    trace_->choice_TK = choice_TK.to(inputs_.device);
    store_->zero_gradients();
  }

  void run() { layer_->forward(x_BSD_, context_).y_BSD.backward(grad_BSD_); }

  double imbalance() const { return imbalance_; }
  int64_t sequences() const { return inputs_.config.training.global_batch_size / inputs_.world->size(); }

 private:
  /// Rows of the experts on each rank of this rank's expert group.
  void count_rows(const at::Tensor& choice_TK) {
    auto& group = *mesh_.group("expert");
    auto count_E = choice_TK.flatten().bincount({}, inputs_.config.model.moe->num_experts);
    inputs_.world->all_reduce_sum(count_E)->wait();
    const auto rows_S = count_E.view({group.size(), -1}).sum(1).to(at::kDouble);
    imbalance_ = (rows_S.max() / rows_S.mean()).item<double>();
  }

  const BenchInputs& inputs_;
  ProcessMesh mesh_;
  MoeLayer layer_{nullptr};
  std::unique_ptr<ParameterStore> store_;
  std::shared_ptr<ImposedChoices> trace_ = std::make_shared<ImposedChoices>();
  TokenContext context_;
  at::Tensor x_BSD_, grad_BSD_;
  double imbalance_ = 1.0;
};

}  // namespace

BenchReport bench_moe_layer(const BenchInputs& inputs) {
  const auto& config = inputs.config;
  if (!config.model.moe) throw UserError("bench moe_layer: the configuration has no experts; give it a section model.moe");
  const auto& moe = *config.model.moe;
  if (moe.nested_experts > 0) throw UserError("bench moe_layer: model.moe.nested_experts is not measured; use 0");
  const double tokens = static_cast<double>(config.training.global_batch_size * config.sequence_length());
  const double rows = tokens * static_cast<double>(moe.top_k), flops = expert_flops(rows, config.model.hidden_size, moe);
  const int64_t local_experts = moe.num_experts / config.parallel.expert;
  const auto equal_rows = static_cast<int64_t>(rows) / moe.num_experts / (inputs.world->size() / config.parallel.expert);
  const auto products = std::make_shared<ExpertProducts>(local_experts, equal_rows, config.model.hidden_size, moe,
                                                         at::dtype(inputs.dtype).device(inputs.device));
  std::vector<BenchItem> items;
  LayerUnderTest layer(inputs);
  for (const auto& skew : kSkews) {
    items.push_back({.name = skew.name,
                     .run = [&] { layer.run(); },
                     .prepare = [&layer, skew] { layer.prepare(skew); },
                     .flops = flops,
                     .tokens = tokens,
                     .imbalance = [&] { return layer.imbalance(); }});
  }
  return measure_beside_products(
      "moe_layer", inputs, [products] { products->run(); }, std::move(items));
}

}  // namespace switchyard
