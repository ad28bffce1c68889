#include "core/loss.h"

#include <torch/torch.h>

#include "core/dtypes.h"
#include "core/kernels/addition_kernels.h"
#include "core/kernels/cross_entropy_kernels.h"
#include "core/kernels/rows.h"

namespace switchyard {
namespace {

/// What is lost at the targets, [T], in max(fp32, run dtype); 0 where the mask is false.
at::Tensor nats_of(const at::Tensor& log_probability_TV, const at::Tensor& target_T, const at::Tensor& mask_T) {
  return -log_probability_TV.gather(1, target_T.unsqueeze(1)).squeeze(1) * mask_T;
}

/// nats_of, and the logits become their gradients, softmax - one-hot of the target.
at::Tensor turn_into_gradients(at::Tensor logit_TV, const at::Tensor& target_T, const at::Tensor& mask_T) {
  if (kernels::has_kernels(logit_TV)) return kernels::cross_entropy_and_gradient(logit_TV, target_T, mask_T);
  const auto log_probability_TV = widen(logit_TV).log_softmax(-1);
  const auto nats_T = nats_of(log_probability_TV, target_T, mask_T);
  auto grad_TV = log_probability_TV.exp();
  grad_TV.scatter_add_(1, target_T.unsqueeze(1), at::full({target_T.size(0), 1}, -1.0, grad_TV.options()));
  logit_TV.copy_(grad_TV.mul_(mask_T.unsqueeze(1)));
  return nats_T;
}

/// Adds up what chunks contribute to the weight's gradient; bf16 in fp32.
class WeightGradient {
 public:
  explicit WeightGradient(bool in_one_chunk) : in_one_chunk_(in_one_chunk) {}

  void add(const at::Tensor& grad_logit_TV, const at::Tensor& hidden_TD) {
    if (sum_VD_.defined()) {
      kernels::add_product(sum_VD_, grad_logit_TV.t(), hidden_TD);
    } else {
      const auto product_VD = at::mm(grad_logit_TV.t(), hidden_TD);
      sum_VD_ = in_one_chunk_ ? product_VD : widen(product_VD);
    }
  }

  at::Tensor result(at::ScalarType dtype) const { return sum_VD_.to(dtype); }

 private:
  at::Tensor sum_VD_;
  bool in_one_chunk_;
};

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden_TD, const at::Tensor& weight_VD,
                            const at::Tensor& target_T, const at::Tensor& mask_T) {
    const int64_t T = hidden_TD.size(0), num_chunks = std::max<int64_t>(1, (T + kLossChunkTokens - 1) / kLossChunkTokens);
    auto sum = at::zeros({}, hidden_TD.options().dtype(at::kDouble));
    auto grad_hidden_TD = at::empty_like(hidden_TD);
    WeightGradient grad_weight(/*in_one_chunk=*/num_chunks == 1);
    auto buffer_TV = at::empty({(T + num_chunks - 1) / num_chunks, weight_VD.size(0)}, hidden_TD.options());
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
      const int64_t begin = chunk * T / num_chunks, count = (chunk + 1) * T / num_chunks - begin;
      const auto part = [&](const at::Tensor& tensor) { return tensor.narrow(0, begin, count); };
      auto logit_TV = buffer_TV.narrow(0, 0, count), grad_part_TD = part(grad_hidden_TD);
      at::mm_out(logit_TV, part(hidden_TD), weight_VD.t());
      sum += turn_into_gradients(logit_TV, part(target_T), part(mask_T)).sum(at::kDouble);
      at::mm_out(grad_part_TD, logit_TV, weight_VD);
      grad_weight.add(logit_TV, part(hidden_TD));
    }
    context->save_for_backward({grad_hidden_TD, grad_weight.result(weight_VD.scalar_type())});
    return sum;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto scaled = [&](const at::Tensor& gradient) { return gradient * grads[0].to(wide_dtype(gradient.scalar_type())); };
    return {scaled(saved[0]), scaled(saved[1]), {}, {}};
  }
};

}  // namespace

at::Tensor cross_entropy_sum(const at::Tensor& logits_TV, const at::Tensor& target_T, const at::Tensor& mask_T) {
  return nats_of(widen(logits_TV).log_softmax(-1), target_T, mask_T).to(at::kDouble).sum();
}

at::Tensor linear_cross_entropy_sum(const at::Tensor& hidden_TD, const at::Tensor& weight_VD, const at::Tensor& target_T,
                                    const at::Tensor& mask_T) {
  return LinearCrossEntropy::apply(hidden_TD, weight_VD, target_T, mask_T);
}

}  // namespace switchyard
