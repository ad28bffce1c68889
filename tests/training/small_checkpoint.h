// Small checkpoints of two ranks, for the tests that read, lose and damage them.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/training/file_content.h"
#include "training/checkpoint.h"

namespace switchyard {

constexpr int64_t kKeep = 2;

/// Every element tells its place.
inline at::Tensor numbered(int64_t begin, int64_t end, double offset = 0) {
  return at::arange(begin, end, at::kDouble) + offset;
}

/// A checkpoint's tensors as two ranks own them: rank 0 the elements [0, 7) of `matrix` and `bias`, rank 1 the elements [7, 12).
inline std::vector<TensorPiece> pieces_of_rank(int64_t rank, double offset = 0) {
  if (rank == 1) return {{"matrix", {4, 3}, 7, numbered(7, 12, offset)}};
  return {{"matrix", {4, 3}, 0, numbered(0, 7, offset)}, {"bias", {2}, 0, (at::arange(2) - 0.5).to(at::kBFloat16)}};
}

inline void save_on_two_ranks(const std::filesystem::path& folder, int64_t step, double offset = 0, int64_t keep = kKeep) {
  run_ranks_as_threads(2, [&](const CommunicatorPtr& world) {
    save_checkpoint(folder, step, pieces_of_rank(world->rank(), offset), {{"tokens", 10 * step}}, keep, *world);
  });
}

inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& item : std::filesystem::directory_iterator(folder)) names.push_back(item.path().filename().string());
  std::ranges::sort(names);
  return names;
}

/// What find_newest_checkpoint says.
struct Found {
  std::optional<std::filesystem::path> newest;
  std::string warnings;
};

inline Found find_newest(const std::filesystem::path& folder) {
  Found found;
  found.newest = find_newest_checkpoint(folder, [&](const std::string& warning) { found.warnings += warning + "\n"; });
  return found;
}

/// "no error" when the whole checkpoint is good.
inline std::string open_error(const std::filesystem::path& checkpoint) {
  return message_of<UserError>([&] { CheckpointReader(checkpoint).verify(); });
}

}  // namespace switchyard
