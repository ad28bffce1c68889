#include <algorithm>
#include <cstdio>
#include <random>
#include <system_error>

#include "core/error.h"
#include "core/hash.h"
#include "training/checkpoint.h"
#include "training/checkpoint_folders.h"
#include "training/checkpoint_manifest.h"
#include "training/durable_file.h"
#include "training/joint_failure.h"
#include "training/non_finite.h"
#include "training/safetensors.h"
#include "training/strict_json.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr double kFreeSpaceFactor = 1.2;
constexpr int kPiecesDepth = 3;  // [ { global_shape [

/// Where one save writes and what it will be called.
struct SaveFolders {
  fs::path checkpoints;
  fs::path temporary;
  fs::path committed;
};

std::string rank_file_name(int64_t rank) {
  char name[40];
  std::snprintf(name, sizeof(name), "rank-%05ld.safetensors", static_cast<long>(rank));
  return name;
}

void check_is_savable(const TensorPiece& piece) {
  if (!piece.data.device().is_cpu() || !piece.data.is_contiguous()) throw RunError(piece.tensor + ": is not a contiguous CPU tensor");
  if (const auto index = first_non_finite(piece.data)) {
    throw RunError(piece.tensor + ": element " + std::to_string(piece.begin + *index) + " is not finite; such a state is not saved");
  }
}

int64_t total_size_bytes(const std::vector<TensorPiece>& pieces, Communicator& world) {
  int64_t local_bytes = 0;
  for (const TensorPiece& piece : pieces) local_bytes += static_cast<int64_t>(piece.data.nbytes());
  at::Tensor total = at::full({1}, local_bytes, at::kLong);
  world.all_reduce_sum(total)->wait();
  return total.item<int64_t>();
}

void check_free_space(const fs::path& folder, int64_t size_bytes) {
  const double needed_bytes = kFreeSpaceFactor * static_cast<double>(size_bytes);
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (error) throw RunError(folder.string() + ": free space cannot be asked for: " + error.message());
  if (static_cast<double>(space.available) < needed_bytes) {
    throw RunError(folder.string() + ": " + std::to_string(space.available >> 20) + " MiB are free; a checkpoint of " +
                   std::to_string(size_bytes >> 20) + " MiB needs " + std::to_string(static_cast<int64_t>(needed_bytes) >> 20) + " MiB");
  }
}

StoredPiece without_place(const TensorPiece& piece) {
  StoredPiece stored;
  stored.tensor = piece.tensor;
  stored.dtype = piece.data.scalar_type();
  stored.global_shape = piece.global_shape;
  stored.begin = piece.begin;
  stored.numel = piece.data.numel();
  stored.xxh3 = hex64(xxh3(piece.data.const_data_ptr(), piece.data.nbytes()));
  return stored;
}

/// This rank's file, and what the manifest says about it. A rank that owns nothing writes none.
std::vector<StoredPiece> write_rank_file(const fs::path& folder, int64_t rank, const std::vector<TensorPiece>& pieces) {
  if (pieces.empty()) return {};
  std::vector<StoredPiece> stored_pieces;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const TensorPiece& piece : pieces) {
    stored_pieces.push_back(without_place(piece));
    tensors.emplace_back(stored_pieces.back().name_in_file(), piece.data.flatten());
  }
  const std::string file = rank_file_name(rank);
  const auto entries = write_safetensors(folder / file, tensors);
  for (StoredPiece& stored : stored_pieces) {
    const SafetensorsEntry& entry = entries.at(stored.name_in_file());
    stored.file = file;
    stored.offset = entry.begin;
    stored.length = entry.length;
  }
  return stored_pieces;
}

void write_manifest(const fs::path& folder, int64_t step, const nlohmann::json& state, const std::vector<std::string>& pieces_of_ranks) {
  CheckpointManifest manifest{step, state, {}};
  for (const std::string& text : pieces_of_ranks) {
    const auto pieces = parse_pieces(parse_strict_json(text, kPiecesDepth));
    manifest.pieces.insert(manifest.pieces.end(), pieces.begin(), pieces.end());
  }
  index_tensors(manifest.pieces);
  write_file_durably(folder / kManifestFile, to_text(manifest));
}

