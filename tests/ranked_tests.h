// GoogleTest over ranks that are processes: every rank runs every test; rank 0 prints, the others only what fails; the worst rank decides
// the exit code. --expect-ranks=N: a world of another size is a failure, not a skipped test.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/communicator.h"

namespace switchyard {

/// For ranks other than 0: failures only, with the rank.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int64_t rank) : rank_(rank) {}

  void OnTestStart(const testing::TestInfo& test) override { test_ = std::string(test.test_suite_name()) + "." + test.name(); }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "[rank %ld] %s\n%s:%d\n%s\n", static_cast<long>(rank_), test_.c_str(),
                 result.file_name() ? result.file_name() : "", result.line_number(), result.message());
  }

 private:
  int64_t rank_;
  std::string test_;  ///< kept, because asking GoogleTest for it in here would wait for a lock that it holds
};

/// The number behind `prefix` among the arguments.
inline std::optional<int64_t> read_number(int argc, char** argv, const std::string& prefix) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(prefix, 0) == 0) return std::stoll(argument.substr(prefix.size()));
  }
  return std::nullopt;
}

/// Runs all tests; returns the exit code, the same on every rank. Collective.
inline int run_ranked_tests(Communicator& world, int argc, char** argv) {
  const auto expected_ranks = read_number(argc, argv, "--expect-ranks=");
  if (!expected_ranks || *expected_ranks != world.size()) {
    if (world.rank() == 0)
      std::fprintf(stderr, "%s: --expect-ranks must be given and equal the world's size, %ld\n", argv[0], static_cast<long>(world.size()));
    return 1;
  }
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (world.rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(world.rank()));
  }
  auto exit_code = at::full({1}, RUN_ALL_TESTS(), at::kLong);
  world.all_reduce_max(exit_code);
  return static_cast<int>(exit_code.item<int64_t>());
}

}  // namespace switchyard
