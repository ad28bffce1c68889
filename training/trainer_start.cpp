// How a run begins: the ranks agree, the folder is opened, the model is built and restored.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "training/layout_notes.h"
#include "training/numerics.h"
#include "training/run_report.h"
#include "training/trainer.h"

namespace switchyard {

Trainer::Trainer(TrainerInputs inputs)
    : in_(std::move(inputs)),
      phases_(in_.observer),
      log_(in_.world->rank() == 0),
      mesh_(in_.world, in_.config.parallel.expert, in_.config.parallel.rank_order) {
  enter(&phases_, Phase::kInit);
  check_ranks_agree();
  const int64_t resumed_step = open_run_folder();
  std::optional<CheckpointReader> checkpoint;
  if (resumed_step >= 0) checkpoint.emplace(in_.folder.checkpoints() / fmt::format("step-{}", resumed_step));
  build(checkpoint);
  if (checkpoint) restore(*checkpoint);
  trace_routing();
  if (leads()) sinks_ = std::make_unique<MetricSinks>(in_.folder, step_, in_.config.logging.tensorboard);
  announce();
}

void Trainer::check_ranks_agree() const {
  const auto hash = at::scalar_tensor(static_cast<int64_t>(xxh3(to_yaml(in_.config))), at::kLong);
  const auto hashes = in_.world->all_gather(hash);
  if ((hashes != hashes[0]).any().item<bool>()) {
    throw AgreedError("the ranks do not have the same configuration; start all of them with the same file and overrides");
  }
}

int64_t Trainer::open_run_folder() {
  auto step = at::scalar_tensor(-1, at::kLong);
  if (leads()) {
    std::filesystem::create_directories(in_.folder.path());
    lock_ = std::make_unique<RunFolderLock>(in_.folder.path());
    in_.folder.prepare(in_.config, in_.command_line);
    log_.open_file(in_.folder.log_file());
    const auto newest = find_newest_checkpoint(in_.folder.checkpoints(), [this](const std::string& line) { log_.warn(line); });
    if (newest) step.fill_(CheckpointReader(*newest).step());
  }
  in_.world->broadcast(step, /*root=*/0);
  return step.item<int64_t>();
}

void Trainer::build(const std::optional<CheckpointReader>& checkpoint) {
  const auto& config = in_.config;
  const auto device = resolve_device(config.training.device, in_.launch.local_rank);
  precision_ = resolve_precision(config.training.precision, device);
  if (checkpoint && config.training.precision == Precision::kAuto) {
    precision_ = precision_from_string(checkpoint->state().at("precision").get<std::string>());
  }
  const auto dtype = run_dtype(precision_);
  model_ = build_model(config.model, config.parallel, mesh_, at::dtype(dtype).device(device), static_cast<uint64_t>(config.training.seed),
                       /*with_optimizer_state=*/true, config.training.recompute);
  training_step_ = std::make_unique<TrainingStep>(model_, mesh_, static_cast<uint64_t>(config.training.seed));
  training_step_->observe(&phases_);
  moe_layers_ = config.model.moe_layers();
  auto peak = at::scalar_tensor(config.logging.peak_gflops > 0.0 ? 1e9 * config.logging.peak_gflops : measure_peak_flops(dtype, device),
                                at::kDouble);
  in_.world->all_reduce_sum(peak)->wait();
  speed_ = std::make_unique<SpeedMeter>(training_flops_per_token(config.model, config.sequence_length()), peak.item<double>());
  log_.info(fmt::format("peak for MFU: {:.0f} GFLOP/s over {} rank(s), {}", peak.item<double>() / 1e9, in_.world->size(),
                        config.logging.peak_gflops > 0.0 ? "from logging.peak_gflops" : "a matrix product measured now"));
}

void Trainer::restore(const CheckpointReader& checkpoint) {
  const auto& state = checkpoint.state();
  if (state.at("job_hash").get<std::string>() != hex64(job_hash(in_.config))) {
    throw UserError(in_.folder.checkpoints().string() + ": the checkpoint belongs to another job; choose another --run folder");
  }
  if (state.at("data_fingerprint").get<std::string>() != hex64(in_.data->fingerprint())) {
    throw UserError("data.sources: the files are not those that step " + std::to_string(checkpoint.step()) +
                    " was trained on; bring them back, or start another --run folder");
  }
  load_checkpoint(model_, checkpoint);
  training_step_->balance().load_state(checkpoint);
  step_ = saved_step_ = checkpoint.step();
  skipped_steps_ = state.at("skipped_steps").get<int64_t>();
  minutes_ = state.at("minutes").get<double>();
  log_.info(fmt::format("resumed after step {}", step_));
}

void Trainer::trace_routing() {
  const auto& [record, replay] = in_.config.routing;
  if (!record && !replay) return;
  const auto shape = choice_shape(in_.config.model, in_.config.training.global_batch_size, in_.config.sequence_length());
  std::shared_ptr<RoutingTrace> trace;
  if (replay) {
    const auto given = std::make_shared<RoutingReplay>(*replay, shape);
    // How many steps a run by the clock takes is not known: it fails at the first that is missing.
    const int64_t last = in_.config.training.max_minutes > 0.0 ? step_ + 1 : in_.config.training.steps;
    given->check_steps(step_ + 1, last);
    trace = given;
    log_.info("routing.replay: the routers take the choices in " + *replay);
  }
  if (record) {
    trace = recorder_ = std::make_shared<RoutingRecorder>(*record, shape, in_.world, trace);
    log_.info("routing.record: the routers' choices go to " + *record);
  }
  training_step_->trace_routing(trace);
}

void Trainer::announce() {
  const auto& config = in_.config;
  const auto counts = count_parameters(config.model);
  const int64_t accumulation = config.training.global_batch_size / (config.training.micro_batch_size * in_.world->size());
  log_.info(fmt::format("parameters: {} total, {} active; {}, {} thread(s) a rank", counts.total, counts.active, to_string(precision_),
                        at::get_num_threads()));
  log_.info(mesh_.describe());
  if (!model_.all_to_all.empty()) log_.info(model_.all_to_all);
  log_.info(describe_storage(*model_.store, mesh_));
  if (config.parallel.zero_stage == 1 && in_.world->size() == 1) {
    log_.info("parallel.zero_stage = 1: one rank holds everything, so there is nothing to share out");
  }
  log_.info(in_.data->describe());
  log_.info(fmt::format("job {}: {} sequences of {} tokens a step, {} micro-batch(es) of {} a rank", hex64(job_hash(config)),
                        config.training.global_batch_size, config.sequence_length(), accumulation, config.training.micro_batch_size));
  for (const auto& note : layout_notes(config, in_.world->size())) log_.info(note);
  if (config.training.max_minutes > 0.0) {
    log_.info(
        "training.max_minutes: the schedule follows the clock where it is ahead of the steps; such a run is not repeatable to the bit");
  }
}

}  // namespace switchyard
