#include "parallel/gradient_sync.h"

#include <chrono>
#include <cmath>

#include "core/kernels/optimizer_kernels.h"

namespace switchyard {
namespace {

constexpr int64_t kStepsBetweenComparisons = 16;
constexpr int64_t kFirstComparison = 2;

std::array<CommunicatorPtr, 2> ranks_of_groups(const ProcessMesh& mesh) {
  return {mesh.group("data"), mesh.group("expert_data")};
}

/// Adds the time that it lives.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), begin_(Clock::now()) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point begin_;
};

/// How many elements of `range` lie in each rank's part of the group.
std::vector<int64_t> parts_of(const ParameterGroup& group, const FlatRange& range, int64_t num_ranks) {
  std::vector<int64_t> parts;
  for (int64_t rank = 0; rank < num_ranks; ++rank) parts.push_back(intersection(group.part({rank, num_ranks}), range).numel());
  return parts;
}

}  // namespace

GradientSync::GradientSync(ParameterStore& store, const ProcessMesh& mesh, const GradientSyncOptions& options)
    : store_(store),
      ranks_(ranks_of_groups(mesh)),
      options_(options),
      buckets_(cut_into_buckets(store.groups(), {ranks_[0]->size() > 1, ranks_[1]->size() > 1}, options.bucket_size)) {
  for (size_t g = 0; g < ranks_.size(); ++g) {
    buckets_of_slot_[g].resize(store.groups()[g].slots.size());
    has_arrived_[g].resize(buckets_of_slot_[g].size());
  }
  for (size_t b = 0; b < buckets_.size(); ++b) {
    for (const auto slot : buckets_[b].slots) buckets_of_slot_[buckets_[b].group][slot].push_back(b);
  }
  if (options_.overlap) store.listen_to_gradients([this](size_t group, size_t slot) { on_gradient(group, slot); });
}

GradientSync::~GradientSync() {
  store_.listen_to_gradients({});
}

void GradientSync::expect_last_backward() {
  ++step_;
  seconds_ = 0.0;
  works_.clear();
  is_listening_ = options_.overlap && step_ % kStepsBetweenComparisons != kFirstComparison;
  num_missing_.clear();
  for (const auto& bucket : buckets_) num_missing_.push_back(bucket.slots.size());
  for (auto& slots : has_arrived_) slots.assign(slots.size(), false);
}

void GradientSync::on_gradient(size_t group, size_t slot) {
  if (!is_listening_) return;
  TORCH_CHECK(!has_arrived_[group][slot], "GradientSync: the gradient of ", store_.groups()[group].slots[slot].name,
              " was completed twice in one backward");
  has_arrived_[group][slot] = true;
  for (const auto bucket : buckets_of_slot_[group][slot]) --num_missing_[bucket];
  while (works_.size() < buckets_.size() && num_missing_[works_.size()] == 0) start_next();
}

void GradientSync::start_next() {
  const Stopwatch stopwatch(seconds_);
  const auto& bucket = buckets_[works_.size()];
  const auto& group = store_.groups()[bucket.group];
  auto& ranks = *ranks_[bucket.group];
  const auto gradients = ParameterGroup::of_whole(group.gradients, bucket.range);
  works_.push_back(group.is_sharded() ? ranks.reduce_scatter_sum(gradients, parts_of(group, bucket.range, ranks.size()))
                                      : ranks.all_reduce_sum(gradients));
}

void GradientSync::wait_for(size_t bucket) {
  const Stopwatch stopwatch(seconds_);
  works_[bucket]->wait();
  works_[bucket].reset();
}

/// Each round takes the next elements of every rank's part.
void GradientSync::reduce_by_rounds(size_t g) {
  const Stopwatch stopwatch(seconds_);
  const auto& group = store_.groups()[g];
  auto& ranks = *ranks_[g];
  const int64_t num_ranks = ranks.size(), numel = group.gradients.numel();
  const bool in_one_round = options_.bucket_size == 0 || options_.bucket_size >= numel;
  const int64_t step = in_one_round ? std::max<int64_t>(numel, 1) : std::max<int64_t>(options_.bucket_size / num_ranks, 1);
  const int64_t longest = group.part({num_ranks - 1, num_ranks}).numel();
  for (int64_t done = 0; done < longest; done += step) {
    std::vector<at::Tensor> pieces;
    std::vector<int64_t> sizes;
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      const auto part = group.part({rank, num_ranks});
      const auto piece = intersection(part, {part.begin + done, part.begin + done + step});
      pieces.push_back(ParameterGroup::of_whole(group.gradients, piece));
      sizes.push_back(piece.numel());
    }
    const auto gradients = in_one_round ? group.gradients : at::cat(pieces);
    ranks.reduce_scatter_sum(gradients, sizes)->wait();
    if (!in_one_round) pieces[ranks.rank()].copy_(gradients.split_with_sizes(sizes)[ranks.rank()]);
  }
}

void GradientSync::finish() {
  const bool overlapped = std::exchange(is_listening_, false);
  if (overlapped) {
    while (works_.size() < buckets_.size()) start_next();
    for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) wait_for(bucket);
  } else if (shares_state()) {
    for (size_t g = 0; g < ranks_.size(); ++g) {
      if (store_.groups()[g].is_sharded()) reduce_by_rounds(g);
    }
  } else {
    // One after the other, so that only one needs memory for what arrives.
    while (works_.size() < buckets_.size()) {
      start_next();
      wait_for(works_.size() - 1);
    }
  }
  works_.clear();
  if (step_ == 1) return;
  auto& times = overlapped ? overlapped_times_ : plain_times_;
  ++times.steps;
  times.seconds += seconds_;
}

bool GradientSync::shares_state() const {
  return store_.dense().is_sharded() || store_.experts().is_sharded();
}

double gradient_norm(ParameterStore& store, const ProcessMesh& mesh) {
  const auto ranks = ranks_of_groups(mesh);
  auto sum = at::zeros({}, at::dtype(at::kDouble).device(store.device()));
  for (size_t g = 0; g < ranks.size(); ++g) {
    const auto& group = store.groups()[g];
    const auto mine = ParameterGroup::of_whole(group.gradients, group.part({ranks[g]->rank(), ranks[g]->size()}));
    sum += mine.is_cpu() ? at::scalar_tensor(kernels::sum_of_squares(mine), sum.options())
                         : at::linalg_vector_norm(mine, 2, {}, false, at::kDouble).square();
  }
  mesh.world()->all_reduce_sum(sum)->wait();
  return std::sqrt(sum.item<double>());
}

void gather_weights(ParameterStore& store, const ProcessMesh& mesh) {
  const auto ranks = ranks_of_groups(mesh);
  for (size_t g = 0; g < ranks.size(); ++g) {
    const auto& group = store.groups()[g];
    if (!group.is_sharded()) continue;
    ranks[g]->all_gather_parts(group.weights, parts_of(group, {0, group.weights.numel()}, ranks[g]->size()))->wait();
  }
}

}  // namespace switchyard
