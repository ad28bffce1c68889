// Documents within sequences of tokens. A document ends with its end-of-document token; a sequence begins a new one, wherever it was cut.
// B sequences, S sequence length.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Number of the document that each token belongs to, from 0 in each row. int64 [..., S].
at::Tensor document_numbers(const at::Tensor& tokens_BS, int64_t end_of_document);

/// Position of each token within its document, from 0. int64 [..., S].
at::Tensor document_positions(const at::Tensor& tokens_BS, int64_t end_of_document);

}  // namespace switchyard
