#include "training/config_section_keys.h"

namespace switchyard {

void add_parallel_keys(RunKeys& keys) {
  SectionKeys parallel(
      keys, "parallel.", [](auto& config) -> auto& { return config.parallel; });
  parallel
      .add("expert", &ParallelConfig::expert, IntegerValue{1, kMaxSize},
           "Expert-parallel degree: ranks that share out the experts of a layer. Divides the number of ranks and num_experts.")
      .as_run();
  parallel
      .add("rank_order", &ParallelConfig::rank_order,
           WordValue<RankOrder>{{{"expert_inner", RankOrder::kExpertInner}, {"expert_outer", RankOrder::kExpertOuter}}},
           "expert_inner: an expert group is consecutive ranks, on one machine where it fits. expert_outer: replicas of an expert are.")
      .as_run();
  parallel
      .add("zero_stage", &ParallelConfig::zero_stage, IntegerValue{0, 1},
           "1: optimizer state and master weights are shared out over the ranks that hold the same weights (ZeRO-1).")
      .as_run();
  parallel
      .add("gradient_bucket_size", &ParallelConfig::gradient_bucket_size, IntegerValue{0, kMaxLength},
           "Elements that one gradient reduction sums at most; 0 = no limit.")
      .as_run();
  parallel
      .add("overlap_gradient_sync", &ParallelConfig::overlap_gradient_sync, BooleanValue{},
           "Reduces gradients, bucket by bucket, while backward still runs. The same bits on and off. Takes memory for the sums under way; "
           "the log's last lines say what it hides.")
      .as_run();
  parallel
      .add("dispatch_chunks", &ParallelConfig::dispatch_chunks, IntegerValue{1, 1024},
           "Pieces in which a layer's tokens travel, so that one piece's experts compute while the next is under way.")
      .as_run();
  parallel
      .add("overlap_shared_expert", &ParallelConfig::overlap_shared_expert, BooleanValue{},
           "Computes the shared expert while rows travel. The same bits on and off.")
      .as_run();
  parallel
      .add("all_to_all", &ParallelConfig::all_to_all,
           WordValue<AllToAllKind>{
               {{"auto", AllToAllKind::kAuto}, {"flat", AllToAllKind::kFlat}, {"hierarchical", AllToAllKind::kHierarchical}}},
           "hierarchical: inside a machine first, then between machines. auto: where an expert group spans machines with several of its "
           "ranks on each.")
      .as_run();
  parallel
      .add("timeout_seconds", &ParallelConfig::timeout_seconds, IntegerValue{1, kMaxSize}, "A collective that waits longer ends the job.")
      .as_run();
}

void add_training_keys(RunKeys& keys) {
  SectionKeys training(
      keys, "training.", [](auto& config) -> auto& { return config.training; });
  training.add("steps", &TrainingConfig::steps, IntegerValue{.least = 1}, "Updates of the weights.").as_required().as_run();
  training
      .add("max_minutes", &TrainingConfig::max_minutes, NumberValue{}, "Ends the run after this time, whatever steps says; 0 = no limit.")
      .as_run();
  training.add("seed", &TrainingConfig::seed, IntegerValue{}, "Decides initial weights, order of the data and noise.");
  training.add("precision", &TrainingConfig::precision,
               WordValue<Precision>{
                   {{"auto", Precision::kAuto}, {"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}, {"fp64", Precision::kFp64}}},
               "bf16: bf16 products, fp32 master weights. auto: bf16 where the processor has the instructions, else fp32.");
  training
      .add("device", &TrainingConfig::device, WordValue<Device>{{{"auto", Device::kAuto}, {"cpu", Device::kCpu}, {"cuda", Device::kCuda}}},
           "Where to compute. auto: cuda where it is there.")
      .as_run();
  training
      .add("global_batch_size", &TrainingConfig::global_batch_size, IntegerValue{1, kMaxLength}, "Sequences of one step, over all ranks.")
      .as_required();
  training
      .add("micro_batch_size", &TrainingConfig::micro_batch_size, IntegerValue{1, kMaxLength},
           "Sequences that a rank computes at once; micro_batch_size x ranks divides global_batch_size.")
      .as_required()
      .as_run();
  training
      .add("threads", &TrainingConfig::threads, IntegerValue{0, 4096},
           "Threads of a rank; 0 = the CPUs are shared out among the ranks of the machine.")
      .as_run();
  training
      .add("non_finite", &TrainingConfig::non_finite,
           WordValue<NonFinitePolicy>{{{"stop", NonFinitePolicy::kStop}, {"skip", NonFinitePolicy::kSkip}}},
           "What all ranks do when a loss or a gradient is not finite.")
      .as_run();
  training
      .add("recompute", &TrainingConfig::recompute,
           WordValue<Recompute>{{{"none", Recompute::kNone}, {"moe", Recompute::kMoe}, {"block", Recompute::kBlock}}},
           "What is computed again in backward, to save memory: nothing, the MoE layers, or whole blocks. Routers keep their choices.")
      .as_run();
}

void add_routing_keys(RunKeys& keys) {
  SectionKeys routing(
      keys, "routing.", [](auto& config) -> auto& { return config.routing; });
  routing.add("record", &RoutingConfig::record, OptionalTextValue{}, "Folder into which the routers' choices of every step are written.")
      .as_run();
  routing.add("replay", &RoutingConfig::replay, OptionalTextValue{}, "Folder of a recorded run, whose choices the routers take over.")
      .as_run();
}

void add_watching_keys(RunKeys& keys) {
  SectionKeys evaluation(
      keys, "evaluation.", [](auto& config) -> auto& { return config.evaluation; });
  evaluation.add("every", &EvaluationConfig::every, IntegerValue{}, "Steps between evaluations on held-out data; 0 = only at the end.")
      .as_run();
  evaluation.add("max_sequences", &EvaluationConfig::max_sequences, IntegerValue{}, "Held-out sequences of each source; 0 = all.").as_run();
  SectionKeys checkpoint(
      keys, "checkpoint.", [](auto& config) -> auto& { return config.checkpoint; });
  checkpoint.add("every", &CheckpointConfig::every, IntegerValue{}, "Steps between checkpoints; 0 = only at the end.").as_run();
  checkpoint.add("keep", &CheckpointConfig::keep, IntegerValue{.least = 2}, "Newest checkpoints that are kept.").as_run();
  checkpoint.add("at_end", &CheckpointConfig::at_end, BooleanValue{}, "Writes one after the last step.").as_run();
  checkpoint
      .add("on_failure", &CheckpointConfig::on_failure,
           WordValue<SaveFailurePolicy>{{{"continue", SaveFailurePolicy::kContinue}, {"stop", SaveFailurePolicy::kStop}}},
           "What a save between steps that fails (a full disk) does to the run; at the end it always fails it.")
      .as_run();
  SectionKeys logging(
      keys, "logging.", [](auto& config) -> auto& { return config.logging; });
  logging.add("every", &LoggingConfig::every, IntegerValue{.least = 1}, "Steps between lines on the console; metrics.jsonl has every step.")
      .as_run();
  logging.add("tensorboard", &LoggingConfig::tensorboard, BooleanValue{}, "Writes TensorBoard events into the run folder.").as_run();
  logging.add("peak_gflops", &LoggingConfig::peak_gflops, NumberValue{}, "Peak of one rank, for MFU; 0 = measured at the start.").as_run();
}

}  // namespace switchyard
