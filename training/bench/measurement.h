// What is measured against what: items that take turns, so that a busy machine slows all of them alike, and the rows that come of it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace switchyard {

/// One thing that is timed. Work is of one run and of all ranks together; 0 = does not apply.
struct BenchItem {
  std::string name;
  std::function<void()> run;
  std::function<void()> prepare = {};  ///< before each run, not timed: other tokens
  double flops = 0.0;                  ///< useful ones: no padding
  double bytes = 0.0;
  double tokens = 0.0;
  std::string limit = {};                  ///< the item that it is compared with; empty = with none
  std::function<double()> imbalance = {};  ///< after a run: the fullest rank's rows over the mean rank's
};

/// What came of one item.
struct BenchRow {
  BenchItem item;
  std::vector<double> seconds;    ///< by repetition, of the slowest rank
  std::vector<double> imbalance;  ///< by repetition; empty where the item has none

  double min_seconds() const;
  double median_seconds() const;
};

double median(std::vector<double> values);

/// Runs of each item.
struct Repetitions {
  int64_t warmup = 1;  ///< not timed: the matrix products' library compiles a kernel for each number of rows that it has not seen yet
  int64_t timed = 1;
};

/// Warms every item up, then times all in turn. The ranks start each run together. Collective.
std::vector<BenchRow> measure(const std::vector<BenchItem>& items, const Repetitions& repetitions, Communicator& world, at::Device device);

/// The speed of `row` over that of its limit, by flops, bytes or tokens (the first that both have): the median over repetitions, each
/// against the limit's run of the same turn. None without a limit.
std::optional<double> ratio_to_limit(const BenchRow& row, const std::vector<BenchRow>& rows);
/// The same as if every rank had the mean rank's rows. None where the item has no imbalance.
std::optional<double> balanced_ratio(const BenchRow& row, const std::vector<BenchRow>& rows);

}  // namespace switchyard
