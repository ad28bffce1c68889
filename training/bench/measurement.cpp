#include "training/bench/measurement.h"

#include <algorithm>
#include <chrono>

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace switchyard {
namespace {

void wait_for_device(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

/// Seconds of the slowest rank.
double time_run(const BenchItem& item, Communicator& world, at::Device device) {
  using Clock = std::chrono::steady_clock;
  if (item.prepare) item.prepare();
  wait_for_device(device);
  world.barrier();
  const auto begin = Clock::now();
  item.run();
  wait_for_device(device);
  auto seconds = at::full({1}, std::chrono::duration<double>(Clock::now() - begin).count(), at::kDouble);
  world.all_reduce_max(seconds);
  return seconds.item<double>();
}

const BenchRow& row_named(const std::string& name, const std::vector<BenchRow>& rows) {
  const auto row = std::ranges::find_if(rows, [&](const BenchRow& candidate) { return candidate.item.name == name; });
  TORCH_CHECK(row != rows.end(), "bench: no item is called ", name);
  return *row;
}

/// What one run of the row does of what both count.
double common_work(const BenchItem& item, const BenchItem& other) {
  if (item.flops > 0.0 && other.flops > 0.0) return item.flops;
  if (item.bytes > 0.0 && other.bytes > 0.0) return item.bytes;
  return item.tokens > 0.0 && other.tokens > 0.0 ? item.tokens : 1.0;
}

std::optional<double> ratio(const BenchRow& row, const std::vector<BenchRow>& rows, const std::vector<double>& factors) {
  if (row.item.limit.empty()) return std::nullopt;
  const auto& limit = row_named(row.item.limit, rows);
  const double work = common_work(row.item, limit.item) / common_work(limit.item, row.item);
  std::vector<double> ratios;
  for (size_t i = 0; i < row.seconds.size(); ++i) {
    ratios.push_back(work * limit.seconds[i] / row.seconds[i] * (factors.empty() ? 1.0 : factors[i]));
  }
  return median(ratios);
}

}  // namespace

double median(std::vector<double> values) {
  TORCH_CHECK(!values.empty(), "median of nothing");
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

double BenchRow::min_seconds() const {
  return std::ranges::min(seconds);
}

double BenchRow::median_seconds() const {
  return median(seconds);
}

std::vector<BenchRow> measure(const std::vector<BenchItem>& items, const Repetitions& repetitions, Communicator& world, at::Device device) {
  std::vector<BenchRow> rows;
  for (const auto& item : items) {
    for (int64_t run = 0; run < repetitions.warmup; ++run) time_run(item, world, device);
    rows.push_back({item, {}, {}});
  }
  for (int64_t run = 0; run < repetitions.timed; ++run) {
    for (auto& row : rows) {
      row.seconds.push_back(time_run(row.item, world, device));
      if (row.item.imbalance) row.imbalance.push_back(row.item.imbalance());
    }
  }
  return rows;
}

std::optional<double> ratio_to_limit(const BenchRow& row, const std::vector<BenchRow>& rows) {
  return ratio(row, rows, {});
}

std::optional<double> balanced_ratio(const BenchRow& row, const std::vector<BenchRow>& rows) {
  if (row.imbalance.empty()) return std::nullopt;
  return ratio(row, rows, row.imbalance);
}

}  // namespace switchyard
