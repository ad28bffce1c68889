#include "training/bench/bench_report.h"

#include <fstream>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/version.h>
#include <nlohmann/json.hpp>

#include "training/process_memory.h"

namespace switchyard {
namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line, name, instructions;
  while (std::getline(file, line) && (name.empty() || instructions.empty())) {
    if (line.starts_with("model name")) name = line.substr(line.find(':') + 2);
    if (!line.starts_with("flags")) continue;
    for (const char* flag : {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}) {
      if (line.find(std::string(" ") + flag) != std::string::npos) instructions += std::string(" ") + flag;
    }
  }
  return name + " (" + (instructions.empty() ? "no avx2" : instructions.substr(1)) + ")";
}

std::string rate_text(const BenchRow& row) {
  const double seconds = row.median_seconds();
  std::string text;
  const auto add = [&](double work, double unit, const char* name) {
    if (work > 0.0) text += fmt::format("{}{:.4g} {}", text.empty() ? "" : ", ", work / seconds / unit, name);
  };
  add(row.item.tokens, 1.0, "tokens/s");
  add(row.item.flops, 1e9, "GFLOP/s");
  add(row.item.bytes, 1e9, "GB/s");
  return text;
}

nlohmann::json row_json(const BenchRow& row, const std::vector<BenchRow>& rows) {
  const double seconds = row.median_seconds();
  nlohmann::json json = {{"name", row.item.name}, {"milliseconds", {{"min", 1e3 * row.min_seconds()}, {"median", 1e3 * seconds}}}};
  if (row.item.flops > 0.0) json["gflops"] = row.item.flops / seconds / 1e9;
  if (row.item.tokens > 0.0) json["tokens_per_second"] = row.item.tokens / seconds;
  if (row.item.bytes > 0.0) json["gigabytes_per_second"] = row.item.bytes / seconds / 1e9;
  if (const auto ratio = ratio_to_limit(row, rows)) json["ratio_to_limit"] = *ratio, json["limit"] = row.item.limit;
  if (const auto ratio = balanced_ratio(row, rows)) json["balanced_ratio"] = *ratio, json["imbalance"] = median(row.imbalance);
  return json;
}

std::string row_line(const BenchRow& row, const std::vector<BenchRow>& rows) {
  const auto ratio = ratio_to_limit(row, rows), balanced = balanced_ratio(row, rows);
  return fmt::format("{:<24} {:>9.2f} {:>9.2f}  {:>6} {:>9}  {}\n", row.item.name, 1e3 * row.min_seconds(), 1e3 * row.median_seconds(),
                     ratio ? fmt::format("{:.3f}", *ratio) : "", balanced ? fmt::format("{:.3f}", *balanced) : "", rate_text(row));
}

}  // namespace

BenchPlace bench_place(const Communicator& world, at::Device device) {
  return {.ranks = world.size(),
          .threads = at::get_num_threads(),
          .processor = processor_name() + (device.is_cpu() ? "" : ", " + device.str()),
          .libtorch = TORCH_VERSION};
}

std::string to_json(const BenchReport& report, const BenchPlace& place) {
  nlohmann::json json = {{"benchmark", report.benchmark},   {"ranks", place.ranks},
                         {"threads", place.threads},        {"processor", place.processor},
                         {"libtorch", place.libtorch},      {"settings", nlohmann::json::object()},
                         {"rows", nlohmann::json::array()}, {"peak_rss_bytes", peak_resident_bytes()}};
  for (const auto& [key, value] : report.settings) json["settings"][key] = value;
  for (const auto& row : report.rows) json["rows"].push_back(row_json(row, report.rows));
  for (const auto& [phase, seconds] : report.phase_seconds) json["phase_milliseconds"][phase] = 1e3 * seconds;
  return json.dump();
}

std::string to_table(const BenchReport& report, const BenchPlace& place) {
  std::string text = fmt::format("{}: {} rank(s) x {} thread(s), {}, LibTorch {}\n", report.benchmark, place.ranks, place.threads,
                                 place.processor, place.libtorch);
  for (const auto& [key, value] : report.settings) text += fmt::format("  {} = {}\n", key, value);
  text += fmt::format("{:<24} {:>9} {:>9}  {:>6} {:>9}\n", "", "min ms", "median ms", "ratio", "balanced");
  for (const auto& row : report.rows) text += row_line(row, report.rows);
  for (const auto& [phase, seconds] : report.phase_seconds) text += fmt::format("  {:<30} {:>9.2f} ms\n", phase, 1e3 * seconds);
  for (const auto& note : report.notes) text += note + "\n";
  return text + fmt::format("peak memory: {:.0f} MiB a rank\n", peak_resident_bytes() / 1048576.0);
}

}  // namespace switchyard
