// SIGUSR1, SIGTERM and SIGINT ask a run to save and stop; the trainer looks between steps.
#pragma once

namespace switchyard {

/// Installs the handlers. A second SIGTERM or SIGINT ends the process at once, as without handlers.
void watch_stop_signals();

/// True once a signal has come.
bool stop_requested();

}  // namespace switchyard
