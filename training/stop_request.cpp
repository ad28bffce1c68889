#include "training/stop_request.h"

#include <csignal>

namespace switchyard {
namespace {

// A signal handler can reach nothing but a global of this type.
volatile std::sig_atomic_t stop_signal = 0;

extern "C" void remember_signal(int number) {
  stop_signal = number;
  if (number != SIGUSR1) std::signal(number, SIG_DFL);
}

}  // namespace

void watch_stop_signals() {
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) std::signal(number, remember_signal);
}

bool stop_requested() {
  return stop_signal != 0;
}

}  // namespace switchyard
