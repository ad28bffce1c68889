// Checkpoints that belong to the model: global names and global ranges, so that any layout writes them and any layout reads them.
// A folder step-N that exists is complete: files are written into a temporary folder, synced, the manifest last, then the folder is
// renamed.
//
//   checkpoints/step-100/manifest.json            pieces (tensor, flat range, file, offset, length, checksum), step, state
//                        rank-00000.safetensors   the pieces that rank 0 wrote
//   checkpoints/latest                            "step-100", a hint
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include "parallel/communicator.h"

namespace switchyard {

/// A contiguous flat range of a global tensor. One expert of a stacked weight is one piece.
struct TensorPiece {
  std::string tensor;                 ///< "model.layers.0.moe.experts.gate_up", "exp_avg.embedding"
  std::vector<int64_t> global_shape;  ///< of the whole tensor
  int64_t begin = 0;                  ///< first element of the range in the flattened global tensor
  at::Tensor data;                    ///< contiguous CPU tensor; the range has data.numel() elements
};

/// Saves `pieces` (each rank those that it owns; together they cover every tensor once) as `checkpoints_folder`/step-N.
/// Then removes what dead saves have left and, of the checkpoints up to N that can be opened, all but the newest `keep` (at least 2).
/// A step-N that exists and whose checksums hold is left as it is: the step is saved. A bad one is replaced when its successor is on disk.
/// state: what is not a tensor (the same on every rank; rank 0's is written). world: exchanges CPU tensors.
/// Collective: every rank of the group must call this, in the same order.
/// Errors: JointFailure on every rank when any rank fails (a number that is not finite, a full disk, pieces that overlap); then the
/// temporary folder is gone and earlier checkpoints are untouched.
void save_checkpoint(const std::filesystem::path& checkpoints_folder, int64_t step, const std::vector<TensorPiece>& pieces,
                     const nlohmann::json& state, int64_t keep, Communicator& world);

/// One committed checkpoint, opened for reading. Not collective: each rank reads what it needs.
class CheckpointReader {
 public:
  /// Reads and checks the manifest. Errors: UserError (folder missing, incomplete, manifest malformed, pieces that do not cover a tensor).
  explicit CheckpointReader(const std::filesystem::path& folder);
  ~CheckpointReader();

  int64_t step() const;
  const nlohmann::json& state() const;
  /// Global shape by tensor name.
  const std::map<std::string, std::vector<int64_t>>& tensors() const;
  /// Fills `destination` (contiguous, CPU, the stored dtype) with elements [begin, begin + destination.numel()) of `tensor`, whatever the
  /// pieces are. Errors: UserError when the shape is not `global_shape`, the dtype differs, or a piece fails its checksum (named with file
  /// and offset).
  void read(const std::string& tensor, const std::vector<int64_t>& global_shape, int64_t begin, at::Tensor destination) const;
  /// Checks the checksum of every piece.
  void verify() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The newest step-N whose manifest and checksums hold. Bad ones are named through `warn` and passed over; a name with "tmp" in it is no
/// checkpoint. None: nullopt. Looks at one rank's view only: call it on rank 0 and share the answer.
std::optional<std::filesystem::path> find_newest_checkpoint(const std::filesystem::path& checkpoints_folder,
                                                            const std::function<void(const std::string&)>& warn);

/// Held while a job writes a run folder; released when the process ends, however it ends. Waits up to 10 s for the last job's ranks to be
/// gone. Errors: UserError when another job still holds it.
class RunFolderLock {
 public:
  explicit RunFolderLock(const std::filesystem::path& run_folder, double wait_seconds = 10.0);
  ~RunFolderLock();
  RunFolderLock(const RunFolderLock&) = delete;
  RunFolderLock& operator=(const RunFolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace switchyard
