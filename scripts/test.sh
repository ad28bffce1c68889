#!/usr/bin/env bash
# Everything that must hold before a change lands: set-up, style, build, and all three rings of tests (one process, ranks as threads, mpirun
# with 2 and 4 ranks). Arguments go to ctest: scripts/test.sh -R Capacity
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
scripts/check_style.sh
scripts/build.sh release
# Two at a time: more would share the cores with the mpirun tests, whose ranks wait for one another.
exec ctest --preset release --parallel 2 "$@"
