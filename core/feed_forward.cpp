#include "core/feed_forward.h"

#include "core/activation.h"

namespace switchyard {

FeedForwardImpl::FeedForwardImpl(int64_t hidden_size, int64_t ffn_hidden_size, Activation activation, bool bias)
    : activation_(activation),
      up_WD_(register_parameter(is_gated(activation) ? "gate_up" : "up", at::empty({up_width(activation, ffn_hidden_size), hidden_size}))),
      down_DF_(register_parameter("down", at::empty({hidden_size, ffn_hidden_size}))) {
  if (!bias) return;
  up_bias_W_ = register_parameter("up_bias", at::empty({up_width(activation, ffn_hidden_size)}));
  down_bias_D_ = register_parameter("down_bias", at::empty({hidden_size}));
}

at::Tensor FeedForwardImpl::forward(const at::Tensor& x) {
  return at::linear(activate(at::linear(x, up_WD_, up_bias_W_), activation_), down_DF_, down_bias_D_);
}

}  // namespace switchyard
