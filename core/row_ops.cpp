#include "core/row_ops.h"

#include <cstring>

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "core/cuda/row_kernels.h"
#include "core/kernels/row_sum_kernels.h"
#include "core/kernels/vectorised.h"

namespace switchyard {
namespace {

void check_rows(const char* function, const at::Tensor& rows_RD) {
  TORCH_CHECK(rows_RD.dim() == 2, function, ": rows must be [rows, width], got ", rows_RD.sizes());
}

void check_index(const char* function, const at::Tensor& index, int64_t dimensions, const at::Tensor& rows_RD) {
  TORCH_CHECK(index.dim() == dimensions && index.scalar_type() == at::kLong, function, ": indices must be int64 with ", dimensions,
              " dimension(s), got ", index.scalar_type(), " ", index.sizes());
  TORCH_CHECK(index.device() == rows_RD.device(), function, ": indices are on ", index.device(), ", rows on ", rows_RD.device());
}

void check_weight(const char* function, const at::Tensor& weight_TK, const at::Tensor& slot_TK, const at::Tensor& rows_RD) {
  TORCH_CHECK(weight_TK.sizes() == slot_TK.sizes(), function, ": weights ", weight_TK.sizes(), " do not fit slots ", slot_TK.sizes());
  TORCH_CHECK(weight_TK.scalar_type() == at::toOpMathType(rows_RD.scalar_type()), function, ": weights of ", rows_RD.scalar_type(),
              " rows must be ", at::toOpMathType(rows_RD.scalar_type()), ", got ", weight_TK.scalar_type());
}

void gather_on_cpu(const at::Tensor& rows_RD, const at::Tensor& source_TD, const at::Tensor& index_R) {
  const int64_t num_sources = source_TD.size(0);
  const size_t row_bytes = source_TD.size(1) * source_TD.element_size();
  const auto* source = static_cast<const char*>(source_TD.const_data_ptr());
  const auto* index = index_R.const_data_ptr<int64_t>();
  auto* rows = static_cast<char*>(rows_RD.data_ptr());
  at::parallel_for(0, index_R.size(0), kernels::grain_of_rows(source_TD.size(1)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernels::check_row_in_range(index[r], num_sources);
      if (index[r] < 0) {
        std::memset(rows + r * row_bytes, 0, row_bytes);
      } else {
        std::memcpy(rows + r * row_bytes, source + index[r] * row_bytes, row_bytes);
      }
    }
  });
}

/// dot_TK[t, k] = rows_RD[slot_TK[t, k]] . y_TD[t] in max(fp32, dtype), zero where the slot is -1.
at::Tensor dot_rows(const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& y_TD) {
  auto dot_TK = at::empty(slot_TK.sizes(), rows_RD.options().dtype(at::toOpMathType(rows_RD.scalar_type())));
  (rows_RD.is_cuda() ? cuda::dot_rows_out : kernels::dot_rows_out)(dot_TK, rows_RD, slot_TK, y_TD);
  return dot_TK;
}

struct DispatchRows : torch::autograd::Function<DispatchRows> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& source_TD, const at::Tensor& index_R,
                            const at::Tensor& slot_TK) {
    context->save_for_backward({slot_TK});
    return gather_rows(source_TD, index_R);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list grad) {
    const auto slot_TK = context->get_saved_variables()[0];
    return {slot_TK.size(1) == 1 ? gather_rows(grad[0], slot_TK.select(1, 0)) : sum_rows(grad[0], slot_TK), {}, {}};
  }
};

