#!/usr/bin/env bash
# Lets a rank of a small training run die or hang, fault by fault and phase by phase, and sees whether the whole job ends in time, with an
# exit code other than 0, a message that says where, and no process left behind. Exits 1 on any miss.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/test_failures.sh [--quick] [--jobs N] [--runner FILE] [--markdown FILE]

  --quick          9 of the 135 trials: each phase once, each fault and each rank at least once
  --jobs N         trials at the same time (default 2)
  --runner FILE    the program that meets the faults (default build/release/tests/fault_runner)
  --markdown FILE  put the table into FILE too, in place of the one at its end
TEXT
}

if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi  # mpirun refuses root otherwise

readonly NUM_RANKS=3
readonly FAULTS=(kill exception exit stop skip)
readonly PHASES=(init data dispatch experts combine backward "gradient sync" optimizer checkpoint)
readonly TIMEOUT_SECONDS=3     # parallel.timeout_seconds of the runs
readonly DEATH_LIMIT=10        # seconds from the fault to the last process's end
readonly HANG_LIMIT=$((TIMEOUT_SECONDS + 5))
readonly START_LIMIT=120       # seconds until the fault strikes, on a busy machine

quick=0 jobs=2 runner=build/release/tests/fault_runner markdown=""
while (($#)); do
  case $1 in
    --quick) quick=1 ;;
    --jobs) jobs=$2 && shift ;;
    --runner) runner=$2 && shift ;;
    --markdown) markdown=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) echo "test_failures.sh: unknown option $1; see --help" >&2 && exit 2 ;;
  esac
  shift
done
[[ -x $runner ]] || { echo "test_failures.sh: no program $runner; build the target fault_runner" >&2 && exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/switchyard-faults-XXXXXX")
trap 'kill_all_of "$work"; rm -rf "$work"' EXIT

limit_of() { case $1 in stop | skip) echo "$HANG_LIMIT" ;; *) echo "$DEATH_LIMIT" ;; esac; }

# Ids of the processes that have FOLDER on their command line. The brackets keep this search from finding itself.
processes_of() {
  local folder=$1
  grep -lsE -- "${folder%?}[${folder: -1}]" /proc/[0-9]*/cmdline 2>/dev/null | cut -d / -f 3 || true
}

kill_all_of() {
  local id
  for id in $(processes_of "$1"); do kill -KILL "$id" 2>/dev/null || true; done
}

# What must be in the output. Of a rank that is killed or exits, only the launcher can tell.
expected_message() {
  local fault=$1 phase=$2 rank=$3 step="step 2, (layer [0-9]+, )?"
  [[ $phase != init ]] || step=""
  case $fault in
    kill) echo "process rank $rank with .* exited on signal 9" ;;
    exception) echo "^\[rank $rank/$NUM_RANKS\] $step$phase: a fault made for this test" ;;
    exit) echo "exited with non-zero status" ;;
    stop) echo "^\[rank [0-9]/$NUM_RANKS\] .*(waited $TIMEOUT_SECONDS s .* for rank|the start of MPI, where all ranks meet, has not returned)" ;;
    skip) echo "^\[rank [0-9]/$NUM_RANKS\] .*(exchanges do not match: .* meets rank|waited $TIMEOUT_SECONDS s )" ;;
  esac
}

