#include "core/feed_forward.h"

#include "core/activation.h"

namespace switchyard {

FeedForwardImpl::FeedForwardImpl(int64_t hidden_size, int64_t ffn_hidden_size, Activation activation)
    : activation_(activation),
      up_WD_(register_parameter(is_gated(activation) ? "gate_up" : "up", at::empty({up_width(activation, ffn_hidden_size), hidden_size}))),
      down_DF_(register_parameter("down", at::empty({hidden_size, ffn_hidden_size}))) {}

at::Tensor FeedForwardImpl::forward(const at::Tensor& x) {
  return at::linear(activate(at::linear(x, up_WD_), activation_), down_DF_);
}

}  // namespace switchyard
