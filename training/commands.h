// What each subcommand of `switchyard` does. Options are plain values, so that nothing here knows the option parser. Each returns the exit
// code: 0 done, 3 stopped by signal after saving; errors are thrown (main makes 1 and 2 of them).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "training/generation.h"

namespace switchyard {

/// How this process was started.
struct Invocation {
  LaunchInfo launch;
  std::string command_line;
  Progress* progress = nullptr;  ///< where this rank's position is kept; null = nowhere
};

struct TrainOptions {
  std::string config;
  std::string run;  ///< the run folder; empty = runs/<configuration's name>
  std::vector<std::string> overrides;
};
int train_command(const TrainOptions& options, const Invocation& invocation);

struct CheckOptions {
  std::string config;
  std::vector<std::string> overrides;
  int64_t ranks = 0;  ///< check for this many; 0 = what the launcher says
  bool json = false;
  bool keys = false;  ///< print the reference of all keys instead
};
int check_command(const CheckOptions& options, const Invocation& invocation);

struct EvalOptions {
  std::string run;  ///< run folder or checkpoint folder
  std::vector<std::string> overrides;
  bool json = false;
};
int eval_command(const EvalOptions& options, const Invocation& invocation);

struct GenerateOptions {
  std::string run;
  std::string prompt;
  std::vector<int64_t> prompt_ids;  ///< instead of a prompt, for models without the byte tokenizer
  SamplingOptions sampling;
};
int generate_command(const GenerateOptions& options);

struct LogitsOptions {
  std::string run;
  std::string ids;     ///< JSON file {"ids": [[...], ...]}, rows of one length
  std::string output;  ///< safetensors file: logits [B, S, V] fp32 and aux_loss (`hugging_face` form)
};
int logits_command(const LogitsOptions& options);

struct BenchOptions {
  std::string benchmark;
  std::vector<std::string> settings;  ///< a configuration first, or none; then key=value
  int64_t warmup = 3, repetitions = 10;
  std::string folder = ".";  ///< for `checkpoint`, which writes
  bool json = false;
};
int bench_command(const BenchOptions& options, const Invocation& invocation);
/// The benchmarks and the short forms of settings, for --help.
std::string bench_names();

struct MixtureOptions {
  std::string config;
  bool json = false;
};
int mixture_command(const MixtureOptions& options);

struct ExportOptions {
  std::string run;
  std::string to;
  std::string dtype = "fp32";  ///< of the weights written: fp32 | bf16
};
int export_command(const ExportOptions& options);

}  // namespace switchyard