# try FAULT PHASE RANK FOLDER: one line "FAULT|PHASE|RANK|SECONDS|ORPHANS|MISS", where MISS says what was wrong and is empty otherwise.
try() {
  local fault=$1 phase=$2 rank=$3 folder=$4 code=0 job limit start struck="" now seconds orphans miss=""
  limit=$(limit_of "$fault")
  mkdir -p "$folder"
  for line in {1..60}; do echo "line $line of the text"; done >"$folder/text.txt"
  # shellcheck disable=SC2024
  mpirun -n $NUM_RANKS --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 \
    "$runner" "$folder" "$fault" "$phase" "$rank" </dev/null >"$folder/output.txt" 2>&1 &
  job=$!
  start=$EPOCHREALTIME
  while :; do
    now=$EPOCHREALTIME
    [[ -n $struck || ! -e $folder/struck ]] || struck=$(stat -c %.3Y "$folder/struck")
    kill -0 "$job" 2>/dev/null || [[ -n $(processes_of "$folder") ]] || break
    if [[ -n $struck ]]; then
      awk "BEGIN {exit !($now - $struck > $limit)}" && break
    else
      awk "BEGIN {exit !($now - $start > $START_LIMIT)}" && break
    fi
    sleep 0.1
  done
  orphans=$(processes_of "$folder" | wc -l)
  kill_all_of "$folder"
  wait "$job" || code=$?
  # The fault may have struck, and all ended, between two looks.
  [[ -n $struck || ! -e $folder/struck ]] || struck=$(stat -c %.3Y "$folder/struck")
  [[ -n $struck ]] || { echo "$fault|$phase|$rank|-|$orphans|the fault did not strike" && return; }
  seconds=$(awk "BEGIN {printf \"%.1f\", $now - $struck}")
  if ((orphans)); then
    miss="not ended after $limit s"
  elif ((code == 0)); then
    miss="exit code 0"
  elif ! grep -qE -- "$(expected_message "$fault" "$phase" "$rank")" "$folder/output.txt"; then
    miss="no message of the form $(expected_message "$fault" "$phase" "$rank")"
  fi
  echo "$fault|$phase|$rank|$seconds|$orphans|$miss"
}

# A busy machine can be so late at the start that the run ends before the fault strikes: that is no trial.
try_until_it_strikes() {
  local number=$1 fault=$2 phase=$3 rank=$4 result="" attempt
  for attempt in 1 2 3; do
    result=$(try "$fault" "$phase" "$rank" "$work/$number-$attempt")
    [[ $result == *"did not strike" ]] || break
  done
  echo "$result" >>"$work/results"
  [[ $result == *"|" ]] && return
  echo "MISS: $result"
  sed 's/^/    /' "$work/$number-$attempt/output.txt" | tail -30
}

# Lines "FAULT|PHASE|RANK".
list_trials() {
  local fault phase rank
  for ((fault = 0; fault < ${#FAULTS[@]}; ++fault)); do
    for ((phase = 0; phase < ${#PHASES[@]}; ++phase)); do
      for ((rank = 0; rank < NUM_RANKS; ++rank)); do
        ((quick && (fault != phase % ${#FAULTS[@]} || rank != phase % NUM_RANKS))) || echo "${FAULTS[fault]}|${PHASES[phase]}|$rank"
      done
    done
  done
}

print_table() {
  echo "| fault | phase | tried | ended in time | limit (s) | longest (s) | orphans |"
  echo "|---|---|---|---|---|---|---|"
  local fault phase
  for fault in "${FAULTS[@]}"; do
    for phase in "${PHASES[@]}"; do
      awk -F '|' -v fault="$fault" -v phase="$phase" -v limit="$(limit_of "$fault")" '
        $1 == fault && $2 == phase {++tried; if ($6 == "") ++held; if ($4 > longest) longest = $4; orphans += $5}
        END {if (tried) printf "| %s | %s | %d | %d | %d | %.1f | %d |\n", fault, phase, tried, held, limit, longest, orphans}' "$work/results"
    done
  done
  awk -F '|' '{++tried; if ($6 == "") ++held; orphans += $5}
    END {printf "| **all** | | **%d** | **%d** | | | **%d** |\n", tried, held, orphans}' "$work/results"
}

main() {
  local number=0 fault phase rank
  while IFS='|' read -r fault phase rank; do
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
    number=$((number + 1))
    try_until_it_strikes "$number" "$fault" "$phase" "$rank" &
  done < <(list_trials)
  wait
  print_table
  if [[ -n $markdown ]]; then
    sed -i '/^| fault |/,$d' "$markdown"
    print_table >>"$markdown"
  fi
  awk -F '|' '$6 != "" {++missed} END {exit missed > 0}' "$work/results"
}

main
