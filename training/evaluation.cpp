#include "training/evaluation.h"

#include <cmath>
#include <numbers>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/balance.h"
#include "core/host_copy.h"
#include "core/loss.h"
#include "parallel/global_sums.h"
#include "training/training_step.h"

namespace switchyard {
namespace {

/// [cross entropy sum, targets, packed RoutingSums of each layer ...] of one micro-batch.
std::vector<at::Tensor> evaluate_batch(ModelInstance& model, const Batch& batch) {
  const auto output = model.transformer->forward(token_context(batch, /*step=*/0, /*seed=*/0, /*training=*/false));
  const auto logits_TV = model.transformer->logits(output.hidden_BSD).flatten(0, 1);
  std::vector<at::Tensor> sums = {cross_entropy_sum(logits_TV, batch.targets_BS.flatten(), batch.mask_BS.flatten()),
                                  batch.mask_BS.sum().to(at::kDouble)};
  for (const auto& layer : output.statistics) sums.push_back(RoutingSums(layer).packed());
  return sums;
}

DomainEvaluation evaluate_domain(ModelInstance& model, const EvaluationData& data, int64_t domain, int64_t num_sequences,
                                 const ProcessMesh& mesh, int64_t micro_batch_size) {
  const auto& world = *mesh.world();
  const int64_t per_round = world.size() * micro_batch_size;
  std::vector<at::Tensor> sums;
  // Every rank calls the model equally often, with masked sequences behind the last: the dispatch is collective.
  for (int64_t first = 0; first < num_sequences; first += per_round) {
    const auto batch = data.batch(domain, first + world.rank() * micro_batch_size, micro_batch_size);
    const auto more = evaluate_batch(model, to_device(batch, model.store->device()));
    if (sums.empty()) sums.assign(more.size(), at::zeros({}, more[0].options()));
    for (size_t i = 0; i < sums.size(); ++i) sums[i] = sums[i] + more[i];
  }
  auto total = global_sums(sums, *mesh.world());
  for (auto& sum : total) sum = to_host(sum);
  DomainEvaluation result{.name = data.name(domain), .num_targets = total[1].item<double>()};
  const double nats = total[0].item<double>();
  result.cross_entropy = nats / result.num_targets;
  if (const auto bytes = data.num_text_bytes(domain)) {
    const double share = static_cast<double>(num_sequences) / static_cast<double>(data.num_sequences(domain));
    result.bits_per_byte = nats / std::numbers::ln2 / (*bytes * share);
  }
  const auto shapes = sums_shapes(model.transformer->config());
  for (size_t l = 0; l < shapes.size(); ++l) result.layers.emplace_back(total[2 + l], shapes[l]);
  return result;
}

}  // namespace

double DomainEvaluation::perplexity() const {
  return std::exp(cross_entropy);
}

std::vector<DomainEvaluation> evaluate(ModelInstance& model, const EvaluationData& data, const ProcessMesh& mesh, int64_t micro_batch_size,
                                       int64_t max_sequences) {
  at::NoGradGuard no_grad;
  std::vector<DomainEvaluation> domains;
  for (int64_t domain = 0; domain < data.num_domains(); ++domain) {
    const int64_t all = data.num_sequences(domain);
    const int64_t num_sequences = max_sequences > 0 ? std::min(all, max_sequences) : all;
    domains.push_back(evaluate_domain(model, data, domain, num_sequences, mesh, micro_batch_size));
  }
  return domains;
}

nlohmann::json to_json(const std::vector<DomainEvaluation>& domains, int64_t step, const std::vector<int64_t>& moe_layers) {
  nlohmann::json record = {{"step", step}, {"evaluation", nlohmann::json::object()}, {"moe_layers", moe_layers}};
  for (const auto& domain : domains) {
    auto& entry = record["evaluation"][domain.name];
    entry = {{"cross_entropy", domain.cross_entropy}, {"perplexity", domain.perplexity()}, {"tokens", domain.num_targets}};
    if (domain.bits_per_byte) entry["bits_per_byte"] = *domain.bits_per_byte;
    auto& rows = record["domain_expert_counts"][domain.name] = nlohmann::json::array();
    for (const auto& layer : domain.layers) rows.push_back(whole_numbers(layer.assigned_E()));
  }
  return record;
}

std::string to_table(const std::vector<DomainEvaluation>& domains) {
  auto table = fmt::format("{:<16} {:>10} {:>14} {:>11} {:>14}\n", "domain", "tokens", "cross entropy", "perplexity", "bits per byte");
  double sum = 0.0;
  bool all_known = true;
  for (const auto& domain : domains) {
    const auto bits = domain.bits_per_byte ? fmt::format("{:.4f}", *domain.bits_per_byte) : "-";
    table += fmt::format("{:<16} {:>10.0f} {:>14.4f} {:>11.3f} {:>14}\n", domain.name, domain.num_targets, domain.cross_entropy,
                         domain.perplexity(), bits);
    all_known = all_known && domain.bits_per_byte;
    sum += domain.bits_per_byte.value_or(0.0);
  }
  if (all_known && domains.size() > 1) table += fmt::format("{:<16} {:>54.4f}\n", "mean", sum / static_cast<double>(domains.size()));
  return table;
}

}  // namespace switchyard
