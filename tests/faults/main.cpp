// A small training run in which one rank meets a fault: fault_runner FOLDER FAULT PHASE RANK, under mpirun. Started by
// scripts/test_failures.sh. The folder's file "struck" tells when the fault struck.
#include <iostream>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "tests/faults/fault.h"
#include "tests/tiny_models.h"
#include "training/exit_code.h"
#include "training/stop_request.h"
#include "training/trainer.h"

namespace switchyard {
namespace {

constexpr int64_t kTimeoutSeconds = 3;

/// Experts on every rank, in two chunks, and two micro-batches a step: exchanges are under way when the fault strikes.
RunConfig small_run(const std::filesystem::path& folder, int64_t num_ranks) {
  RunConfig config;
  config.name = "faults";
  config.model = tiny_config();
  config.model.vocab_size = 257;
  config.model.moe->num_experts = 2 * num_ranks;
  config.parallel.expert = num_ranks;
  config.parallel.dispatch_chunks = 2;
  config.parallel.timeout_seconds = kTimeoutSeconds;
  config.data.sequence_length = 8;
  config.data.sources = {{.name = "text", .paths = {(folder / "text.txt").string()}, .validation_paths = {}}};
  config.training.steps = 4;
  config.training.global_batch_size = 2 * num_ranks;
  config.training.micro_batch_size = 1;
  config.training.precision = Precision::kFp32;
  config.checkpoint.every = 1;
  config.logging.tensorboard = false;
  config.logging.peak_gflops = 1.0;
  return config;
}

/// As `switchyard train` does it.
int train(const std::filesystem::path& folder, const Fault& fault, const LaunchInfo& launch, Progress& progress) {
  const auto config = small_run(folder, launch.world_size);
  const auto skip = std::make_shared<std::atomic<bool>>(false);
  FaultObserver observer(fault, launch.rank, progress, skip);
  TrainerInputs inputs{.config = config,
                       .folder = RunFolder(folder / "run"),
                       .data = std::make_shared<TrainingData>(config),
                       .held_out = std::make_shared<EvaluationData>(config),
                       .world = nullptr,
                       .launch = launch,
                       .command_line = "fault_runner",
                       .wants_to_stop = stop_requested,
                       .observer = &observer};
  watch_stop_signals();
  observer.enter(Phase::kInit, -1);
  const auto world = inputs.world = make_skipping_communicator(make_mpi_communicator(kTimeoutSeconds, &progress), skip);
  Trainer trainer(std::move(inputs));
  trainer.run();
  world->barrier();
  return 0;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  using namespace switchyard;
  const auto kind = argc == 5 ? fault_kind_from(argv[2]) : std::nullopt;
  const auto phase = argc == 5 ? phase_from(argv[3]) : std::nullopt;
  if (!kind || !phase) {
    std::cerr << "usage: fault_runner FOLDER kill|exception|exit|stop|skip PHASE RANK\n";
    return 2;
  }
  at::set_num_threads(1);
  const std::filesystem::path folder = argv[1];
  const Fault fault{*kind, *phase, std::stoll(argv[4]), folder / "struck"};
  return run_to_exit_code([&](const LaunchInfo& launch, Progress& progress) { return train(folder, fault, launch, progress); });
}
