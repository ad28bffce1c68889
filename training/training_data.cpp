#include <ATen/ATen.h>

#include <array>
#include <cstdio>

#include "core/hash.h"
#include "training/sample_order.h"
#include "training/token_data.h"
#include "training/token_window.h"

namespace switchyard {

struct TrainingSource {
  std::string name;
  double weight;
  std::unique_ptr<TokenStream> stream;
  int64_t num_windows;
};

namespace {

std::vector<TrainingSource> open_sources(const RunConfig& config) {
  std::vector<TrainingSource> sources;
  for (const auto& source : config.data.sources) {
    auto stream = open_token_stream(source.paths, config.data, config.model.vocab_size);
    const auto split = split_source(source, stream->num_tokens(), config.sequence_length());
    const int64_t num_windows = (split.training.size() - 1) / config.sequence_length();
    sources.push_back({source.name, source.weight, std::move(stream), num_windows});
  }
  return sources;
}

std::vector<double> weights_of(const std::vector<TrainingSource>& sources) {
  std::vector<double> weights;
  for (const auto& source : sources) weights.push_back(source.weight);
  return weights;
}

}  // namespace

struct TrainingData::Impl {
  explicit Impl(const RunConfig& config)
      : sequence_length(config.sequence_length()),
        global_batch_size(config.training.global_batch_size),
        steps(config.training.steps),
        seed(static_cast<uint64_t>(config.training.seed)),
        vocab_size(config.model.vocab_size),
        data(config.data),
        sources(open_sources(config)),
        interleave(weights_of(sources)) {}

  int64_t sequence_length;
  int64_t global_batch_size;
  int64_t steps;
  uint64_t seed;
  int64_t vocab_size;
  DataConfig data;
  std::vector<TrainingSource> sources;
  SourceInterleave interleave;
};

TrainingData::TrainingData(const RunConfig& config) : impl_(std::make_unique<Impl>(config)) {}
TrainingData::~TrainingData() = default;

Batch TrainingData::batch(int64_t step, int64_t first, int64_t count) const {
  TORCH_CHECK(step >= 1, "TrainingData: steps count from 1, got ", step);
  TORCH_CHECK(first >= 0 && count >= 0 && first + count <= impl_->global_batch_size, "TrainingData: samples [", first, ", ", first + count,
              ") of a global batch of ", impl_->global_batch_size);
  Batch batch = make_batch(count, impl_->sequence_length, impl_->data);
  auto* global_sample_B = batch.global_sample_B.mutable_data_ptr<int64_t>();
  auto* domain_B = batch.domain_B.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < count; ++row) {
    const SampleDraw draw = impl_->interleave.at((step - 1) * impl_->global_batch_size + first + row);
    const TrainingSource& source = impl_->sources[draw.source];
    const int64_t begin = window_of_sample(draw.ordinal, source.num_windows, impl_->seed, source.name) * impl_->sequence_length;
    fill_row(batch, row, *source.stream, {begin, begin + impl_->sequence_length + 1});
    global_sample_B[row] = first + row;
    domain_B[row] = draw.source;
  }
  return batch;
}

int64_t TrainingData::tokens_per_epoch() const {
  int64_t num_windows = 0;
  for (const auto& source : impl_->sources) num_windows += source.num_windows;
  return num_windows * impl_->sequence_length;
}

uint64_t TrainingData::fingerprint() const {
  uint64_t hash = xxh3(&impl_->vocab_size, sizeof(impl_->vocab_size));
  for (const auto& source : impl_->sources) {
    const std::array<uint64_t, 2> name_and_files = {xxh3(source.name), source.stream->fingerprint()};
    hash = xxh3(name_and_files.data(), sizeof(name_and_files), hash);
    if (!impl_->data.reset_attention_mask && !impl_->data.reset_position_ids) continue;
    const int64_t end_of_document = source.stream->end_of_document().value();
    hash = xxh3(&end_of_document, sizeof(end_of_document), hash);
  }
  return hash;
}

std::string TrainingData::describe() const {
  const auto samples = static_cast<double>(impl_->steps * impl_->global_batch_size);
  std::string text;
  for (size_t i = 0; i < impl_->sources.size(); ++i) {
    const auto& source = impl_->sources[i];
    const double share = impl_->interleave.share(static_cast<int64_t>(i));
    const double epochs = samples * share / static_cast<double>(source.num_windows);
    std::array<char, 256> line{};
    std::snprintf(line.data(), line.size(), ": %lld tokens, %lld windows of %lld, weight %.4g of the samples, %.3g epochs in %lld steps\n",
                  static_cast<long long>(source.stream->num_tokens()), static_cast<long long>(source.num_windows),
                  static_cast<long long>(impl_->sequence_length), share, epochs, static_cast<long long>(impl_->steps));
    text += source.name + line.data();
  }
  return text;
}

}  // namespace switchyard
