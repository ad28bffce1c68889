#include <iostream>

#include <fmt/format.h>

#include "core/error.h"
#include "training/bench/bench_settings.h"
#include "training/bench/benches.h"
#include "training/commands.h"
#include "training/job_world.h"
#include "training/numerics.h"

namespace switchyard {
namespace {

const Bench& bench_named(const std::string& name) {
  std::string known;
  for (const auto& bench : benches()) {
    if (name == bench.name) return bench;
    known += (known.empty() ? "" : ", ") + std::string(bench.name);
  }
  throw UserError("bench: there is no benchmark " + name + "; there are " + known);
}

/// The first argument of `step` (and of any other) may be a configuration.
bool is_config(const std::string& argument) {
  return argument.find('=') == std::string::npos;
}

}  // namespace

std::string bench_names() {
  std::string text;
  for (const auto& bench : benches()) text += fmt::format("  {:<14} {}\n", bench.name, bench.purpose);
  return text + "Short forms of settings: " + bench_short_forms();
}

int bench_command(const BenchOptions& options, const Invocation& invocation) {
  const auto& bench = bench_named(options.benchmark);
  auto settings = options.settings;
  std::string config_path;
  if (!settings.empty() && is_config(settings.front())) {
    config_path = settings.front();
    settings.erase(settings.begin());
  }
  BenchInputs inputs{.config = load_bench_config(config_path, settings, invocation.launch.world_size), .world = nullptr};
  const auto& training = inputs.config.training;
  inputs.device = resolve_device(training.device, invocation.launch.local_rank);
  inputs.dtype = run_dtype(resolve_precision(training.precision, inputs.device));
  inputs.repetitions = {.warmup = options.warmup, .timed = options.repetitions};
  inputs.folder = options.folder;
  set_threads(training.threads, invocation.launch);
  inputs.world = make_world(invocation, inputs.device, inputs.config.parallel.timeout_seconds);
  const auto report = bench.run(inputs);
  const auto place = bench_place(*inputs.world, inputs.device);
  if (inputs.world->rank() == 0) std::cout << (options.json ? to_json(report, place) + "\n" : to_table(report, place));
  inputs.world->barrier();
  return 0;
}

}  // namespace switchyard
