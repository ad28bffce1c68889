#!/usr/bin/env bash
# The tests of one process and of ranks as threads, under AddressSanitizer and UndefinedBehaviorSanitizer. Arguments go to ctest.
# The mpirun tests stay out: Open MPI's own libraries are full of findings that are not ours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/build.sh asan
# Leaks are not looked for: LibTorch and Open MPI keep memory on purpose until the process ends.
export ASAN_OPTIONS=detect_leaks=0:strict_string_checks=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
exec ctest --preset asan --parallel 2 "$@"
