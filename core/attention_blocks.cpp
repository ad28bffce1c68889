#include "core/attention_blocks.h"

#include <algorithm>

#include <torch/torch.h>

#include "core/dtypes.h"
#include "core/kernels/addition_kernels.h"
#include "core/kernels/softmax_kernels.h"
#include "core/parallel_tasks.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

/// Rows of scores that a thread has at once: with all query heads of a key head, and so that their shares stay in its cache.
constexpr int64_t kBlockRows = 512;
/// Of the number of queries: a row of a product has the same bits beside any such number of rows.
constexpr int64_t kQueryMultiple = 16;

/// Keys and values by head. g query heads share a key head; Q queries of a block.
struct Operands {
  at::Tensor query_BKgSd, key_BKPd, value_BKPv, mask_BSP;
  at::Tensor wide_key_BKPd;  ///< what scores are computed from
  double scale;

  Operands(const at::Tensor& query_BHSd, const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask, double factor)
      : query_BKgSd(query_BHSd.unflatten(1, {key.size(1), -1})),
        key_BKPd(key.contiguous()),
        value_BKPv(value.contiguous()),
        mask_BSP(mask.defined() ? mask.squeeze(1).expand({key.size(0), -1, -1}) : mask),
        wide_key_BKPd(widen(key_BKPd)),
        scale(factor) {}

  int64_t sequences() const { return key_BKPd.size(0); }
  int64_t key_heads() const { return key_BKPd.size(1); }
  int64_t keys() const { return key_BKPd.size(2); }
  int64_t heads_of_key() const { return query_BKgSd.size(2); }
  int64_t queries() const { return query_BKgSd.size(3); }
  int64_t queries_of_block() const { return std::max(kQueryMultiple, kBlockRows / heads_of_key() / kQueryMultiple * kQueryMultiple); }
  int64_t blocks() const { return (queries() + queries_of_block() - 1) / queries_of_block(); }
};

/// One block of queries of one key head.
class QueryBlock {
 public:
  QueryBlock(const Operands& operands, int64_t head, int64_t block)
      : operands_(operands),
        b_(head / operands.key_heads()),
        k_(head % operands.key_heads()),
        first_(block * operands.queries_of_block()),
        count_(std::min(operands.queries_of_block(), operands.queries() - first_)),
        num_keys_(operands.mask_BSP.defined() ? operands.keys() : first_ + count_) {}

  int64_t rows() const { return operands_.heads_of_key() * count_; }

  /// This block's part of a tensor [B, K, g, S, ...].
  at::Tensor of_queries(const at::Tensor& x_BKgS) const { return x_BKgS[b_][k_].narrow(1, first_, count_); }
  /// The same as a matrix, [g x queries, width].
  at::Tensor rows_of(const at::Tensor& x_BKgSw) const { return of_queries(x_BKgSw).reshape({rows(), -1}); }
  /// The keys that some query of the block sees, of a tensor [B, K, P, ...].
  at::Tensor of_keys(const at::Tensor& x_BKP) const { return x_BKP[b_][k_].narrow(0, 0, num_keys_); }

  at::Tensor query() const { return rows_of(operands_.query_BKgSd); }
  at::Tensor scores(const at::Tensor& query_Rd) const { return at::mm(widen(query_Rd), of_keys(operands_.wide_key_BKPd).t()); }

  kernels::SeenKeys seen() const {
    return {count_, first_ + 1, operands_.mask_BSP.defined() ? operands_.mask_BSP[b_].narrow(0, first_, count_) : at::Tensor()};
  }

 private:
  const Operands& operands_;
  int64_t b_, k_, first_, count_, num_keys_;
};

/// [B, K, g, S, width], and in memory [B, S, K, g, width], so that a token's heads lie side by side.
at::Tensor by_token(const Operands& in, int64_t width) {
  return at::empty({in.sequences(), in.queries(), in.key_heads(), in.heads_of_key(), width}, in.query_BKgSd.options())
      .permute({0, 2, 3, 1, 4});
}

