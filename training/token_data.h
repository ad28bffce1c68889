// Token streams and the order in which training sees them. Nothing here depends on the number of ranks.
// S sequence length; a window is S + 1 tokens (inputs and targets), windows of one stream start S apart.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "training/run_config.h"

namespace switchyard {

/// One stream of tokens: the files of a source one after the other, each file one document with an end-of-document token behind it
/// (text), or the tokens as they are stored (.bin/.idx, headerless).
class TokenStream {
 public:
  virtual ~TokenStream() = default;
  virtual int64_t num_tokens() const = 0;
  /// Bytes of text that the tokens [begin, end) stand for, where that is known (text; a sidecar .meta.json with num_bytes, in proportion).
  virtual std::optional<double> num_text_bytes(int64_t begin, int64_t end) const = 0;
  /// Copies tokens [begin, begin + count) to `out`. Errors: RunError naming file and offset for an id >= vocab_size.
  virtual void read(int64_t begin, int64_t count, int64_t* out) const = 0;
  /// The token that ends a document (text; a sidecar .meta.json with end_of_document), where all files are known to have the same one.
  virtual std::optional<int64_t> end_of_document() const = 0;
  /// Hash of names, sizes and samples of the files.
  virtual uint64_t fingerprint() const = 0;
};

/// Memory-maps the files. A path of format `tokens` is a .bin file, with its .idx beside it (Megatron) or without (headerless ids), a
/// headerless file of any other name, or Megatron's prefix without ".bin". A sidecar PREFIX.meta.json is checked where there is one.
/// Errors: UserError for a missing, empty or truncated file, a folder, an .idx or a sidecar that does not belong to its .bin, and where
/// data.reset_attention_mask or reset_position_ids ask for an end of documents that is not known.
std::unique_ptr<TokenStream> open_token_stream(const std::vector<std::string>& paths, const DataConfig& config, int64_t vocab_size);

/// A pseudo-random permutation of [0, size): where index i goes. Counter-based (a Feistel network with cycle walking): no table, no state,
/// the same on every machine.
int64_t permute_index(int64_t index, int64_t size, uint64_t key);

/// Some sequences of a global batch, as the trainer computes them. Targets are inputs shifted by one.
struct Batch {
  at::Tensor inputs_BS;        ///< int64
  at::Tensor targets_BS;       ///< int64
  at::Tensor mask_BS;          ///< bool: the target counts
  at::Tensor global_sample_B;  ///< int64, number within the step's global batch
  at::Tensor domain_B;         ///< int64, index of the source
  at::Tensor document_BS;      ///< as in TokenContext; undefined unless data.reset_attention_mask
  at::Tensor position_BS;      ///< as in TokenContext; undefined unless data.reset_position_ids
};

/// The training data: sample i of step s (from 1) is the same tokens on every layout.
/// Order: sources interleaved by weight by a fixed table (the smallest of at most 65536 slots that has the exact proportions, else weights
/// in units of 1/65536; largest deficit first); within a source, windows in the order of a permutation by (seed, source name, epoch). A
/// source's last tokens that fill no window are not used.
class TrainingData {
 public:
  /// Errors: UserError of open_token_stream, and for a source with fewer than S + 1 training tokens.
  explicit TrainingData(const RunConfig& config);
  ~TrainingData();

  /// Global samples [first, first + count) of step `step`.
  Batch batch(int64_t step, int64_t first, int64_t count) const;
  int64_t tokens_per_epoch() const;
  /// Sizes, names and samples of every file and the vocabulary, so that a resumed run can tell that its data changed.
  uint64_t fingerprint() const;
  /// One line a source for the log: tokens, windows, weight, epochs that `training.steps` will take.
  std::string describe() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The held-out windows of the sources, in order; a source's last one may be short (its tail is masked). Held out are the tokens of
/// `validation_path`, or the tail of `path` behind the training windows; of each source the first `evaluation.max_sequences` windows.
class EvaluationData {
 public:
  /// Errors: UserError of open_token_stream, and for a source with fewer than 2 held-out tokens.
  explicit EvaluationData(const RunConfig& config);
  ~EvaluationData();

  int64_t num_domains() const;  ///< sources that have held-out tokens
  const std::string& name(int64_t domain) const;
  int64_t num_sequences(int64_t domain) const;
  /// Sequences [first, first + count) of a domain; those past its end come fully masked, so that all ranks can call the model equally
  /// often.
  Batch batch(int64_t domain, int64_t first, int64_t count) const;
  /// Bytes of text in the domain's targets (all sequences), for bits per byte; none where unknown.
  std::optional<double> num_text_bytes(int64_t domain) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard
