// The only file that knows the option parser.
#include "training/command_line.h"

#include <fmt/format.h>
#include <torch/version.h>
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "training/commands.h"
#include "training/exit_code.h"
#include "training/memory_reuse.h"
#include "training/version.h"

namespace switchyard {
namespace {

constexpr const char* kOverridesHelp = "key=value settings that replace those of the file, e.g. training.steps=100 model.moe.top_k=1";

std::string version_text() {
  return fmt::format("switchyard {} ({})\nLibTorch {}\nMPI: {}\nNCCL: {}", version(), git_commit(), TORCH_VERSION, mpi_version(),
                     nccl_version());
}

std::string joined(int argc, char** argv) {
  std::string line = argv[0];
  for (int i = 1; i < argc; ++i) line += std::string(" ") + argv[i];
  return line;
}

/// Binds each subcommand's options and what it does. The chosen one is run after parsing, outside the parser's own error handling.
class CommandLine {
 public:
  explicit CommandLine(Invocation invocation) : invocation_(std::move(invocation)) {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", version_text());
    app_.footer(
        "Examples:\n  switchyard train configs/quickstart.yaml training.steps=100\n"
        "  mpirun -n 2 switchyard train configs/quickstart.yaml --run runs/first\n"
        "  switchyard check configs/quickstart.yaml --ranks 4\n"
        "Each command has its own --help.");
    add_train();
    add_check();
    add_eval();
    add_generate();
    add_export();
    add_logits();
    add_mixture();
    add_bench();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app_.exit(error);  // --help, --version
      throw UserError(fmt::format("command line: {}; see {} --help", error.what(), argv[0]));
    }
    return chosen_();
  }

 private:
  /// `example` ends the subcommand's help.
  CLI::App* add(const std::string& name, const std::string& purpose, const std::string& example) {
    auto* command = app_.add_subcommand(name, purpose);
    command->footer("Example:\n  " + example);
    return command;
  }

  void add_train() {
    auto* command = add("train", "Train a model; the same command again resumes",
                        "mpirun -n 2 switchyard train configs/quickstart.yaml --run runs/first training.steps=200");
    command->add_option("config", train_.config, "configuration (YAML)")->required();
    command->add_option("--run", train_.run, "run folder (default runs/<name of the configuration>)");
    command->add_option("overrides", train_.overrides, kOverridesHelp);
    command->callback([this] { chosen_ = [this] { return train_command(train_, invocation_); }; });
  }

  void add_check() {
    auto* command = add("check", "Check a configuration and show it resolved; starts and allocates nothing",
                        "switchyard check configs/quickstart.yaml --json model.num_layers=8");
    auto* config = command->add_option("config", check_.config, "configuration (YAML)");
    command->add_option("overrides", check_.overrides, kOverridesHelp);
    command->add_option("--ranks", check_.ranks, "check for this many ranks")->check(CLI::PositiveNumber);
    command->add_flag("--json", check_.json, "print JSON: parameters {total, active, active_without_embedding, prediction}, config");
    auto* keys = command->add_flag("--keys", check_.keys, "print the reference of all keys (Markdown) instead");
    command->callback([this, config, keys] {
      if (config->count() == 0 && keys->count() == 0) throw CLI::RequiredError("config");
      chosen_ = [this] { return check_command(check_, invocation_); };
    });
  }

  void add_eval() {
    auto* command = add("eval", "Evaluate a saved model on the held-out text of each domain",
                        "switchyard eval runs/quickstart evaluation.max_sequences=50");
    command->add_option("run", eval_.run, "run folder or checkpoint folder")->required();
    command->add_option("overrides", eval_.overrides, kOverridesHelp);
    command->add_flag("--json", eval_.json, "print JSON");
    command->callback([this] { chosen_ = [this] { return eval_command(eval_, invocation_); }; });
  }