struct CombineRows : torch::autograd::Function<CombineRows> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows_RD, const at::Tensor& slot_TK,
                            const at::Tensor& weight_TK) {
    context->save_for_backward({rows_RD, slot_TK, weight_TK});
    return sum_rows(rows_RD, slot_TK, weight_TK);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list grad) {
    const auto saved = context->get_saved_variables();
    const auto& rows_RD = saved[0];
    const auto& slot_TK = saved[1];
    const auto& weight_TK = saved[2];
    const auto grad_TD = grad[0].contiguous();
    at::Tensor grad_rows_RD, grad_weight_TK;
    if (context->needs_input_grad(0)) grad_rows_RD = gradient_by_rows(grad_TD, slot_TK, weight_TK, rows_RD.size(0));
    if (context->needs_input_grad(2)) grad_weight_TK = dot_rows(rows_RD.contiguous(), slot_TK.contiguous(), grad_TD);
    return {grad_rows_RD, {}, grad_weight_TK};
  }

  /// Every row belongs to one (token, choice) at most, so its gradient is one weighted row of grad_TD, or zero.
  static at::Tensor gradient_by_rows(const at::Tensor& grad_TD, const at::Tensor& slot_TK, const at::Tensor& weight_TK, int64_t num_rows) {
    const auto place_R = invert_places(slot_TK.flatten(), num_rows);
    if (slot_TK.numel() == 0) return at::zeros({num_rows, grad_TD.size(1)}, grad_TD.options());
    const auto token_R = place_R.div(slot_TK.size(1), "floor");  // -1 stays -1
    const auto weight_R = weight_TK.flatten().index_select(0, place_R.clamp_min(0));
    return sum_rows(grad_TD, token_R.unsqueeze(1), weight_R.unsqueeze(1));
  }
};

}  // namespace

at::Tensor gather_rows(const at::Tensor& source_TD, const at::Tensor& index_R) {
  check_rows("gather_rows", source_TD);
  check_index("gather_rows", index_R, 1, source_TD);
  auto rows_RD = at::empty({index_R.size(0), source_TD.size(1)}, source_TD.options());
  (source_TD.is_cuda() ? cuda::gather_rows_out : gather_on_cpu)(rows_RD, source_TD.contiguous(), index_R.contiguous());
  return rows_RD;
}

at::Tensor sum_rows(const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK) {
  check_rows("sum_rows", rows_RD);
  check_index("sum_rows", slot_TK, 2, rows_RD);
  if (weight_TK.defined()) check_weight("sum_rows", weight_TK, slot_TK, rows_RD);
  auto y_TD = at::empty({slot_TK.size(0), rows_RD.size(1)}, rows_RD.options());
  const auto weight = weight_TK.defined() ? weight_TK.contiguous() : weight_TK;
  (rows_RD.is_cuda() ? cuda::sum_rows_out : kernels::sum_rows_out)(y_TD, rows_RD.contiguous(), slot_TK.contiguous(), weight);
  return y_TD;
}

at::Tensor dispatch_rows(const at::Tensor& source_TD, const at::Tensor& index_R, const at::Tensor& slot_TK) {
  return DispatchRows::apply(source_TD, index_R, slot_TK);
}

at::Tensor combine_rows(const at::Tensor& rows_RD, const at::Tensor& slot_TK, const at::Tensor& weight_TK) {
  return CombineRows::apply(rows_RD, slot_TK, weight_TK);
}

at::Tensor slots_by_token(const at::Tensor& token_N, const at::Tensor& choice_N, const at::Tensor& row_N, int64_t num_tokens,
                          int64_t num_choices) {
  auto slot_TK = at::full({num_tokens, num_choices}, -1, row_N.options());
  slot_TK.view(-1).scatter_(0, token_N * num_choices + choice_N, row_N);
  return slot_TK;
}

at::Tensor invert_places(const at::Tensor& place_N, int64_t num_places) {
  // Those that go nowhere are written to one place too many, which is cut off: no data-dependent size, so no host synchronisation.
  auto inverse = at::full({num_places + 1}, -1, place_N.options());
  inverse.scatter_(0, place_N.masked_fill(place_N.lt(0), num_places), at::arange(place_N.size(0), place_N.options()));
  return inverse.narrow(0, 0, num_places);
}

at::Tensor labels_of(const at::Tensor& index_R, const at::Tensor& label_T) {
  const auto nothing = at::scalar_tensor(-1, label_T.options());
  if (label_T.size(0) == 0) return at::full(index_R.sizes(), -1, label_T.options());
  return label_T.index_select(0, index_R.clamp_min(0)).where(index_R >= 0, nothing);
}

}  // namespace switchyard
