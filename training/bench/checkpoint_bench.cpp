#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "training/bench/benches.h"
#include "training/checkpoint.h"
#include "training/model_instance.h"

namespace switchyard {
namespace {

/// This rank's file, `size` bytes of `content`, written and synced.
void write_bare(const std::filesystem::path& path, const std::vector<char>& content) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0) throw RunError("bench checkpoint: " + path.string() + " cannot be created");
  size_t written = 0;
  while (written < content.size()) {
    const auto more = ::write(file, content.data() + written, content.size() - written);
    if (more <= 0) break;
    written += static_cast<size_t>(more);
  }
  const bool is_good = written == content.size() && ::fsync(file) == 0;
  ::close(file);
  if (!is_good) throw RunError("bench checkpoint: " + path.string() + " cannot be written; is the disk full?");
}

double size_of(const std::vector<TensorPiece>& pieces) {
  double bytes = 0.0;
  for (const auto& piece : pieces) bytes += static_cast<double>(piece.data.nbytes());
  return bytes;
}

/// Removed at the end, whatever happens.
class BenchFolder {
 public:
  BenchFolder(std::filesystem::path path, Communicator& world) : path_(std::move(path)), leads_(world.rank() == 0) {
    if (leads_) std::filesystem::create_directories(path_);
    world.barrier();
  }
  BenchFolder(const BenchFolder&) = delete;
  BenchFolder& operator=(const BenchFolder&) = delete;
  ~BenchFolder() {
    std::error_code ignored;
    if (leads_) std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  bool leads_;
};

}  // namespace

BenchReport bench_checkpoint(const BenchInputs& inputs) {
  const auto& config = inputs.config;
  const ProcessMesh mesh(inputs.world, config.parallel.expert, config.parallel.rank_order);
  auto model = build_model(config.model, config.parallel, mesh, at::dtype(inputs.dtype).device(inputs.device), /*seed=*/1,
                           /*with_optimizer_state=*/true);
  const auto mine = size_of(checkpoint_pieces(model, mesh));
  auto all = at::full({1}, mine, at::kDouble);
  inputs.world->all_reduce_sum(all)->wait();
  const double bytes = all.item<double>();
  const std::vector<char> content(static_cast<size_t>(mine), 'x');
  const BenchFolder folder(std::filesystem::path(inputs.folder) / "bench-checkpoint", *inputs.world);
  const auto bare_file = folder.path() / fmt::format("bare-{}", inputs.world->rank());
  int64_t step = 0;
  BenchReport report{.benchmark = "checkpoint", .settings = model_settings(inputs)};
  report.settings.emplace_back("bytes", fmt::format("{:.0f}", bytes));
  report.settings.emplace_back("folder", folder.path().string());
  report.rows = measure({{.name = "write and fsync", .run = [&] { write_bare(bare_file, content); }, .bytes = bytes},
                         {.name = "save_checkpoint",
                          .run =
                              [&] {
                                save_checkpoint(folder.path() / "checkpoints", ++step, checkpoint_pieces(model, mesh), nlohmann::json(),
                                                /*keep=*/2, *inputs.world);
                              },
                          .bytes = bytes,
                          .limit = "write and fsync"}},
                        inputs.repetitions, *inputs.world, inputs.device);
  inputs.world->barrier();
  return report;
}

}  // namespace switchyard
