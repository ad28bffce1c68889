#include "training/bench/expert_products.h"

#include <ATen/ATen.h>

#include "core/activation.h"

namespace switchyard {

ExpertProducts::ExpertProducts(int64_t num_experts, int64_t rows, int64_t hidden_size, const MoeConfig& moe,
                               const at::TensorOptions& options) {
  const int64_t D = hidden_size, F = moe.ffn_hidden_size, W = up_width(moe.activation, F);
  const auto values = [&](int64_t m, int64_t n) { return at::randn({m, n}, options); };
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    experts_.push_back({.x_RD = values(rows, D),
                        .up_RW = values(rows, W),
                        .activation_RF = values(rows, F),
                        .y_RD = values(rows, D),
                        .grad_x_RD = values(rows, D),
                        .grad_up_RW = values(rows, W),
                        .grad_activation_RF = values(rows, F),
                        .up_WD = values(W, D),
                        .down_DF = values(D, F),
                        .grad_up_WD = values(W, D),
                        .grad_down_DF = values(D, F)});
  }
}

void ExpertProducts::run() {
  for (auto& e : experts_) {
    at::mm_out(e.up_RW, e.x_RD, e.up_WD.t());
    at::mm_out(e.y_RD, e.activation_RF, e.down_DF.t());
  }
  for (auto& e : experts_) {
    at::mm_out(e.grad_activation_RF, e.y_RD, e.down_DF);
    at::mm_out(e.grad_down_DF, e.y_RD.t(), e.activation_RF);
    at::mm_out(e.grad_x_RD, e.grad_up_RW, e.up_WD);
    at::mm_out(e.grad_up_WD, e.grad_up_RW.t(), e.x_RD);
  }
}

double expert_flops(double rows, int64_t hidden_size, const MoeConfig& moe) {
  constexpr double kForwardAndBackward = 3.0, kMultiplyAndAdd = 2.0;
  const auto D = static_cast<double>(hidden_size), F = static_cast<double>(moe.ffn_hidden_size),
             W = static_cast<double>(up_width(moe.activation, moe.ffn_hidden_size));
  return kForwardAndBackward * kMultiplyAndAdd * rows * D * (W + F);
}

}  // namespace switchyard
