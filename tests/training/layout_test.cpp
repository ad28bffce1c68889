// The layout does not change the answer: the same job on 1, 2 and 4 ranks (threads), every expert degree, with and without accumulation.
#include <gtest/gtest.h>

#include "tests/layout_run.h"

namespace switchyard {
namespace {

struct NamedJob {
  const char* name;
  LayoutCase job;
};

LayoutCase job_with(const std::function<void(LayoutCase&)>& change) {
  LayoutCase job;
  change(job);
  return job;
}

std::vector<NamedJob> jobs() {
  return {
      {"Dropless", job_with([](LayoutCase&) {})},
      {"Capacity", job_with([](LayoutCase& c) { c.model.moe->capacity_factor = 0.75; })},
      {"CapacityByScore", job_with([](LayoutCase& c) {
         c.model.moe->capacity_factor = 1.0;
         c.model.moe->drop_order = DropOrder::kScorePosition;
       })},
      {"SequenceScope", job_with([](LayoutCase& c) { c.model.moe->aux_loss_scope = AuxLossScope::kSequence; })},
      {"HuggingFaceForm", job_with([](LayoutCase& c) { c.model.moe->aux_loss_form = AuxLossForm::kHuggingFace; })},
      {"ZLossOnly", job_with([](LayoutCase& c) {
         c.model.moe->aux_loss_coeff = 0.0;
         c.model.moe->z_loss_coeff = 0.1;
       })},
      {"Jitter", job_with([](LayoutCase& c) { c.model.moe->input_jitter = 0.1; })},
      {"MaskedTails", job_with([](LayoutCase& c) {
         c.masked_tail = 3;
         c.model.moe->capacity_factor = 1.0;
       })},
      {"SharedExpertAndTiedEmbeddings", job_with([](LayoutCase& c) {
         c.model.moe->shared_expert_ffn_hidden_size = 8;
         c.model.moe->shared_expert_gate = true;
         c.model.tie_embeddings = true;
         c.model.qkv_bias = true;
       })},
      {"TopOneEveryOtherLayer", job_with([](LayoutCase& c) {
         c.model.moe->top_k = 1;
         c.model.moe->renormalize = false;
         c.model.moe->layers = {.kind = LayerSet::Kind::kEvery, .count = 2, .list = {}};
       })},
      {"NestedExperts", job_with([](LayoutCase& c) {
         c.model.moe->nested_experts = 3;
         c.model.moe->nested_top_k = 2;
         c.model.moe->nested_loss_coeff = 0.1;
         c.model.moe->expert_dropout = 0.2;
       })},
      {"AnotherNumberOfExpertsInEachLayer", job_with([](LayoutCase& c) {
         c.model.moe->num_experts_by_layer = {{1, 8}};
         c.model.moe->capacity_factor = 1.0;
       })},
      {"LatentAttentionAndPrediction", job_with([](LayoutCase& c) {
         c.model.num_key_value_heads = c.model.num_attention_heads;
         c.model.attention.kv_lora_rank = 6;
         c.model.attention.qk_nope_head_dim = c.model.attention.v_head_dim = 3;
         c.model.attention.qk_rope_head_dim = 2;
         c.model.mtp_layers = 2;
         c.masked_tail = 3;
       })},
      {"SinksWindowsAndNormsBehind", job_with([](LayoutCase& c) {
         c.model.attention.sinks = true;
         c.model.attention.window = 3;
         c.model.attention.full_layers = {.kind = LayerSet::Kind::kEvery, .count = 2, .list = {}};
         c.model.attention.qk_norm = QkNorm::kWhole;
         c.model.norm_placement = NormPlacement::kPost;
       })},
      {"Dense", job_with([](LayoutCase& c) { c.model = tiny_config(/*moe=*/false); })},
  };
}

struct Layout {
  int64_t ranks, expert, micro_batch_size;
};

class LayoutEquality : public ::testing::TestWithParam<NamedJob> {};

TEST_P(LayoutEquality, HoldsInDoublePrecisionOverFiveSteps) {
  auto job = GetParam().job;
  const auto reference = train_on_threads(job);
  for (const auto& layout :
       std::vector<Layout>{{1, 1, 2}, {2, 1, 4}, {2, 2, 4}, {2, 2, 1}, {4, 1, 2}, {4, 2, 2}, {4, 4, 2}, {4, 2, 1}, {4, 4, 1}}) {
    if (!job.model.moe && layout.expert > 1) continue;
    job.ranks = layout.ranks;
    job.parallel.expert = layout.expert;
    job.micro_batch_size = layout.micro_batch_size;
    const auto trace = train_on_threads(job);
    const auto where = ::testing::Message() << layout.ranks << " ranks, expert " << layout.expert << ", micro-batch "
                                            << layout.micro_batch_size;
    EXPECT_LT(largest_difference(reference, trace, 1), 1e-11) << where;
    EXPECT_LT(largest_difference(reference, trace, reference.steps.size()), 1e-10) << where;
    EXPECT_LT(largest_tensor_difference(reference, trace, job), 1e-9) << where;
  }
}

INSTANTIATE_TEST_SUITE_P(Jobs, LayoutEquality, ::testing::ValuesIn(jobs()), [](const auto& info) { return std::string(info.param.name); });

TEST(LayoutEqualityInSinglePrecision, HoldsAtTheFirstStep) {
  LayoutCase job{.dtype = at::kFloat};
  const auto reference = train_on_threads(job);
  job.ranks = 4;
  job.parallel.expert = 2;
  job.micro_batch_size = 1;
  EXPECT_LT(largest_difference(reference, train_on_threads(job), 1), 1e-5);
}

TEST(LayoutEqualityInSinglePrecision, TheSameLayoutTwiceIsEqualToTheBit) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const LayoutCase job{.dtype = dtype, .ranks = 2, .parallel = {.expert = 2}, .micro_batch_size = 2};
    const auto once = train_on_threads(job), again = train_on_threads(job);
    EXPECT_EQ(largest_difference(once, again, once.steps.size()), 0.0);
    for (const auto& [name, tensor] : once.tensors) EXPECT_TRUE(at::equal(tensor, again.tensors.at(name))) << name;
  }
}

TEST(LayoutComparison, WouldNoticeALocalBalancingLoss) {
  // The comparison has teeth: the same job with another coefficient differs far beyond the bounds above.
  LayoutCase job;
  const auto reference = train_on_threads(job);
  job.model.moe->aux_loss_coeff = 1.0001 * job.model.moe->aux_loss_coeff.at(1);
  EXPECT_GT(largest_difference(reference, train_on_threads(job), 1), 1e-8);
}

}  // namespace
}  // namespace switchyard
