#include "training/exit_code.h"

#include <chrono>
#include <iostream>
#include <thread>

#include <fmt/format.h>

#include "core/error.h"
#include "parallel/watchdog.h"

namespace switchyard {
namespace {

constexpr int kRunFailed = 1;
constexpr int kUserError = 2;

int report(Progress& progress, const std::string& line, int exit_code) {
  const BoundedCall call(&progress, kAbortLimit, "the end of the job (MPI_Abort)");
  std::cerr << line << std::endl;
  abort_job(exit_code);
  return exit_code;
}

/// What every rank found alike, rank 0 reports, and the launcher then ends the job. A rank that is still there after some seconds is the
/// only one with this fault (a file that its machine lacks), and says so itself.
int report_alike(const LaunchInfo& launch, Progress& progress, const std::string& message, int exit_code) {
  if (launch.rank != 0) std::this_thread::sleep_for(std::chrono::seconds(3));
  return report(progress, "switchyard: " + message, exit_code);
}

std::string signed_by(const LaunchInfo& launch, const std::string& message) {
  return fmt::format("[rank {}/{}] {}", launch.rank, launch.world_size, message);
}

int report_alone(const LaunchInfo& launch, Progress& progress, const std::string& message) {
  return report(progress, signed_by(launch, at_position(progress.position(), message)), kRunFailed);
}

}  // namespace

int run_to_exit_code(const std::function<int(const LaunchInfo&, Progress&)>& command) {
  LaunchInfo launch;
  Progress progress;
  const Watchdog watchdog(progress, [&launch](const std::string& message) { end_process(signed_by(launch, message)); });
  try {
    launch = read_launch_info();
    return command(launch, progress);
  } catch (const UserError& error) {
    return report_alike(launch, progress, error.what(), kUserError);
  } catch (const AgreedError& error) {
    return report_alike(launch, progress, error.what(), kRunFailed);
  } catch (const c10::Error& error) {
    return report_alone(launch, progress, error.what_without_backtrace());
  } catch (const std::exception& error) {
    return report_alone(launch, progress, error.what());
  }
}

}  // namespace switchyard
