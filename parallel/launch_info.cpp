// The only file that reads the launchers' environment variables.
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "parallel/communicator.h"

namespace switchyard {
namespace {

std::optional<int64_t> read_number(const char* name) {
  const char* text = std::getenv(name);
  if (!text) return std::nullopt;
  const std::string_view view(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < 0) {
    throw UserError(std::string("environment: ") + name + " = " + text + " is not a number; start through mpirun or srun, or unset it");
  }
  return value;
}

/// The names under which one launcher says the four numbers.
struct LauncherVariables {
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_size;
};

/// mpirun comes first: inside a Slurm allocation it leaves Slurm's variables, which then speak of its own daemons.
constexpr LauncherVariables kOpenMpi{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                                     "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr LauncherVariables kHydra{"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};

std::optional<LaunchInfo> read(const LauncherVariables& names) {
  const auto rank = read_number(names.rank);
  const auto world_size = read_number(names.world_size);
  if (!rank || !world_size) return std::nullopt;
  return LaunchInfo{*rank, *world_size, read_number(names.local_rank).value_or(0), read_number(names.local_size).value_or(1)};
}

/// Entry `node` of Slurm's list of tasks a node: "2(x3),1" = 2 2 2 1.
int64_t tasks_on_node(std::string_view list, int64_t node) {
  while (!list.empty()) {
    const auto entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), entry.size() + 1));
    int64_t tasks = 0, repeats = 1;
    const auto rest = std::from_chars(entry.data(), entry.data() + entry.size(), tasks).ptr;
    const auto repeat = entry.find("(x");
    if (repeat != entry.npos) std::from_chars(entry.data() + repeat + 2, entry.data() + entry.size(), repeats);
    if (rest == entry.data()) break;
    if (node < repeats) return tasks;
    node -= repeats;
  }
  throw UserError("environment: SLURM_STEP_TASKS_PER_NODE does not say how many tasks node " + std::to_string(node) + " has");
}

/// Only srun sets the size of the step; a batch script has SLURM_PROCID too, and is not a rank.
std::optional<LaunchInfo> read_slurm() {
  const auto rank = read_number("SLURM_PROCID");
  const auto world_size = read_number("SLURM_STEP_NUM_TASKS");
  const char* tasks = std::getenv("SLURM_STEP_TASKS_PER_NODE");
  if (!rank || !world_size || !tasks) return std::nullopt;
  return LaunchInfo{*rank, *world_size, read_number("SLURM_LOCALID").value_or(0),
                    tasks_on_node(tasks, read_number("SLURM_NODEID").value_or(0))};
}

}  // namespace

LaunchInfo read_launch_info() {
  if (const auto info = read(kOpenMpi)) return *info;
  if (const auto info = read(kHydra)) return *info;
  if (const auto info = read_slurm()) return *info;
  return {};
}

}  // namespace switchyard
