#!/usr/bin/env bash
# Prints how many CPUs this process may use: its affinity, cut by the quota of its control group (docker run --cpus), which nproc does not see.
set -euo pipefail

cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)  # it counts OpenMP threads where these are set
if [[ -r /sys/fs/cgroup/cpu.max ]] && read -r quota period </sys/fs/cgroup/cpu.max && [[ $quota != max ]]; then
  quota=$(((quota + period - 1) / period))
  ((quota >= cpus)) || cpus=$quota
fi
echo "$cpus"
