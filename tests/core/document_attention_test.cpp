// Several documents in one sequence: attention stays inside one, positions start again.
#include <gtest/gtest.h>

#include "core/loss.h"
#include "tests/tiny_models.h"

namespace switchyard {
namespace {

/// Documents of 3 and 5 tokens in the first row, of 6 and 2 in the second.
TokenContext two_rows_of_documents(const ModelConfig& config, bool training = false) {
  auto context = tiny_context(2, 8, config.vocab_size, training);
  context.document_BS = longs({0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1}).view({2, 8});
  context.position_BS = longs({0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0, 1}).view({2, 8});
  return context;
}

at::Tensor logits_of(Transformer& model, const TokenContext& context) {
  return model->logits(model->forward(context).hidden_BSD);
}

at::Tensor logits_alone(Transformer& model, const at::Tensor& tokens_S) {
  TokenContext context;
  context.token_ids_BS = tokens_S.unsqueeze(0);
  context.global_sample_B = longs({0});
  return logits_of(model, context)[0];
}

struct Span {
  int64_t row, begin, length;
};
const std::vector<Span> kDocuments = {{0, 0, 3}, {0, 3, 5}, {1, 0, 6}, {1, 6, 2}};

/// The largest difference between a document's logits in its row and alone.
double difference_from_alone(Transformer& model, const TokenContext& context, const Span& span) {
  const auto in_row = logits_of(model, context)[span.row].narrow(0, span.begin, span.length);
  const auto alone = logits_alone(model, context.token_ids_BS[span.row].narrow(0, span.begin, span.length));
  return (in_row - alone).abs().max().item<double>();
}

TEST(Documents, InOneRowHaveTheLogitsTheyHaveAlone) {
  for (const bool moe : {false, true}) {
    const auto config = tiny_config(moe);
    auto model = tiny_model(config);
    for (const auto& span : kDocuments) EXPECT_LT(difference_from_alone(model, two_rows_of_documents(config), span), 1e-12) << span.begin;
    auto unmasked = two_rows_of_documents(config);
    unmasked.document_BS = at::Tensor();
    EXPECT_GT(difference_from_alone(model, unmasked, kDocuments[1]), 1e-3);
  }
}

TEST(Documents, NeedNoPositionsOfTheirOwnBehindAMaskBecauseRotationsAreRelative) {
  const auto config = tiny_config();
  auto model = tiny_model(config);
  auto context = two_rows_of_documents(config);
  context.position_BS = at::Tensor();
  for (const auto& span : kDocuments) EXPECT_LT(difference_from_alone(model, context, span), 1e-12) << span.begin;
}

TEST(Documents, PositionsAloneChangeWhatIsSeenAcrossTheBoundary) {
  const auto config = tiny_config();
  auto model = tiny_model(config);
  auto context = two_rows_of_documents(config);
  context.document_BS = at::Tensor();
  const auto started_again = logits_of(model, context);
  context.position_BS = at::Tensor();
  const auto counted_on = logits_of(model, context);
  EXPECT_TRUE(at::equal(started_again[0].narrow(0, 0, 3), counted_on[0].narrow(0, 0, 3)));
  EXPECT_GT((started_again[0][3] - counted_on[0][3]).abs().max().item<double>(), 1e-3);
}

TEST(Documents, OneDocumentARowIsWhatNoDocumentsAre) {
  const auto config = tiny_config();
  auto model = tiny_model(config);
  auto context = tiny_context(2, 8, config.vocab_size, /*training=*/false);
  const auto plain = logits_of(model, context);
  context.document_BS = at::zeros({2, 8}, at::kLong);
  context.position_BS = at::arange(8, at::kLong).expand({2, 8});
  EXPECT_LT((logits_of(model, context) - plain).abs().max().item<double>(), 1e-12);
}

TEST(Documents, PassThroughRecomputationToTheBit) {
  const auto config = tiny_config();
  const auto gradients_with = [&](Recompute recompute) {
    Transformer model(config, local_dispatchers(config), ExecutionConfig{.recompute = recompute, .overlap_shared_expert = true});
    initialize_parameters(model->parameters_by_name(), config, /*seed=*/7);
    model->to(at::kDouble);
    const auto context = two_rows_of_documents(config, /*training=*/true);
    cross_entropy_sum(logits_of(model, context).flatten(0, 1), context.token_ids_BS.flatten(), context.mask_BS.flatten()).backward();
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : model->parameters()) gradients.push_back(parameter.grad().flatten());
    return at::cat(gradients);
  };
  const auto kept = gradients_with(Recompute::kNone);
  EXPECT_TRUE(at::equal(gradients_with(Recompute::kBlock), kept));
  EXPECT_TRUE(at::equal(gradients_with(Recompute::kMoe), kept));
}

}  // namespace
}  // namespace switchyard
