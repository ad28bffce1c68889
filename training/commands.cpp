#include "training/commands.h"

#include <fstream>
#include <iostream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/balance.h"
#include "core/error.h"
#include "core/host_copy.h"
#include "parallel/progress.h"
#include "training/evaluation.h"
#include "training/hf_export.h"
#include "training/job_world.h"
#include "training/layout_notes.h"
#include "training/mixture_study.h"
#include "training/numerics.h"
#include "training/safetensors.h"
#include "training/saved_run.h"
#include "training/stop_request.h"
#include "training/tokenizer.h"
#include "training/trainer.h"

namespace switchyard {
namespace {

using nlohmann::json;

/// A model on this process alone, for commands that one rank carries out.
struct LoneModel {
  SavedRun run;
  ProcessMesh mesh;
  ModelInstance model;
};

LoneModel load_alone(const std::string& path, const std::vector<std::string>& overrides = {}) {
  auto run = open_saved_run(path, overrides);
  set_threads(run.config.training.threads, LaunchInfo{});
  ProcessMesh mesh(make_single_communicator(), /*expert_degree=*/1);
  auto model = load_model(run, mesh);
  return {std::move(run), std::move(mesh), std::move(model)};
}

at::Tensor read_ids(const std::string& path, int64_t vocab_size) {
  std::ifstream file(path);
  const auto content = json::parse(file, /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (content.is_discarded() || !content.contains("ids")) throw UserError(path + R"(: expected a JSON file {"ids": [[...], ...]})");
  const auto rows = content.at("ids").get<std::vector<std::vector<int64_t>>>();
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(at::tensor(row, at::kLong));
  const auto ids_BS = at::stack(tensors);
  if ((ids_BS < 0).logical_or(ids_BS >= vocab_size).any().item<bool>()) {
    throw UserError(fmt::format("{}: an id is outside [0, {})", path, vocab_size));
  }
  return ids_BS;
}

}  // namespace

int train_command(const TrainOptions& options, const Invocation& invocation) {
  const auto config = load_run_config(options.config, options.overrides, invocation.launch.world_size);
  const RunFolder folder(options.run.empty() ? "runs/" + config.name : options.run);
  folder.check_same_job(config);
  const auto device = resolve_device(config.training.device, invocation.launch.local_rank);
  TrainerInputs inputs{.config = config,
                       .folder = folder,
                       .data = std::make_shared<TrainingData>(config),
                       .held_out = std::make_shared<EvaluationData>(config),
                       .world = nullptr,
                       .launch = invocation.launch,
                       .command_line = invocation.command_line,
                       .wants_to_stop = stop_requested,
                       .observer = invocation.progress};
  set_threads(config.training.threads, invocation.launch);
  watch_stop_signals();
  const auto world = inputs.world = make_world(invocation, device, config.parallel.timeout_seconds);
  Trainer trainer(std::move(inputs));
  const auto outcome = trainer.run();
  world->barrier();  // no rank ends the job before the last one has finished its part
  return outcome == TrainOutcome::kStoppedBySignal ? 3 : 0;
}

int check_command(const CheckOptions& options, const Invocation& invocation) {
  if (options.keys) {
    std::cout << configuration_reference();
    return 0;
  }
  const int64_t launched = invocation.launch.world_size > 1 ? invocation.launch.world_size : 0;  // 0: the rules about ranks are left out
  const int64_t ranks = options.ranks > 0 ? options.ranks : launched;
  const auto config = load_run_config(options.config, options.overrides, ranks);
  const auto notes = layout_notes(config, ranks);
  const auto counts = count_parameters(config.model);
  const auto yaml = to_yaml(config);
  if (options.json) {
    const json answer = {{"valid", true},
                         {"parameters",
                          {{"total", counts.total},
                           {"active", counts.active},
                           {"active_without_embedding", counts.active_without_embedding},
                           {"prediction", counts.prediction}}},
                         {"job_hash", fmt::format("{:016x}", job_hash(config))},
                         {"notes", notes},
                         {"config", yaml}};
    std::cout << answer.dump(2) << "\n";
    return 0;
  }
  std::cout << yaml
            << fmt::format("# valid. parameters: {} total, {} active, {} active without the input embedding\n", counts.total, counts.active,
                           counts.active_without_embedding);
  if (counts.prediction > 0) std::cout << fmt::format("# {} of the total are blocks of multi-token prediction\n", counts.prediction);
  for (const auto& note : notes) std::cout << "# " << note << "\n";
  return 0;
}

int eval_command(const EvalOptions& options, const Invocation& invocation) {
  const auto run = open_saved_run(options.run, options.overrides);
  const EvaluationData data(run.config);
  if (data.num_domains() == 0)
    throw UserError("data.sources: no source has held-out text; give one a validation_path or a validation_fraction");
  set_threads(run.config.training.threads, invocation.launch);
  const auto device = resolve_device(run.config.training.device, invocation.launch.local_rank);
  const auto world = make_world(invocation, device, run.config.parallel.timeout_seconds);
  const ProcessMesh mesh(world, run.config.parallel.expert, run.config.parallel.rank_order);
  auto model = load_model(run, mesh, invocation.launch.local_rank);
  enter(invocation.progress, Phase::kEvaluation);
  const auto domains = evaluate(model, data, mesh, run.config.training.micro_batch_size, run.config.evaluation.max_sequences);
  if (world->rank() == 0) {
    std::cout << (options.json ? to_json(domains, run.step, run.config.model.moe_layers()).dump() + "\n"
                               : fmt::format("{} after step {}\n{}", run.checkpoint.string(), run.step, to_table(domains)));
  }
  world->barrier();
  return 0;
}

int generate_command(const GenerateOptions& options) {
  auto [run, mesh, model] = load_alone(options.run);
  const bool bytes = run.config.data.format == DataFormat::kText;
  if (!bytes && options.prompt_ids.empty()) {
    throw UserError(
        "--prompt: the model was trained on token ids; encode the text with scripts/prepare_data.py and give --prompt-ids 1,2,3");
  }
  auto prompt = options.prompt_ids;
  if (prompt.empty()) prompt = options.prompt.empty() ? std::vector<int64_t>{kEndOfDocument} : encode_bytes(options.prompt);
  auto sampling = options.sampling;
  if (bytes) sampling.stop_token = kEndOfDocument;
  sampling.reset_attention_mask = bytes && run.config.data.reset_attention_mask;
  sampling.reset_position_ids = bytes && run.config.data.reset_position_ids;
  const auto tokens = generate(model, prompt, sampling);
  if (bytes) {
    std::cout << options.prompt << decode_bytes(tokens) << "\n";
  } else {
    std::cout << json(tokens).dump() << "\n";
  }
  return 0;
}

int export_command(const ExportOptions& options) {
  const auto run = open_saved_run(options.run, {});
  export_hugging_face(run, options.to, options.dtype == "bf16" ? at::kBFloat16 : at::kFloat);
  std::cout << run.checkpoint.string() << " exported to " << options.to << "\n";
  return 0;
}

int mixture_command(const MixtureOptions& options) {
  const auto result = run_mixture_study(load_mixture_study(options.config));
  if (options.json) {
    const json answer = {{"loss", result.loss},
                         {"squared_error", result.squared_error},
                         {"separation", result.separation},
                         {"num_owners", result.num_owners},
                         {"cases_by_expert", result.cases_by_expert}};
    std::cout << answer.dump() << "\n";
    return 0;
  }
  std::cout << fmt::format("loss {:.4f}, squared error of the preferred expert {:.4f}, separation {:.3f}, {} owners\n", result.loss,
                           result.squared_error, result.separation, result.num_owners);
  for (size_t piece = 0; piece < result.cases_by_expert.size(); ++piece) {
    std::cout << fmt::format("piece {}: cases by expert {}\n", piece, fmt::join(result.cases_by_expert[piece], " "));
  }
  return 0;
}

int logits_command(const LogitsOptions& options) {
  auto [run, mesh, model] = load_alone(options.run);
  at::NoGradGuard no_grad;
  TokenContext context;
  context.token_ids_BS = to_device(read_ids(options.ids, run.config.model.vocab_size), model.store->device());
  context.global_sample_B = at::arange(context.token_ids_BS.size(0), context.token_ids_BS.options());
  const auto output = model.transformer->forward(context);
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {"logits", to_host(model.transformer->logits(output.hidden_BSD).to(at::kFloat)).contiguous()}};
  if (run.config.model.moe) {
    auto pooled = run.config.model;
    pooled.moe->aux_loss_form = AuxLossForm::kHuggingFace;
    std::vector<RoutingSums> layers;
    for (const auto& statistics : output.statistics) layers.emplace_back(statistics);
    tensors.emplace_back("aux_loss", to_host(balance_terms(pooled).front().value(layers).to(at::kFloat).view({1})));
  }
  write_safetensors(options.output, tensors);
  return 0;
}

}  // namespace switchyard
