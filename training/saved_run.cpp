#include "training/saved_run.h"

#include <iostream>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/numerics.h"
#include "training/run_folder.h"

namespace switchyard {
namespace {

struct Place {
  std::filesystem::path run_folder;
  std::filesystem::path checkpoint;
};

Place find_place(const std::filesystem::path& given) {
  const auto path = std::filesystem::absolute(given).lexically_normal();
  if (std::filesystem::exists(path / "manifest.json")) {
    const auto folder = path.has_filename() ? path : path.parent_path();
    return {folder.parent_path().parent_path(), folder};
  }
  const RunFolder run(path);
  if (!std::filesystem::exists(run.config_file())) {
    throw UserError(given.string() + ": neither a run folder (config.yaml) nor a checkpoint folder (manifest.json)");
  }
  const auto newest = find_newest_checkpoint(run.checkpoints(), [](const std::string& line) { std::cerr << "warning: " << line << "\n"; });
  if (!newest) throw UserError(run.checkpoints().string() + ": holds no complete checkpoint; train first, or set checkpoint.every");
  return {path, *newest};
}

}  // namespace

SavedRun open_saved_run(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  const auto place = find_place(path);
  const CheckpointReader checkpoint(place.checkpoint);
  SavedRun run{.config = load_config_of_run(RunFolder(place.run_folder), overrides),
               .checkpoint = place.checkpoint,
               .step = checkpoint.step(),
               .precision = checkpoint.state().at("precision").get<std::string>()};
  return run;
}

ModelInstance load_model(const SavedRun& run, const ProcessMesh& mesh, int64_t local_rank) {
  auto precision = run.config.training.precision;
  if (precision == Precision::kAuto) precision = precision_from_string(run.precision);
  const auto device = resolve_device(run.config.training.device, local_rank);
  auto model = build_model(run.config.model, run.config.parallel, mesh, at::dtype(run_dtype(precision)).device(device), /*seed=*/0,
                           /*with_optimizer_state=*/false);
  load_checkpoint(model, CheckpointReader(run.checkpoint));
  return model;
}

}  // namespace switchyard
