#!/usr/bin/env bash
# Sets up, configures and builds one preset, or some of its targets: scripts/build.sh [release | debug | asan | cuda] [TARGET ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
shift || true
targets=("$@")
setup_options=()
[[ $preset != cuda ]] || setup_options=(--cuda)
scripts/setup.sh "${setup_options[@]}"

# A source file that includes LibTorch takes up to 2 GB of memory.
jobs=$(scripts/usable_cpus.sh)
memory_jobs=$(($(awk '$1 == "MemAvailable:" {print $2}' /proc/meminfo) / (2 * 1024 * 1024)))
((jobs <= memory_jobs)) || jobs=$((memory_jobs > 0 ? memory_jobs : 1))

start=$SECONDS
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "$jobs" ${targets[0]:+--target "${targets[@]}"}
echo "build: preset $preset built in $((SECONDS - start)) s with $jobs jobs"
