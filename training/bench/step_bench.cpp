#include <ATen/ATen.h>
#include <fmt/format.h>

#include "training/bench/benches.h"
#include "training/bench/timed_communicator.h"
#include "training/model_instance.h"
#include "training/model_update.h"
#include "training/phase_timer.h"
#include "training/speed_meter.h"
#include "training/training_step.h"

namespace switchyard {
namespace {

/// A trainer's step on random tokens.
class StepUnderTest {
 public:
  explicit StepUnderTest(const BenchInputs& inputs)
      : inputs_(inputs),
        timed_world_(std::make_shared<TimedCommunicator>(inputs.world, exposed_seconds_)),
        mesh_(timed_world_, inputs.config.parallel.expert, inputs.config.parallel.rank_order),
        model_(build_model(inputs.config.model, inputs.config.parallel, mesh_, at::dtype(inputs.dtype).device(inputs.device), /*seed=*/1,
                           /*with_optimizer_state=*/true, inputs.config.training.recompute)),
        step_(model_, mesh_, /*seed=*/1) {
    step_.observe(&phases_);
  }

  void run() {
    *exposed_seconds_ = 0.0;
    phases_.start_step(++number_);
    enter(&phases_, Phase::kData);
    const auto batches = random_batches();
    const auto result = step_.run(batches, number_);
    enter(&phases_, Phase::kOptimizer);
    const auto& optimizer = inputs_.config.optimizer;
    update_model(model_, mesh_, optimizer, {gradient_norm(*model_.store, mesh_), optimizer.learning_rate, number_}, result.sums.layers);
    for (const auto& [phase, seconds] : phases_.end_step()) seconds_[phase].push_back(seconds);
    if (inputs_.world->size() > 1) seconds_["exposed communication (in the others)"].push_back(*exposed_seconds_);
  }

  /// Medians; the first run warmed up.
  std::map<std::string, double> phase_seconds() const {
    std::map<std::string, double> medians;
    for (const auto& [phase, seconds] : seconds_) medians[phase] = median({seconds.begin() + (seconds.size() > 1 ? 1 : 0), seconds.end()});
    return medians;
  }

 private:
  std::vector<Batch> random_batches() const {
    const auto& training = inputs_.config.training;
    std::vector<Batch> batches;
    for (const auto first : first_samples(training.global_batch_size, training.micro_batch_size, *inputs_.world)) {
      const int64_t B = training.micro_batch_size, S = inputs_.config.sequence_length();
      const auto tokens = at::randint(inputs_.config.model.vocab_size, {B, S + 1}, at::kLong);
      batches.push_back(to_device({.inputs_BS = tokens.narrow(1, 0, S).contiguous(),
                                   .targets_BS = tokens.narrow(1, 1, S).contiguous(),
                                   .mask_BS = at::ones({B, S}, at::kBool),
                                   .global_sample_B = at::arange(first, first + B, at::kLong),
                                   .domain_B = at::zeros({B}, at::kLong),
                                   .document_BS = {},
                                   .position_BS = {}},
                                  inputs_.device));
    }
    return batches;
  }

  const BenchInputs& inputs_;
  std::shared_ptr<double> exposed_seconds_ = std::make_shared<double>(0.0);
  CommunicatorPtr timed_world_;
  ProcessMesh mesh_;
  ModelInstance model_;
  TrainingStep step_;
  PhaseTimer phases_{nullptr};
  int64_t number_ = 0;
  std::map<std::string, std::vector<double>> seconds_;
};

/// A square product, as many times as make it last.
BenchItem square_products(const BenchInputs& inputs) {
  const int64_t width = peak_product_width(inputs.device), times = 8;
  const auto a = at::randn({width, width}, at::dtype(inputs.dtype).device(inputs.device)), b = at::randn_like(a);
  auto c = at::empty_like(a);
  return {.name = "gemms",
          .run =
              [=]() mutable {
                for (int64_t i = 0; i < times; ++i) at::mm_out(c, a, b);
              },
          .flops = 2.0 * static_cast<double>(times * width * width * width) * static_cast<double>(inputs.world->size())};
}

}  // namespace

BenchReport bench_step(const BenchInputs& inputs) {
  const auto& config = inputs.config;
  StepUnderTest step(inputs);
  const auto tokens = static_cast<double>(config.training.global_batch_size * config.sequence_length());
  const double flops = tokens * training_flops_per_token(config.model, config.sequence_length());
  BenchReport report{.benchmark = "step", .settings = model_settings(inputs)};
  const auto counts = count_parameters(config.model);
  report.settings.emplace_back("parameters", fmt::format("{} total, {} active", counts.total, counts.active));
  report.rows =
      measure({square_products(inputs), {.name = "step", .run = [&] { step.run(); }, .flops = flops, .tokens = tokens, .limit = "gemms"}},
              inputs.repetitions, *inputs.world, inputs.device);
  report.phase_seconds = step.phase_seconds();
  report.notes = {"The ratio of step is its MFU. Phases are medians of rank 0; its tokens are random."};
  return report;
}

}  // namespace switchyard
