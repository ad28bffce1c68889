// A training run: resume, steps, evaluation, checkpoints, metrics, stop.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/phase_observer.h"
#include "parallel/process_mesh.h"
#include "training/metric_sinks.h"
#include "training/model_instance.h"
#include "training/phase_timer.h"
#include "training/process_memory.h"
#include "training/routing_record.h"
#include "training/run_folder.h"
#include "training/run_log.h"
#include "training/speed_meter.h"
#include "training/step_report.h"
#include "training/token_data.h"
#include "training/training_step.h"

namespace switchyard {

enum class TrainOutcome { kFinished, kAlreadyFinished, kStoppedBySignal };

/// What a run is made of. Data files are opened by whoever starts it, before the ranks meet, so that a bad one is a user's error.
struct TrainerInputs {
  RunConfig config;
  RunFolder folder;
  std::shared_ptr<const TrainingData> data;
  std::shared_ptr<const EvaluationData> held_out;
  CommunicatorPtr world;
  LaunchInfo launch;
  std::string command_line;                                    ///< for the run folder's record
  std::function<bool()> wants_to_stop = [] { return false; };  ///< asked after each step; one rank that wants it stops all
  PhaseObserver* observer = nullptr;                           ///< is told how far this rank has come; null = nobody is
};

class Trainer {
 public:
  /// Builds the model on this rank, and resumes from the newest verified checkpoint of the folder, if there is one. Collective.
  /// Errors: UserError (a folder in use or of another job, data that changed since the checkpoint), RunError.
  explicit Trainer(TrainerInputs inputs);

  /// Trains to training.steps (or training.max_minutes), evaluates and saves. Collective.
  TrainOutcome run();

  ModelInstance& model() { return model_; }
  const ProcessMesh& mesh() const { return mesh_; }
  int64_t step() const { return step_; }

 private:
  void check_ranks_agree() const;
  /// The step of the newest verified checkpoint, -1 without one; the lead rank locks and prepares the folder.
  int64_t open_run_folder();
  void build(const std::optional<CheckpointReader>& checkpoint);
  void restore(const CheckpointReader& checkpoint);
  void trace_routing();
  void announce();

  std::string peak_memory() const;  ///< for the log; collective
  StepReport train_step();
  std::vector<Batch> micro_batches();
  void update(const StepReport& report);
  void refuse_non_finite(const StepReport& report) const;
  void write(const StepReport& report);
  double progress() const;
  void share_elapsed_time();
  bool is_done() const;
  bool someone_wants_to_stop() const;
  void evaluate_now();
  void save_now(bool may_fail);
  bool leads() const { return in_.world->rank() == 0; }

  TrainerInputs in_;
  PhaseTimer phases_;
  RunLog log_;
  ProcessMesh mesh_;
  std::unique_ptr<RunFolderLock> lock_;  ///< the lead rank's
  std::unique_ptr<MetricSinks> sinks_;   ///< the lead rank's
  Precision precision_ = Precision::kAuto;
  ModelInstance model_;
  std::unique_ptr<TrainingStep> training_step_;
  std::shared_ptr<RoutingRecorder> recorder_;  ///< with routing.record
  std::unique_ptr<SpeedMeter> speed_;
  std::vector<int64_t> moe_layers_;

  int64_t step_ = 0;  ///< steps done
  int64_t skipped_steps_ = 0;
  int64_t evaluated_step_ = -1;
  int64_t saved_step_ = -1;
  double minutes_ = 0.0;                     ///< of training so far, earlier processes of this run included; the same on every rank
  double minutes_before_ = 0.0;              ///< of earlier processes
  double program_bytes_ = resident_bytes();  ///< before there is a model
  std::chrono::steady_clock::time_point started_;
};

}  // namespace switchyard
