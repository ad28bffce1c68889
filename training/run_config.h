// A run: everything that one YAML file (and key=value overrides) says. One struct a section, one field a key, the same word for both.
// Every default stands here and nowhere else. config_schema.cpp gives each key its range and its sentence of help.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/execution_config.h"
#include "core/model_config.h"
#include "parallel/all_to_all_choice.h"
#include "parallel/process_mesh.h"

namespace switchyard {

struct ParallelConfig {
  int64_t expert = 1;  ///< expert-parallel degree: ranks that share out the experts of a layer
  RankOrder rank_order = RankOrder::kExpertInner;
  int64_t zero_stage = 0;                  ///< 1: optimizer state and master weights are shared out over the data axis (ZeRO-1)
  int64_t gradient_bucket_size = 1 << 24;  ///< elements that one gradient reduction sums at most; 0 = no limit
  bool overlap_gradient_sync = false;      ///< buckets are reduced while backward still runs
  int64_t dispatch_chunks = 1;             ///< a layer's tokens travel in this many pieces
  bool overlap_shared_expert = true;       ///< the shared expert computes while rows travel
  AllToAllKind all_to_all = AllToAllKind::kAuto;
  int64_t timeout_seconds = 600;  ///< a collective that waits longer ends the job
};

enum class DataFormat { kText, kTokens };

struct DataSource {
  std::string name;                           ///< the domain, as evaluation and metrics call it
  std::vector<std::string> paths;             ///< key `path`: one file or a list
  std::vector<std::string> validation_paths;  ///< key `validation_path`: held-out files
  double validation_fraction = 0.0;           ///< or: the tail of `path` that is held out
  double weight = 1.0;
};

struct DataConfig {
  DataFormat format = DataFormat::kText;  ///< `text`: raw bytes, byte tokenizer. `tokens`: Megatron .bin/.idx or headerless ids
  std::string token_dtype = "uint16";     ///< of headerless files: uint16 | uint32
  int64_t sequence_length = 0;            ///< S; 0 = model.max_sequence_length
  bool reset_attention_mask = false;      ///< attention does not cross an end-of-document token
  bool reset_position_ids = false;        ///< positions start at 0 again behind an end-of-document token
  std::vector<DataSource> sources;
};

struct OptimizerConfig {
  double learning_rate = 1e-3;  ///< the peak of the schedule
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;    ///< not on norms and biases
  double clip_grad_norm = 1.0;  ///< 0 = no clipping
};

enum class ScheduleKind { kConstant, kCosine, kLinear, kWsd };

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kCosine;
  int64_t warmup_steps = 0;
  double min_ratio = 0.1;       ///< the last learning rate over the peak
  double decay_fraction = 0.2;  ///< wsd: the share of the steps that the final decay takes
};

enum class Precision { kAuto, kFp32, kBf16, kFp64 };
enum class Device { kAuto, kCpu, kCuda };
enum class NonFinitePolicy { kStop, kSkip };

struct TrainingConfig {
  int64_t steps = 0;
  double max_minutes = 0.0;  ///< 0 = no limit
  int64_t seed = 1234;
  Precision precision = Precision::kAuto;
  Device device = Device::kAuto;
  int64_t global_batch_size = 0;  ///< sequences
  int64_t micro_batch_size = 0;   ///< sequences a rank computes at once
  int64_t threads = 0;            ///< per rank; 0 = the CPUs this rank may use, shared out among the local ranks
  NonFinitePolicy non_finite = NonFinitePolicy::kStop;
  Recompute recompute = Recompute::kNone;
};

/// The routers' choices of a run, written down or taken from another run: how comparisons in fp32 keep near-ties from falling differently.
struct RoutingConfig {
  std::optional<std::string> record;  ///< folder to write; none = off
  std::optional<std::string> replay;  ///< folder of a recorded run; none = off
};

struct EvaluationConfig {
  int64_t every = 0;          ///< steps; 0 = only at the end
  int64_t max_sequences = 0;  ///< of each domain; 0 = all
};

enum class SaveFailurePolicy { kContinue, kStop };

struct CheckpointConfig {
  int64_t every = 0;  ///< steps; 0 = only at the end
  int64_t keep = 2;
  bool at_end = true;
  SaveFailurePolicy on_failure =
      SaveFailurePolicy::kContinue;  ///< of a save between steps (a full disk); at the end it always fails the run
};

struct LoggingConfig {
  int64_t every = 1;  ///< steps between console lines; metrics.jsonl has every step
  bool tensorboard = true;
  double peak_gflops = 0.0;  ///< of one rank, for MFU; 0 = a GEMM measured at the start
};

struct RunConfig {
  int64_t config_version = 1;
  std::string name;  ///< of the run folder: the file's name without its ending
  ModelConfig model;
  ParallelConfig parallel;
  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainingConfig training;
  RoutingConfig routing;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  LoggingConfig logging;

  int64_t sequence_length() const { return data.sequence_length > 0 ? data.sequence_length : model.max_sequence_length; }
};

/// Reads `path`, applies `overrides`, and checks everything, without touching data files or devices.
/// An override "a.b=value" stands in place of what the file says of that key (or section, or list); `value` is YAML, the last of equal keys
/// wins, and "a.b=null" goes back to the default.
/// `world_size`: ranks of the job, for the batch rule and the expert degree; 0 = not known, these rules are left out.
/// Errors: UserError with every fault of file and overrides, one a line, in the form `place: key = value problem; what to do`.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides, int64_t world_size);

/// The same from the file's text. `name` stands for the file in messages.
RunConfig parse_run_config(const std::string& text, const std::string& name, const std::vector<std::string>& overrides, int64_t world_size);

/// The whole configuration as YAML text that load_run_config reads back to the same values. What the run folder keeps.
std::string to_yaml(const RunConfig& config);

/// Differences between two configurations that change the job's answer: "training.seed: 1 -> 2", one a line. Keys that only decide how it
/// is run or watched (parallel.*, training.steps, micro_batch_size, threads, evaluation.*, checkpoint.*, logging.*) are left out.
std::vector<std::string> job_differences(const RunConfig& before, const RunConfig& after);

/// Hash of the keys that job_differences compares; the same on every rank and layout of one job.
uint64_t job_hash(const RunConfig& config);

/// All keys with type, default, range and sentence, as a Markdown table a section (docs/configuration.md).
std::string configuration_reference();

}  // namespace switchyard
