#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "training/token_data.h"
#include "training/token_window.h"

namespace switchyard {

struct HeldOutSource {
  std::string name;
  int64_t source;  ///< index in data.sources
  std::unique_ptr<TokenStream> stream;
  TokenRange tokens;  ///< what evaluation uses
};

namespace {

/// As many tokens as `max_sequences` windows take (0: all).
TokenRange limit_sequences(TokenRange tokens, int64_t max_sequences, int64_t sequence_length) {
  if (max_sequences == 0) return tokens;
  return {tokens.begin, std::min(tokens.end, tokens.begin + max_sequences * sequence_length + 1)};
}

HeldOutSource open_source(const RunConfig& config, int64_t index) {
  const DataSource& source = config.data.sources[index];
  const bool has_own_files = !source.validation_paths.empty();
  auto stream = open_token_stream(has_own_files ? source.validation_paths : source.paths, config.data, config.model.vocab_size);
  const TokenRange all = {0, stream->num_tokens()};
  const TokenRange held_out = has_own_files ? all : split_source(source, stream->num_tokens(), config.sequence_length()).held_out;
  if (held_out.size() < 2) {
    throw UserError("data.sources (" + source.name + "): " + std::to_string(held_out.size()) +
                    " held-out tokens are too few to predict one; give more text");
  }
  return {source.name, index, std::move(stream), limit_sequences(held_out, config.evaluation.max_sequences, config.sequence_length())};
}

}  // namespace

struct EvaluationData::Impl {
  explicit Impl(const RunConfig& config) : sequence_length(config.sequence_length()), data(config.data) {
    for (size_t i = 0; i < config.data.sources.size(); ++i) {
      const DataSource& source = config.data.sources[i];
      if (source.validation_paths.empty() && source.validation_fraction == 0) continue;
      domains.push_back(open_source(config, static_cast<int64_t>(i)));
    }
  }

  const HeldOutSource& domain(int64_t index) const {
    TORCH_CHECK(0 <= index && index < static_cast<int64_t>(domains.size()), "EvaluationData: domain ", index, " of ", domains.size());
    return domains[index];
  }

  int64_t sequence_length;
  DataConfig data;
  std::vector<HeldOutSource> domains;
};

EvaluationData::EvaluationData(const RunConfig& config) : impl_(std::make_unique<Impl>(config)) {}
EvaluationData::~EvaluationData() = default;

int64_t EvaluationData::num_domains() const {
  return static_cast<int64_t>(impl_->domains.size());
}

const std::string& EvaluationData::name(int64_t domain) const {
  return impl_->domain(domain).name;
}

int64_t EvaluationData::num_sequences(int64_t domain) const {
  const int64_t num_targets = impl_->domain(domain).tokens.size() - 1;
  return (num_targets + impl_->sequence_length - 1) / impl_->sequence_length;
}

Batch EvaluationData::batch(int64_t domain, int64_t first, int64_t count) const {
  TORCH_CHECK(first >= 0 && count >= 0, "EvaluationData: ", count, " sequences from ", first);
  const HeldOutSource& held_out = impl_->domain(domain);
  Batch batch = make_batch(count, impl_->sequence_length, impl_->data);
  batch.global_sample_B.copy_(at::arange(first, first + count));
  batch.domain_B.fill_(held_out.source);
  for (int64_t row = 0; row < std::min(count, num_sequences(domain) - first); ++row) {
    const int64_t begin = held_out.tokens.begin + (first + row) * impl_->sequence_length;
    fill_row(batch, row, *held_out.stream, {begin, std::min(begin + impl_->sequence_length + 1, held_out.tokens.end)});
  }
  return batch;
}

std::optional<double> EvaluationData::num_text_bytes(int64_t domain) const {
  const HeldOutSource& held_out = impl_->domain(domain);
  return held_out.stream->num_text_bytes(held_out.tokens.begin + 1, held_out.tokens.end);
}

}  // namespace switchyard
