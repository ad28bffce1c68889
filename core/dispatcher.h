// How tokens reach their experts and how the results come back. The one place where expert parallelism enters a layer: the layer does not
// know whether the experts stand beside it or on other ranks.
// T tokens here, D model width, N assignments, R rows (assignments that travelled, with padding), e experts held here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/routing/routing.h"

namespace switchyard {

/// Rows of an expert are padded with zero rows to a multiple of this. A row of a matrix product has the same bits for every row count that
/// is a multiple of 4 and not for odd ones, and oneDNN keeps one bf16 kernel a shape: 16 serves both.
inline constexpr int64_t kRowMultiple = 16;

inline int64_t padded_rows(int64_t count) {
  return (count + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
}

/// Rows sorted by (expert, global sample, position, choice). Expert e's rows begin where those of e-1, padded, end.
struct ExpertRows {
  at::Tensor rows_RD;                 ///< differentiable
  std::vector<int64_t> row_counts_e;  ///< real rows of each expert held here, or of those of one chunk
  at::Tensor label_R = {};            ///< int64, what begin() was given for each row, -1 for padding; undefined where it was given nothing
};

/// What one dispatch leaves for its combine. Made by begin(), used once.
class DispatchTicket {
 public:
  virtual ~DispatchTicket() = default;
};

/// Two phases each way, so that other work can be done while rows travel. Backward of dispatch is combine and the reverse.
/// Rows may travel in chunks, so that one chunk's experts compute while the next is under way: finish() and combine_begin() are then called
/// in turn, once a chunk. A chunk is some of every rank's experts, not some of the tokens: all rows of an expert stay together, and every
/// result has the same bits for any number of chunks.
/// Collective: every rank of the expert group must call all four, in the same order, with any number of tokens, zero too.
class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;

  /// Starts sending x_TD's rows to the experts that `routing` names, the first chunk's first. Assignments with expert = num_experts are not
  /// sent. label_T: int64 numbers of the tokens that travel with their rows; undefined = none do, the same on every rank.
  virtual std::unique_ptr<DispatchTicket> begin(const at::Tensor& x_TD, const Routing& routing, const at::Tensor& label_T = {}) = 0;
  /// Starts sending the chunk after the next, and waits for the rows of the next one's experts held here.
  virtual ExpertRows finish(DispatchTicket& ticket) = 0;
  /// Starts sending the outputs of the experts of the chunk finished last (same rows, same order) back to where the tokens live.
  virtual void combine_begin(DispatchTicket& ticket, const at::Tensor& outputs_RD) = 0;
  /// Waits, and returns y_TD = sum over a token's choices, in the order of choice, of weight x output. No expert left: zero.
  virtual at::Tensor combine_finish(DispatchTicket& ticket) = 0;

  /// Experts [first, first + count) stand on this rank.
  virtual int64_t first_expert() const = 0;
  virtual int64_t num_local_experts() const = 0;
  /// Of these, chunk c holds those from chunk_starts()[c] up to chunk_starts()[c + 1].
  virtual const std::vector<int64_t>& chunk_starts() const = 0;
};

/// All experts on this rank; nothing travels. num_chunks: at most num_experts.
std::unique_ptr<TokenDispatcher> make_local_dispatcher(int64_t num_experts, int64_t num_chunks = 1);

}  // namespace switchyard
