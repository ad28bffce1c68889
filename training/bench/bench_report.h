// What a benchmark tells: JSON for programs, a table for people.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "training/bench/measurement.h"

namespace switchyard {

struct BenchReport {
  std::string benchmark;
  std::vector<std::pair<std::string, std::string>> settings;  ///< what was measured: key, value
  std::vector<BenchRow> rows = {};
  std::map<std::string, double> phase_seconds = {};  ///< of a training step: median by phase
  std::vector<std::string> notes = {};               ///< sentences for people
};

/// How the job stands on the machine.
struct BenchPlace {
  int64_t ranks = 1;
  int64_t threads = 1;
  std::string processor;
  std::string libtorch;
};
BenchPlace bench_place(const Communicator& world, at::Device device);

/// One line: benchmark, ranks, threads, processor, libtorch, settings, rows [{name, milliseconds {min, median}, and as far as they apply
/// ratio_to_limit, balanced_ratio, imbalance, tokens_per_second, gflops, gigabytes_per_second}], phase_milliseconds, peak_rss_bytes (of
/// this rank).
std::string to_json(const BenchReport& report, const BenchPlace& place);
std::string to_table(const BenchReport& report, const BenchPlace& place);

}  // namespace switchyard
