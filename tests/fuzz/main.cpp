// The worker of scripts/fuzz_layouts: runs some of the cases of a seed and prints a line of JSON for each.
//   fuzz_layouts --seed=S --first=A --end=B [--step=D] [--processes=P] [--describe=1]
// Cases A, A + D, ... below B whose ranks are P processes (under mpirun -n P), or threads (P = 0). --describe=1 only says what they are.
#include <chrono>
#include <cstdio>
#include <map>
#include <optional>

#include <ATen/Parallel.h>

#include "tests/fuzz/case_report.h"
#include "tests/fuzz/run_case.h"

namespace switchyard {
namespace {

constexpr int64_t kTimeoutSeconds = 60;

using Arguments = std::map<std::string, int64_t>;

std::optional<Arguments> read_arguments(int argc, char** argv) {
  Arguments arguments = {{"seed", 1}, {"first", 0}, {"end", 1}, {"step", 1}, {"processes", 0}, {"describe", 0}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto equals = argument.find('=');
    const auto name = argument.substr(0, 2) == "--" && equals != std::string::npos ? argument.substr(2, equals - 2) : "";
    if (!arguments.contains(name)) {
      std::fprintf(stderr, "%s: unknown argument %s\n", argv[0], argument.c_str());
      return std::nullopt;
    }
    arguments[name] = std::stoll(argument.substr(equals + 1));
  }
  return arguments;
}

void print_line(const std::string& line, const CommunicatorPtr& world) {
  if (world && world->rank() != 0) return;
  std::puts(line.c_str());
  std::fflush(stdout);
}

void describe(const FuzzCase& drawn) {
  std::printf("case %ld: %s\n", static_cast<long>(drawn.index), describe_job(drawn.job).c_str());
  for (const auto& layout : drawn.layouts) std::printf("  %s\n", describe_layout(layout).c_str());
}

/// False when an exception has ended the case.
bool run_one(uint64_t seed, int64_t index, const CommunicatorPtr& world) {
  print_line(start_line(index), world);
  const auto start = std::chrono::steady_clock::now();
  try {
    const auto drawn = draw_case(seed, index);
    const auto findings = CaseRunner(world).run(drawn);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    print_line(result_line(drawn, findings, seconds.count()), world);
    return true;
  } catch (const std::exception& exception) {
    std::puts(exception_line(index, exception.what()).c_str());
    std::fflush(stdout);
    return false;
  }
}

int run(const Arguments& arguments) {
  at::set_num_threads(1);
  const auto seed = static_cast<uint64_t>(arguments.at("seed"));
  const int64_t first = arguments.at("first"), end = arguments.at("end"), step = arguments.at("step");
  if (arguments.at("describe") != 0) {
    for (int64_t index = first; index < end; index += step) describe(draw_case(seed, index));
    return 0;
  }
  const int64_t processes = arguments.at("processes");
  const auto world = processes > 0 ? make_mpi_communicator(kTimeoutSeconds) : nullptr;
  if (world && world->size() != processes) {
    std::fprintf(stderr, "fuzz_layouts: --processes=%ld in a world of %ld\n", static_cast<long>(processes),
                 static_cast<long>(world->size()));
    return 2;
  }
  for (int64_t index = first; index < end; index += step) {
    if (processes_of_case(index) != processes) continue;
    if (!run_one(seed, index, world) && world) world->abort(1);  // the other ranks are somewhere in the middle of the case
  }
  return 0;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  const auto arguments = switchyard::read_arguments(argc, argv);
  return arguments ? switchyard::run(*arguments) : 2;
}