struct AttendByBlocks : torch::autograd::Function<AttendByBlocks> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& query_BHSd, const at::Tensor& key_BKPd,
                            const at::Tensor& value_BKPv, const std::optional<at::Tensor>& given_mask, double scale) {
    const auto mask = given_mask.value_or(at::Tensor());
    const Operands in(query_BHSd, key_BKPd, value_BKPv, mask, scale);
    const auto lse_BKgS = at::empty({in.sequences(), in.key_heads(), in.heads_of_key(), in.queries()}, in.wide_key_BKPd.options());
    const auto mixed_BKgSv = by_token(in, value_BKPv.size(3));
    for_each_task(in.sequences() * in.key_heads() * in.blocks(), [&](int64_t task) {
      const QueryBlock block(in, task / in.blocks(), task % in.blocks());
      const auto score_RN = block.scores(block.query()), lse_R = at::empty({block.rows()}, score_RN.options());
      const auto share_RN = at::empty(score_RN.sizes(), value_BKPv.options());
      kernels::softmax_out(share_RN, lse_R, score_RN, block.seen(), scale);
      auto lse = block.of_queries(lse_BKgS), mixed = block.of_queries(mixed_BKgSv);
      lse.copy_(lse_R.view(lse.sizes()));
      mixed.copy_(at::mm(share_RN, block.of_keys(in.value_BKPv)).view(mixed.sizes()));
    });
    context->save_for_backward({query_BHSd, key_BKPd, value_BKPv, mask, lse_BKgS});
    context->saved_data["scale"] = scale;
    return mixed_BKgSv.flatten(1, 2);
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const Operands in(saved[0], saved[1], saved[2], saved[3], context->saved_data["scale"].toDouble());
    const auto grad_mixed_BKgSv = grads[0].unflatten(1, {in.key_heads(), -1});
    const auto grad_query_BKgSd = by_token(in, in.key_BKPd.size(3));
    // Of keys and values in the wide dtype, because blocks add to them.
    const auto grad_key_BKPd = at::zeros(in.key_BKPd.sizes(), in.wide_key_BKPd.options());
    const auto grad_value_BKPv = at::zeros(in.value_BKPv.sizes(), in.wide_key_BKPd.options());
    for_each_task(in.sequences() * in.key_heads(), [&](int64_t head) {
      for (int64_t index = 0; index < in.blocks(); ++index) {
        const QueryBlock block(in, head, index);
        const auto grad_mixed_Rv = block.rows_of(grad_mixed_BKgSv), query_Rd = block.query(), score_RN = block.scores(query_Rd);
        const auto share_RN = at::empty(score_RN.sizes(), in.key_BKPd.options());
        const auto grad_RN = at::mm(grad_mixed_Rv, block.of_keys(in.value_BKPv).t());
        kernels::softmax_backward_out(share_RN, grad_RN, score_RN, block.rows_of(saved[4].unsqueeze(4)), block.seen(), in.scale);
        auto grad_query = block.of_queries(grad_query_BKgSd);
        grad_query.copy_(at::mm(grad_RN, block.of_keys(in.key_BKPd)).view(grad_query.sizes()));
        kernels::add_to(block.of_keys(grad_key_BKPd), at::mm(grad_RN.t(), query_Rd));
        kernels::add_to(block.of_keys(grad_value_BKPv), at::mm(share_RN.t(), grad_mixed_Rv));
      }
    });
    const auto dtype = in.key_BKPd.scalar_type();
    return {grad_query_BKgSd.flatten(1, 2), grad_key_BKPd.to(dtype), grad_value_BKPv.to(dtype), {}, {}};
  }
};

}  // namespace

at::Tensor attend_by_blocks(const at::Tensor& query_BHSd, const at::Tensor& key_BKPd, const at::Tensor& value_BKPv, const at::Tensor& mask,
                            double scale) {
  return AttendByBlocks::apply(query_BHSd, key_BKPd, value_BKPv, mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt, scale);
}

}  // namespace switchyard
