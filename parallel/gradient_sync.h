// After and during backward: gradients summed over the ranks that share a parameter, their one global norm, and the updated weights brought
// together again.
#pragma once

#include <memory>
#include <vector>

#include "core/parameter_store.h"
#include "parallel/gradient_buckets.h"
#include "parallel/process_mesh.h"

namespace switchyard {

struct GradientSyncOptions {
  int64_t bucket_size = 0;  ///< elements that one reduction sums at most; 0 = no limit
  bool overlap = false;     ///< reductions start while backward runs
};

/// The host's time in a step's reductions.
struct GradientSyncTimes {
  int64_t steps = 0;
  double seconds = 0.0;  ///< spent on starting and waiting, all steps together

  double mean() const { return steps > 0 ? seconds / static_cast<double>(steps) : 0.0; }
};

/// Sums the flat gradient buffers over the ranks that hold the same parameters: dense ones over `data` (all ranks), experts over
/// `expert_data`. Never a mean: losses are already divided by counts of the whole global batch, and an expert's gradient already holds all
/// tokens of its expert group. Where a group's state is sharded (ZeRO-1), a rank receives the sums of its own part only; the rest of its
/// buffer keeps this rank's own gradients.
///
/// The buckets are reduced in one fixed order, with the sums in the order of ranks: neither bucket size nor overlap nor ZeRO changes a bit.
/// With overlap a bucket starts inside backward, when its gradients and those of all buckets before it are complete; what is in flight
/// needs memory for the bytes that arrive, up to the size of the gradients. Backward must complete the parameters in the same order on
/// every rank, which the same model does. Without overlap one reduction follows the other after backward; with ZeRO-1 each of them then
/// takes as much of every rank's part, so that all ranks add alike.
class GradientSync {
 public:
  /// store: must live as long as this. Collective.
  GradientSync(ParameterStore& store, const ProcessMesh& mesh, const GradientSyncOptions& options);
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;
  ~GradientSync();

  /// Says that the next backward is the step's last, so that every gradient that it completes is final.
  void expect_last_backward();
  /// After the last backward: reduces what has not started and waits for what has. Collective.
  void finish();

  const std::vector<GradientBucket>& buckets() const { return buckets_; }
  /// Of steps that overlap, and of those that reduce after backward. With overlap every 16th step reduces after backward, from the second
  /// one on, for the comparison of the two. The first step counts for neither.
  const GradientSyncTimes& overlapped_times() const { return overlapped_times_; }
  const GradientSyncTimes& plain_times() const { return plain_times_; }

 private:
  void on_gradient(size_t group, size_t slot);
  void start_next();
  void wait_for(size_t bucket);
  void reduce_by_rounds(size_t group);
  bool shares_state() const;

  ParameterStore& store_;
  std::array<CommunicatorPtr, 2> ranks_;
  GradientSyncOptions options_;
  std::vector<GradientBucket> buckets_;                              ///< in the order of their reduction
  std::array<std::vector<std::vector<size_t>>, 2> buckets_of_slot_;  ///< [group][slot]
  std::array<std::vector<bool>, 2> has_arrived_;                     ///< [group][slot], in this backward
  std::vector<size_t> num_missing_;                                  ///< parameters of each bucket whose gradient is not complete
  std::vector<std::unique_ptr<Work>> works_;                         ///< of the buckets started
  bool is_listening_ = false;
  int64_t step_ = 0;
  double seconds_ = 0.0;  ///< of this step
  GradientSyncTimes overlapped_times_, plain_times_;
};

/// The L2 norm over every logical parameter of the model, each counted once. Every rank adds the squares of its part of what it shares with
/// others, in fp64, and the ranks' sums are added in their order: the same bits with ZeRO-1 and without. Call after GradientSync::finish.
/// Collective.
double gradient_norm(ParameterStore& store, const ProcessMesh& mesh);

/// After the update of a sharded store: every rank's part of the weights goes to all that hold them. Nothing to do without ZeRO-1.
/// Collective.
void gather_weights(ParameterStore& store, const ProcessMesh& mesh);

}  // namespace switchyard