/// A folder that has the name already is bad (a good one would have ended the save before). It makes way only now that its successor is on
/// disk.
void commit_folder(const SaveFolders& folders) {
  const fs::path replaced = folders.committed.string() + ".tmp-replaced";
  const bool replaces = fs::exists(folders.committed);
  if (replaces) rename_durably(folders.committed, replaced);
  rename_durably(folders.temporary, folders.committed);
  if (replaces) fs::remove_all(replaced);
}

bool is_good_checkpoint(const fs::path& folder, int64_t step) {
  try {
    const CheckpointReader reader(folder);
    reader.verify();
    return reader.step() == step;
  } catch (const UserError&) {
    return false;
  }
}

/// Rank 0's answers, on all ranks: whether the step is saved already, and a number that no other save has in its temporary folder's name (a
/// killed job's ranks outlive it by seconds and may still be writing into theirs).
struct SaveStart {
  bool is_saved_already = false;
  int64_t nonce = 0;
};

SaveStart start_save(const fs::path& final_folder, int64_t step, Communicator& world) {
  at::Tensor answers = at::zeros({2}, at::kLong);
  succeed_or_fail_together(world, [&] {
    if (world.rank() != 0) return;
    answers[0] = is_good_checkpoint(final_folder, step);
    answers[1] = static_cast<int64_t>(std::random_device{}());
  });
  world.broadcast(answers, /*root=*/0);
  return {answers[0].item<int64_t>() != 0, answers[1].item<int64_t>()};
}

void write_and_commit(const SaveFolders& folders, int64_t step, const std::vector<TensorPiece>& pieces, const nlohmann::json& state,
                      Communicator& world) {
  const bool is_first_rank = world.rank() == 0;
  succeed_or_fail_together(world, [&] { std::ranges::for_each(pieces, check_is_savable); });
  const int64_t size_bytes = total_size_bytes(pieces, world);
  succeed_or_fail_together(world, [&] {
    if (!is_first_rank) return;
    create_folder_durably(folders.checkpoints);
    remove_leftovers(folders.checkpoints);
    check_free_space(folders.checkpoints, size_bytes);
    create_folder_durably(folders.temporary);
  });
  std::vector<StoredPiece> stored;
  succeed_or_fail_together(world, [&] { stored = write_rank_file(folders.temporary, world.rank(), pieces); });
  const auto pieces_of_ranks = gather_texts(world, to_json_text(stored));
  succeed_or_fail_together(world, [&] {
    if (!is_first_rank) return;
    write_manifest(folders.temporary, step, state, pieces_of_ranks);
    commit_folder(folders);
  });
}

void write_or_clean_up(const SaveFolders& folders, int64_t step, const std::vector<TensorPiece>& pieces, const nlohmann::json& state,
                       Communicator& world) {
  try {
    write_and_commit(folders, step, pieces, state, world);
  } catch (const JointFailure& failure) {
    std::error_code ignored;  // the failure itself matters more; the next save removes what is left
    if (world.rank() == 0) fs::remove_all(folders.temporary, ignored);
    world.barrier();
    throw JointFailure("checkpoint of step " + std::to_string(step) + " not saved: " + failure.what());
  }
}

}  // namespace

void save_checkpoint(const fs::path& checkpoints_folder, int64_t step, const std::vector<TensorPiece>& pieces, const nlohmann::json& state,
                     int64_t keep, Communicator& world) {
  TORCH_CHECK(keep >= 2, "save_checkpoint: keep must be at least 2, got ", keep);
  TORCH_CHECK(step >= 0, "save_checkpoint: step must not be negative, got ", step);
  const fs::path final_folder = checkpoints_folder / checkpoint_name(step);
  const SaveStart start = start_save(final_folder, step, world);
  if (!start.is_saved_already) {
    const fs::path temporary = final_folder.string() + ".tmp-" + hex64(static_cast<uint64_t>(start.nonce));
    write_or_clean_up({checkpoints_folder, temporary, final_folder}, step, pieces, state, world);
  }
  succeed_or_fail_together(world, [&] {
    if (world.rank() != 0) return;
    write_file_durably(checkpoints_folder / "latest", checkpoint_name(step) + "\n");
    remove_old_checkpoints(checkpoints_folder, step, keep);
  });
}

}  // namespace switchyard
