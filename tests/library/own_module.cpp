// The MoE layer inside a module of one's own, its experts shared out over the ranks: mpirun -n 2 own_module
#include <cstdio>

#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>

#include <switchyard/core/init.h>
#include <switchyard/core/moe_layer.h>
#include <switchyard/core/parameters_by_name.h>
#include <switchyard/parallel/all_to_all_dispatcher.h>

using namespace switchyard;

struct OwnModule : torch::nn::Module {
  OwnModule(const ModelConfig& config, std::shared_ptr<TokenDispatcher> dispatcher)
      : moe(register_module("moe", MoeLayer(config, std::move(dispatcher)))),
        sum(register_module("sum", torch::nn::Linear(config.hidden_size, 1))) {}
  at::Tensor forward(const at::Tensor& x_BSD, const TokenContext& context) {
    return sum->forward(x_BSD + moe->forward(x_BSD, context).y_BSD).squeeze(-1);
  }
  MoeLayer moe;
  torch::nn::Linear sum;
};

int main() {
  const auto world = make_mpi_communicator(/*timeout_seconds=*/60);
  ModelConfig config{.hidden_size = 8, .init_std = 0.3};
  config.moe = MoeConfig{.num_experts = 8, .top_k = 2, .ffn_hidden_size = 16};
  OwnModule model(config, make_all_to_all_dispatcher(config.moe->num_experts, world));
  const auto parameters = parameters_by_name(model);
  initialize_parameters(parameters, config, /*seed=*/1);
  model.to(at::kDouble);

  // 16 fixed sequences of 32 tokens, of which every rank takes its part, and a target of which no linear map can learn anything.
  const int64_t B = 16 / world->size();
  const auto x_BSD = at::sin(at::arange(16 * 32 * 8, at::kDouble).square()).view({16, 32, 8}).narrow(0, B * world->rank(), B);
  const auto target_BS = 2.0 * x_BSD.select(-1, 0) * x_BSD.select(-1, 1);
  TokenContext context{.global_sample_B = at::arange(B) + B * world->rank(), .training = true};

  torch::optim::Adam optimizer(model.parameters(), 0.01);
  double first = 0.0, last = 0.0;
  for (context.step = 1; context.step <= 100; ++context.step) {
    optimizer.zero_grad();
    const auto loss = (model.forward(x_BSD, context) - target_BS).square().sum() / (16 * 32);  // tokens of all ranks
    loss.backward();
    for (const auto& parameter : parameters) {  // an expert has the gradient of all ranks' tokens already
      if (parameter.num_experts == 0) world->all_reduce_sum(parameter.tensor.grad())->wait();
    }
    optimizer.step();
    world->all_reduce_sum(loss.detach())->wait();
    (context.step == 1 ? first : last) = loss.item<double>();
  }
  if (world->rank() == 0) std::printf("%d ranks: loss %.8f -> %.8f\n", static_cast<int>(world->size()), first, last);
  TORCH_CHECK(last < 0.1 * first, "the loss has not fallen to a tenth");
  for (const auto& parameter : parameters) {
    const auto of_ranks = world->all_gather(parameter.tensor.detach());
    TORCH_CHECK(parameter.num_experts > 0 || of_ranks.eq(of_ranks[0]).all().item<bool>(), parameter.name, " differs between ranks");
  }
}
