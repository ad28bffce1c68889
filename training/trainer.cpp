#include "training/trainer.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "parallel/gradient_sync.h"
#include "training/evaluation.h"
#include "training/joint_failure.h"
#include "training/model_update.h"
#include "training/numerics.h"
#include "training/run_report.h"
#include "training/schedule.h"

namespace switchyard {

bool Trainer::is_done() const {
  const auto& training = in_.config.training;
  return step_ >= training.steps || (training.max_minutes > 0.0 && minutes_ >= training.max_minutes);
}

TrainOutcome Trainer::run() {
  if (is_done()) {
    log_.info(fmt::format("already finished: {} steps are done; set training.steps to more to go on", step_));
    return TrainOutcome::kAlreadyFinished;
  }
  started_ = std::chrono::steady_clock::now();
  minutes_before_ = minutes_;
  while (!is_done()) {
    const auto report = train_step();
    write(report);
    share_elapsed_time();
    const bool stop = someone_wants_to_stop(), last = is_done();
    const auto due = [&](int64_t every) { return every > 0 && step_ % every == 0; };
    if (last || due(in_.config.evaluation.every)) evaluate_now();
    if (stop || due(in_.config.checkpoint.every) || (last && in_.config.checkpoint.at_end)) save_now(/*may_fail=*/!stop && !last);
    if (stop && !last) {
      log_.info(fmt::format("stopped by signal after step {}; the same command goes on from there", step_));
      return TrainOutcome::kStoppedBySignal;
    }
  }
  const auto sync_times = describe_gradient_sync(*model_.gradient_sync, in_.config.parallel.overlap_gradient_sync, model_.store->device());
  if (!sync_times.empty()) log_.info(sync_times);
  if (model_.store->device().is_cpu()) log_.info(peak_memory());
  log_.info(fmt::format("finished: {} steps, {:.1f} minutes; everything lies in {}", step_, minutes_, in_.folder.path().string()));
  return TrainOutcome::kFinished;
}

std::string Trainer::peak_memory() const {
  const auto& config = in_.config;
  const auto activations = activation_bytes(config.model, config.training.micro_batch_size * config.sequence_length(),
                                            run_dtype(precision_), config.training.recompute);
  return describe_peak_memory(storage_use(*model_.store).total(), activations, program_bytes_, *in_.world);
}

StepReport Trainer::train_step() {
  ++step_;
  phases_.start_step(step_);
  speed_->start_step();
  StepReport report;
  report.step = step_;
  report.result = training_step_->run(micro_batches(), step_);
  if (recorder_) recorder_->write(step_);
  enter(&phases_, Phase::kOptimizer);
  report.grad_norm = gradient_norm(*model_.store, mesh_);
  report.learning_rate =
      learning_rate(in_.config.schedule, in_.config.optimizer.learning_rate, step_, in_.config.training.steps, progress());
  // Both numbers are sums over all ranks, so that all ranks decide alike.
  report.skipped = !std::isfinite(report.result.loss) || !std::isfinite(report.grad_norm);
  if (report.skipped) refuse_non_finite(report);
  update(report);
  report.result.sums.layers = to_host(report.result.sums.layers);  // for the records, which read number by number
  speed_->end_step(report.result.sums.num_targets);
  report.phase_seconds = phases_.end_step();
  report.tokens_per_second = speed_->tokens_per_second();
  report.mfu = speed_->mfu();
  return report;
}

std::vector<Batch> Trainer::micro_batches() {
  enter(&phases_, Phase::kData);
  const auto& training = in_.config.training;
  std::vector<Batch> batches;
  for (const auto first : first_samples(training.global_batch_size, training.micro_batch_size, *in_.world)) {
    batches.push_back(to_device(in_.data->batch(step_, first, training.micro_batch_size), model_.store->device()));
  }
  return batches;
}

void Trainer::update(const StepReport& report) {
  if (report.skipped) {
    ++skipped_steps_;
    return;
  }
  update_model(model_, mesh_, in_.config.optimizer, {report.grad_norm, report.learning_rate, step_ - skipped_steps_},
               report.result.sums.layers);
}

void Trainer::refuse_non_finite(const StepReport& report) const {
  auto message = fmt::format("step {}: loss = {}, gradient norm = {}", step_, report.result.loss, report.grad_norm);
  for (size_t l = 0; l < report.result.sums.layers.size(); ++l) {
    const auto tokens = report.result.sums.layers[l].non_finite().item<double>();
    if (tokens > 0) message += fmt::format("; layer {}: {:.0f} tokens with non-finite router logits", moe_layers_[l], tokens);
  }
  if (in_.config.training.non_finite == NonFinitePolicy::kSkip) return;
  throw AgreedError(message +
                    "; nothing was updated, the last checkpoint stands; lower optimizer.learning_rate, or set training.non_finite: skip");
}

void Trainer::write(const StepReport& report) {
  if (!leads()) return;
  sinks_->write(to_json(report, moe_layers_));
  const auto& config = in_.config;
  if (step_ % std::max<int64_t>(config.logging.every, 1) != 0 && step_ != config.training.steps && !report.skipped) return;
  double seconds_left = speed_->seconds_left(config.training.steps - step_);
  if (config.training.max_minutes > 0.0) seconds_left = std::min(seconds_left, 60.0 * (config.training.max_minutes - minutes_));
  log_.info(console_line(report, config.training.steps, seconds_left));
}

double Trainer::progress() const {
  const auto& training = in_.config.training;
  const double by_steps = static_cast<double>(step_) / static_cast<double>(training.steps);
  return training.max_minutes > 0.0 ? std::max(by_steps, minutes_ / training.max_minutes) : by_steps;
}

void Trainer::share_elapsed_time() {
  const auto since = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  auto minutes = at::scalar_tensor(minutes_before_ + since / 60.0, at::kDouble);
  if (in_.config.training.max_minutes > 0.0) in_.world->broadcast(minutes, /*root=*/0);
  minutes_ = minutes.item<double>();
}

bool Trainer::someone_wants_to_stop() const {
  auto wish = at::scalar_tensor(in_.wants_to_stop() ? 1 : 0, at::kLong);
  in_.world->all_reduce_max(wish);
  return wish.item<int64_t>() != 0;
}

void Trainer::evaluate_now() {
  if (evaluated_step_ == step_ || in_.held_out->num_domains() == 0) return;
  evaluated_step_ = step_;
  enter(&phases_, Phase::kEvaluation);
  const auto domains = evaluate(model_, *in_.held_out, mesh_, in_.config.training.micro_batch_size, in_.config.evaluation.max_sequences);
  if (!leads()) return;
  sinks_->write(to_json(domains, step_, moe_layers_));
  log_.info(fmt::format("evaluation after step {}\n{}", step_, to_table(domains)));
}

void Trainer::save_now(bool may_fail) {
  if (saved_step_ == step_) return;
  enter(&phases_, Phase::kCheckpoint);
  const nlohmann::json state = {{"step", step_},
                                {"skipped_steps", skipped_steps_},
                                {"minutes", minutes_},
                                {"precision", to_string(precision_)},
                                {"job_hash", hex64(job_hash(in_.config))},
                                {"data_fingerprint", hex64(in_.data->fingerprint())},
                                {"config", to_yaml(in_.config)}};
  auto pieces = checkpoint_pieces(model_, mesh_);
  training_step_->balance().append_state(pieces);
  try {
    save_checkpoint(in_.folder.checkpoints(), step_, pieces, state, in_.config.checkpoint.keep, *in_.world);
  } catch (const JointFailure& error) {
    if (!may_fail || in_.config.checkpoint.on_failure == SaveFailurePolicy::kStop) throw AgreedError(error.what());
    log_.warn(std::string(error.what()) + "; training goes on, earlier checkpoints stand");
    return;
  }
  saved_step_ = step_;
  log_.info(fmt::format("saved {}", (in_.folder.checkpoints() / fmt::format("step-{}", step_)).string()));
}

}  // namespace switchyard
