// Loss on held-out text, domain by domain.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/routing/statistics.h"
#include "parallel/process_mesh.h"
#include "training/model_instance.h"
#include "training/token_data.h"

namespace switchyard {

struct DomainEvaluation {
  std::string name;
  double num_targets = 0.0;
  double cross_entropy = 0.0;                ///< nats a token
  std::optional<double> bits_per_byte = {};  ///< where the bytes behind the tokens are known
  std::vector<RoutingSums> layers = {};      ///< one a MoE layer

  double perplexity() const;
};

/// Evaluates every domain, dropless, without gradients. max_sequences: of each domain, 0 = all. All ranks share the sequences out and
/// return the same numbers. Collective.
std::vector<DomainEvaluation> evaluate(ModelInstance& model, const EvaluationData& data, const ProcessMesh& mesh, int64_t micro_batch_size,
                                       int64_t max_sequences);

/// {"step": n, "evaluation": {domain: {"cross_entropy", "perplexity", "bits_per_byte"}}, "domain_expert_counts": {domain: [[counts] a
/// layer]}}
nlohmann::json to_json(const std::vector<DomainEvaluation>& domains, int64_t step, const std::vector<int64_t>& moe_layers);

/// A table for the screen, with the mean over the domains in its last line.
std::string to_table(const std::vector<DomainEvaluation>& domains);

}  // namespace switchyard
