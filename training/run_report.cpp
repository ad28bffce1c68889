#include "training/run_report.h"

#include <fmt/format.h>

#include "training/process_memory.h"

namespace switchyard {
namespace {

constexpr int64_t kRanksShown = 16;
constexpr double kMiB = 1024.0 * 1024.0;

/// A parameter's bytes: those on every rank, and those that D ranks share.
struct BytesByFormula {
  double whole;
  double shared;
};

BytesByFormula bytes_by_formula(at::ScalarType run_dtype) {
  if (run_dtype == at::kBFloat16) return {6.0, 12.0};
  return run_dtype == at::kDouble ? BytesByFormula{16.0, 16.0} : BytesByFormula{8.0, 8.0};
}

double element_bytes(const at::Tensor& buffer) {
  return static_cast<double>(buffer.element_size());
}

void add(StorageUse& use, const ParameterGroup& group) {
  double parameters = 0.0, held = 0.0;
  for (const auto& slot : group.slots) {
    parameters += static_cast<double>(slot.numel);
    held += static_cast<double>(intersection(slot.range(), group.state).numel());
  }
  double state_bytes = element_bytes(group.exp_avg) + element_bytes(group.exp_avg_sq);
  if (group.has_own_master()) state_bytes += element_bytes(group.master);
  const double weights = static_cast<double>(group.weights.nbytes()), gradients = static_cast<double>(group.gradients.nbytes());
  const double state = static_cast<double>(group.exp_avg.numel()) * state_bytes;
  use.weights += parameters * element_bytes(group.weights);
  use.gradients += parameters * element_bytes(group.gradients);
  use.state += held * state_bytes;
  use.padding +=
      weights + gradients + state - parameters * (element_bytes(group.weights) + element_bytes(group.gradients)) - held * state_bytes;
  const auto bytes = bytes_by_formula(group.weights.scalar_type());
  use.by_formula += parameters * (bytes.whole + bytes.shared / static_cast<double>(group.num_shards));
}

std::string formula_text(ParameterStore& store) {
  const auto bytes = bytes_by_formula(store.dense().weights.scalar_type());
  return fmt::format("{:.0f} + {:.0f}/D bytes a parameter, D = {} for dense parameters and {} for experts", bytes.whole, bytes.shared,
                     store.dense().num_shards, store.experts().num_shards);
}

}  // namespace

StorageUse storage_use(ParameterStore& store) {
  StorageUse use;
  for (const auto& group : store.groups()) add(use, group);
  return use;
}

std::string describe_storage(ParameterStore& store, const ProcessMesh& mesh) {
  const auto use = storage_use(store);
  const auto mine =
      at::tensor({use.weights, use.gradients, use.state, use.padding, use.by_formula, resident_bytes(), use.total()}, at::kDouble);
  const auto all_RN = (mesh.world()->all_gather(mine) / kMiB).contiguous();
  const auto line = [&](int64_t rank) {
    const auto* mib = all_RN[rank].const_data_ptr<double>();
    return fmt::format(
        "\n  rank {}: {:.3f} MiB (weights {:.3f}, gradients {:.3f}, optimizer state {:.3f}; padding of {:.3f} apart), by the "
        "formula {:.3f} MiB; resident memory {:.0f} MiB",
        rank, mib[6], mib[0], mib[1], mib[2], mib[3], mib[4], mib[5]);
  };
  auto text = fmt::format("storage for training, {}", formula_text(store));
  const auto total_R = all_RN.select(1, 6);
  if (total_R.numel() > kRanksShown) {
    return text + fmt::format("; of {} ranks the least and the most:", total_R.numel()) + line(total_R.argmin().item<int64_t>()) +
           line(total_R.argmax().item<int64_t>());
  }
  for (int64_t rank = 0; rank < total_R.numel(); ++rank) text += line(rank);
  return text;
}

std::string describe_peak_memory(double storage_bytes, const ActivationBytes& activations, double program_bytes, Communicator& world) {
  const auto mine = at::tensor({peak_resident_bytes(), program_bytes, storage_bytes, activations.total()}, at::kDouble);
  const auto all_R4 = (world.all_gather(mine) / kMiB).contiguous();
  const int64_t fullest = all_R4.select(1, 0).argmax().item<int64_t>();
  const auto* mib = all_R4[fullest].const_data_ptr<double>();
  const double formula = mib[1] + mib[2] + mib[3];
  return fmt::format(
      "peak memory: {:.0f} MiB (rank {}), by the formula {:.0f} MiB = program {:.0f} + weights, gradients and state {:.0f} + activations "
      "{:.0f} (kept {:.0f}, one block's {:.0f}, loss {:.0f})",
      mib[0], fullest, formula, mib[1], mib[2], mib[3], activations.kept / kMiB, activations.one_block / kMiB, activations.loss / kMiB);
}

std::string describe_gradient_sync(const GradientSync& sync, bool overlap, at::Device device) {
  if (sync.buckets().empty()) return "";
  const auto start = fmt::format("gradient sums ({} buckets): ", sync.buckets().size());
  if (!device.is_cpu()) return start + "not timed, as on a device the host does not wait for them";
  const double plain = 1e3 * sync.plain_times().mean(), overlapped = 1e3 * sync.overlapped_times().mean();
  if (!overlap) return start + fmt::format("rank 0 took {:.2f} ms a step for them, after backward", plain);
  if (sync.plain_times().steps == 0 || sync.overlapped_times().steps == 0) return start + "too few steps to say what overlap hides";
  const auto text =
      start + fmt::format(
                  "with overlap rank 0 spent {:.2f} ms a step on starting and waiting (mean of {} steps), after backward {:.2f} ms "
                  "(mean of {} steps, taken for this comparison); hidden: ",
                  overlapped, sync.overlapped_times().steps, plain, sync.plain_times().steps);
  if (overlapped >= plain) return text + "nothing, so that parallel.overlap_gradient_sync = false is faster here";
  return text + fmt::format("{:.0f} %", 100.0 * (1.0 - overlapped / plain));
}

}  // namespace switchyard