  void add_generate() {
    auto* command =
        add("generate", "Generate text with a saved model", "switchyard generate runs/quickstart --prompt 'And God said' --max-tokens 200");
    command->add_option("run", generate_.run, "run folder or checkpoint folder")->required();
    command->add_option("--prompt", generate_.prompt, "text to go on from (byte tokenizer); none = a new document");
    command->add_option("--prompt-ids", generate_.prompt_ids, "token ids to go on from: 1,2,3")->delimiter(',');
    command->add_option("--max-tokens", generate_.sampling.max_tokens, "new tokens at most")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--temperature", generate_.sampling.temperature, "0 = always the likeliest")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--top-k", generate_.sampling.top_k, "sample among this many likeliest; 0 = all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--seed", generate_.sampling.seed, "of the sampling")->capture_default_str();
    command->callback([this] { chosen_ = [this] { return generate_command(generate_); }; });
  }

  void add_export() {
    auto* command =
        add("export", "Write a saved model in a Hugging Face layout", "switchyard export runs/quickstart --to runs/quickstart/export");
    command->add_option("run", export_.run, "run folder or checkpoint folder")->required();
    command->add_option("--to", export_.to, "folder to write")->required();
    command->add_option("--dtype", export_.dtype, "of the weights")->check(CLI::IsMember({"fp32", "bf16"}))->capture_default_str();
    command->callback([this] { chosen_ = [this] { return export_command(export_); }; });
  }

  void add_logits() {
    auto* command = add("logits", "Write a saved model's logits for given token ids (used by scripts/verify_export.py)",
                        "switchyard logits runs/quickstart --ids ids.json --output logits.safetensors");
    command->add_option("run", logits_.run, "run folder or checkpoint folder")->required();
    command->add_option("--ids", logits_.ids, "JSON file {\"ids\": [[...], ...]}")->required();
    command->add_option("--output", logits_.output, "safetensors file to write")->required();
    command->callback([this] { chosen_ = [this] { return logits_command(logits_); }; });
  }

  void add_mixture() {
    auto* command = add("mixture", "Train the adaptive mixture of local experts of 1991 on a small problem and show who took what",
                        "switchyard mixture configs/adaptive_mixture.yaml");
    command->add_option("config", mixture_.config, "configuration (YAML)")->required();
    command->add_flag("--json", mixture_.json, "print JSON");
    command->callback([this] { chosen_ = [this] { return mixture_command(mixture_); }; });
  }

  void add_bench() {
    auto* command = add("bench", "Measure a part against its limit in the same run",
                        "switchyard bench moe_layer experts=8 top_k=2 d_model=512 expert_ffn=1024 tokens=2048 dtype=bf16\n"
                        "  mpirun -n 2 switchyard bench step configs/small/mixtral.yaml parallel.expert=2\nBenchmarks:\n" +
                            bench_names());
    command->add_option("benchmark", bench_.benchmark, "what to measure")->required();
    command->add_option("settings", bench_.settings, "a configuration (YAML) or nothing, then key=value settings and short forms");
    command->add_option("--warmup", bench_.warmup, "runs of each item before those that are timed")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--repetitions", bench_.repetitions, "timed runs of each item, taken in turn")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--folder", bench_.folder, "where `checkpoint` may write")->capture_default_str();
    command->add_flag("--json", bench_.json, "print JSON");
    command->callback([this] { chosen_ = [this] { return bench_command(bench_, invocation_); }; });
  }

  CLI::App app_{"Switchyard: distributed training of Mixture-of-Experts transformers", "switchyard"};
  Invocation invocation_;
  TrainOptions train_;
  CheckOptions check_;
  EvalOptions eval_;
  GenerateOptions generate_;
  ExportOptions export_;
  LogitsOptions logits_;
  MixtureOptions mixture_;
  BenchOptions bench_;
  std::function<int()> chosen_;
};

}  // namespace

int run_command_line(int argc, char** argv) {
  reuse_memory();
  return run_to_exit_code([argc, argv](const LaunchInfo& launch, Progress& progress) {
    return CommandLine({launch, joined(argc, argv), &progress}).run(argc, argv);
  });
}

}  // namespace switchyard
