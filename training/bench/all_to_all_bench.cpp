#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/error.h"
#include "parallel/bare_all_to_all.h"
#include "training/bench/benches.h"

namespace switchyard {
namespace {

constexpr int64_t kRowBytes = 1024;
constexpr int64_t kSmallest = int64_t{1} << 12, kLargest = int64_t{1} << 26;

std::string size_text(int64_t bytes) {
  return bytes < (1 << 20) ? fmt::format("{} KiB", bytes >> 10) : fmt::format("{} MiB", bytes >> 20);
}

/// Three ways for `bytes` from every rank to every rank.
void append_items(std::vector<BenchItem>& items, int64_t bytes, const BenchInputs& inputs) {
  const int64_t ranks = inputs.world->size(), rows = bytes / kRowBytes;
  const auto send = at::zeros({ranks * rows, kRowBytes}, at::dtype(at::kByte).device(inputs.device));
  auto receive = at::zeros_like(send);
  const std::vector<int64_t> rows_S(ranks, rows);
  const auto size = size_text(bytes);
  const double moved = static_cast<double>(ranks) * static_cast<double>(send.nbytes());
  // Short ones many times over: a clock does not tell one from another.
  const int64_t times = std::max<int64_t>(1, (int64_t{1} << 22) / bytes);
  const auto repeated = [times](std::function<void()> once) {
    return [times, once = std::move(once)] {
      for (int64_t i = 0; i < times; ++i) once();
    };
  };
  const double all = moved * static_cast<double>(times);
  items.push_back({.name = "memcpy " + size, .run = repeated([=]() mutable { receive.copy_(send); }), .bytes = all});
  const bool has_bare = inputs.device.is_cpu();
  if (has_bare) {
    items.push_back(
        {.name = "MPI_Alltoallv " + size, .run = repeated([=]() mutable { bare_mpi_all_to_all(send, receive); }), .bytes = all});
  }
  items.push_back({.name = "all_to_all " + size,
                   .run = repeated([=, world = inputs.world]() mutable { world->all_to_all(send, rows_S, receive, rows_S)->wait(); }),
                   .bytes = all,
                   .limit = (has_bare ? "MPI_Alltoallv " : "memcpy ") + size});
}

}  // namespace

BenchReport bench_all_to_all(const BenchInputs& inputs) {
  if (inputs.world->size() == 1) throw UserError("bench all_to_all: one rank has nobody to exchange with; start it with mpirun -n 2");
  std::vector<BenchItem> items;
  for (int64_t bytes = kSmallest; bytes <= kLargest; bytes *= 4) append_items(items, bytes, inputs);
  BenchReport report{.benchmark = "all_to_all", .settings = {{"message", "bytes from each rank to each rank, its own part too"}}};
  report.rows = measure(items, inputs.repetitions, *inputs.world, inputs.device);
  return report;
}

}  // namespace switchyard
