// GoogleTest over MPI: every rank runs every test; rank 0 prints, the others only what fails; the worst rank decides the exit code.
// --expect-ranks=N: a world of another size is a failure, not a skipped test.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/mpi/world.h"

namespace switchyard {
namespace {

constexpr int64_t kTimeoutSeconds = 60;

CommunicatorPtr world;

/// For ranks other than 0: failures only, with the rank.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int64_t rank) : rank_(rank) {}

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::fprintf(stderr, "[rank %ld] %s.%s\n%s:%d\n%s\n", static_cast<long>(rank_), test ? test->test_suite_name() : "",
                 test ? test->name() : "", result.file_name() ? result.file_name() : "", result.line_number(), result.message());
  }

 private:
  int64_t rank_;
};

std::optional<int64_t> read_expected_ranks(int argc, char** argv) {
  const std::string prefix = "--expect-ranks=";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(prefix, 0) == 0) return std::stoll(argument.substr(prefix.size()));
  }
  return std::nullopt;
}

int run(int argc, char** argv) {
  const auto expected_ranks = read_expected_ranks(argc, argv);
  if (!expected_ranks || *expected_ranks != world->size()) {
    if (world->rank() == 0)
      std::fprintf(stderr, "test_mpi: --expect-ranks must be given and equal the world's size, %ld\n", static_cast<long>(world->size()));
    return 1;
  }
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (world->rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(world->rank()));
  }
  auto exit_code = at::full({1}, RUN_ALL_TESTS(), at::kLong);
  world->all_reduce_max(exit_code);
  return static_cast<int>(exit_code.item<int64_t>());
}

}  // namespace

CommunicatorPtr test_world() {
  return world;
}

}  // namespace switchyard

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  switchyard::world = switchyard::make_mpi_communicator(switchyard::kTimeoutSeconds);
  const int exit_code = switchyard::run(argc, argv);
  switchyard::world.reset();
  return exit_code;
}
