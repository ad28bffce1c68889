#include "core/feed_forward.h"

#include "core/swiglu.h"

namespace switchyard {

FeedForwardImpl::FeedForwardImpl(int64_t hidden_size, int64_t ffn_hidden_size)
    : gate_up_2FD_(register_parameter("gate_up", at::empty({2 * ffn_hidden_size, hidden_size}))),
      down_DF_(register_parameter("down", at::empty({hidden_size, ffn_hidden_size}))) {}

at::Tensor FeedForwardImpl::forward(const at::Tensor& x) {
  return at::linear(swiglu(at::linear(x, gate_up_2FD_)), down_DF_);
}

}  // namespace switchyard
