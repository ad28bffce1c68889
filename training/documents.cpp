#include "training/documents.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor document_numbers(const at::Tensor& tokens_BS, int64_t end_of_document) {
  const auto ends_BS = (tokens_BS == end_of_document).to(at::kLong);
  return ends_BS.cumsum(-1) - ends_BS;
}

at::Tensor document_positions(const at::Tensor& tokens_BS, int64_t end_of_document) {
  const int64_t S = tokens_BS.size(-1);
  const auto position_S = at::arange(S, tokens_BS.options().dtype(at::kLong));
  // Where the document of each position starts: behind the last end that stands before it.
  auto start_BS = at::zeros_like(tokens_BS, at::kLong);
  start_BS.narrow(-1, 1, S - 1).copy_((tokens_BS.narrow(-1, 0, S - 1) == end_of_document) * position_S.narrow(0, 1, S - 1));
  return position_S - std::get<0>(start_BS.cummax(-1));
}

}  // namespace switchyard
