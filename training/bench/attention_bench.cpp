#include <ATen/ATen.h>

#include "core/attention.h"
#include "core/error.h"
#include "core/init.h"
#include "core/latent_attention.h"
#include "core/parameters_by_name.h"
#include "training/bench/benches.h"

namespace switchyard {
namespace {

/// The products of the plain layer, forward and backward.
class AttentionProducts {
 public:
  AttentionProducts(int64_t B, int64_t S, const ModelConfig& model, const at::TensorOptions& options) {
    const int64_t D = model.hidden_size, H = model.num_attention_heads, d = model.head_dim, rows = (H + 2 * model.num_key_value_heads) * d;
    add_linear(B * S, rows, D, options);
    add_linear(B * S, D, H * d, options);
    add_batched(B * H, S, S, d, options);  // scores
    add_batched(B * H, S, d, S, options);  // values
  }

  void run() {
    for (auto& p : products_) {
      if (p.a.dim() == 2) {
        at::mm_out(p.c, p.a, p.b.t());
        at::mm_out(p.grad_a, p.c, p.b);
        at::mm_out(p.grad_b, p.c.t(), p.a);
      } else {
        at::bmm_out(p.c, p.a, p.b.transpose(1, 2));
        at::bmm_out(p.grad_a, p.c, p.b);
        at::bmm_out(p.grad_b, p.c.transpose(1, 2), p.a);
      }
    }
  }

  double flops() const { return flops_; }

 private:
  struct Product {
    at::Tensor a, b, c, grad_a, grad_b;
  };

  void add_linear(int64_t m, int64_t n, int64_t k, const at::TensorOptions& options) { add({m, k}, {n, k}, {m, n}, k, options); }
  void add_batched(int64_t batch, int64_t m, int64_t n, int64_t k, const at::TensorOptions& options) {
    add({batch, m, k}, {batch, n, k}, {batch, m, n}, k, options);
  }
  void add(at::IntArrayRef a, at::IntArrayRef b, at::IntArrayRef c, int64_t k, const at::TensorOptions& options) {
    products_.push_back(
        {at::randn(a, options), at::randn(b, options), at::randn(c, options), at::empty(a, options), at::empty(b, options)});
    flops_ += 6.0 * static_cast<double>(products_.back().c.numel()) * static_cast<double>(k);
  }

  std::vector<Product> products_;
  double flops_ = 0.0;
};

}  // namespace

BenchReport bench_attention(const BenchInputs& inputs) {
  const auto& model = inputs.config.model;
  if (model.sequence_mixer != SequenceMixer::kAttention || model.attention.is_latent()) {
    throw UserError("bench attention: only plain attention is measured; use model.sequence_mixer: attention without kv_lora_rank");
  }
  const int64_t S = inputs.config.sequence_length(), B = inputs.config.training.global_batch_size / inputs.world->size();
  const auto options = at::dtype(inputs.dtype).device(inputs.device);
  Attention layer(model);
  initialize_parameters(parameters_by_name(*layer), model, /*seed=*/1);
  ParameterStore store(parameters_by_name(*layer), inputs.dtype, inputs.device, /*with_optimizer_state=*/true);
  RotaryTable rotary(model.max_sequence_length, model.rotary_dim(), model.rope_theta, model.rope);
  rotary.move_to(inputs.device);
  TokenContext context;
  context.token_ids_BS = at::zeros({B, S}, options.dtype(at::kLong));
  const auto plan = plan_attention(rotary, model.attention, context, inputs.dtype, PastTokens());
  at::Tensor x_BSD, grad_BSD;
  const auto products = std::make_shared<AttentionProducts>(B, S, model, options);
  const double flops = products->flops() * static_cast<double>(inputs.world->size());
  const double tokens = static_cast<double>(B * S * inputs.world->size());
  const auto prepare = [&] {
    x_BSD = at::randn({B, S, model.hidden_size}, options).requires_grad_(true);
    grad_BSD = at::randn({B, S, model.hidden_size}, options);
    store.zero_gradients();
  };
  const auto run = [&] { layer->forward(x_BSD, plan, context, /*state=*/nullptr).backward(grad_BSD); };
  return measure_beside_products("attention", inputs, [products] { products->run(); },
                                 {{.name = "attention", .run = run, .prepare = prepare, .flops = flops, .tokens = tokens}});
}

}  // namespace switchyard
