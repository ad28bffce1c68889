#!/usr/bin/env bash
# Starts `switchyard train` on one or several ranks with the settings that Open MPI needs, and prints the exact line it runs.
# INT, TERM, HUP and USR1 mean "save a checkpoint and stop": mpirun forwards only USR1 to the ranks and kills them on the others. A second
# signal stops the job at once.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/train.sh CONFIG [-n RANKS] [--run DIR] [-H HOSTS | --hostfile FILE] [--pin] [--print-only] [key=value ...]

  -n RANKS          ranks (default 1; one rank runs without mpirun)
  --run DIR         run folder (default: runs/NAME-OF-CONFIG)
  -H HOSTS          hosts and their slots, as mpirun takes them: a:2,b:2
  --hostfile FILE   the same in a file, one a line: a slots=2
  --pin             every rank on cores of its own, as many on every host: for machines that nobody else uses (all with the cores of this one)
  --print-only      print the command, run nothing
  key=value         overrides of the configuration: training.steps=500

The binary is build/release/switchyard, or $SWITCHYARD. OMP_NUM_THREADS and OMPI_MCA_* that are already set are kept.

examples:
  scripts/train.sh configs/quickstart.yaml -n 2
  scripts/train.sh configs/quickstart.yaml -n 8 -H node1:4,node2:4 --run /shared/runs/first parallel.expert=4
TEXT
}

refuse() {
  echo "train.sh: $*" >&2
  exit 2
}

parse_arguments() {
  config="" ranks=1 run_folder="" hosts="" hostfile="" pin=0 print_only=0 overrides=()
  while (($#)); do
    case $1 in
      -n | --run | -H | --hostfile) (($# >= 2)) || refuse "$1 needs a value; see scripts/train.sh --help" ;;&
      -n) ranks=$2 && shift ;;
      --run) run_folder=$2 && shift ;;
      -H) hosts=$2 && shift ;;
      --hostfile) hostfile=$2 && shift ;;
      --pin) pin=1 ;;
      --print-only) print_only=1 ;;
      -h | --help) usage && exit 0 ;;
      -*) refuse "unknown option $1; see scripts/train.sh --help" ;;
      *=*) overrides+=("$1") ;;
      *)
        [[ -z $config ]] || refuse "two configurations: $config and $1 (overrides have the form key=value)"
        config=$1
        ;;
    esac
    shift
  done
  [[ -n $config ]] || refuse "no configuration given; see scripts/train.sh --help"
  [[ $ranks =~ ^[1-9][0-9]*$ ]] || refuse "-n $ranks is not a number of ranks"
  [[ -z $hosts || -z $hostfile ]] || refuse "-H and --hostfile exclude one another"
  [[ -z $hostfile || -r $hostfile ]] || refuse "cannot read the host file $hostfile"
}

# --- what this machine offers ---------------------------------------------------------------------------------------------------------

# Open MPI counts cores, not hardware threads, when it decides how many ranks fit.
physical_cores() { lscpu --parse=SOCKET,CORE | grep -v '^#' | sort -u | wc -l; }

is_container() { [[ -e /.dockerenv || -e /run/.containerenv || -n ${KUBERNETES_SERVICE_HOST:-} ]]; }

# Whether one process may read another's memory, which Open MPI's shared memory transport does unasked: container runtimes forbid the
# system call, and then messages fail with "Read -1, expected N, errno = 1". Exit 0: allowed; 1: not; anything else: could not be tried.
# Parent and child have the same addresses after fork, so the parent's pointer is valid in the child.
can_read_other_processes() {
  local number
  case $(uname -m) in
    x86_64) number=310 ;;
    aarch64) number=270 ;;
    *) return 2 ;;
  esac
  perl -e '
    my ($text, $copy) = ("switchyard", "\0" x 10);
    my $child = fork() // exit 2;
    if (!$child) { sleep 10; exit 0; }
    my $read = syscall('"$number"', $child, pack("PQ", $copy, 10), 1, pack("PQ", $text, 10), 1, 0);
    kill "KILL", $child;
    exit($read == 10 && $copy eq $text ? 0 : 1);'
}

num_hosts() {
  if [[ -n $hosts ]]; then
    tr ',' '\n' <<<"$hosts" | cut -d : -f 1 | sort -u | wc -l
  elif [[ -n $hostfile ]]; then
    sed 's/#.*//' "$hostfile" | awk 'NF {print $1}' | sort -u | wc -l
  else
    echo 1
  fi
}

# --- the command ----------------------------------------------------------------------------------------------------------------------

# setting NAME VALUE: for the job's environment; a value that the user has set wins.
setting() { environment+=("$1=${!1:-$2}"); }

choose_mpi_settings() {
  local cpus=$1 local_ranks=$2
  if ((EUID == 0)); then
    setting OMPI_ALLOW_RUN_AS_ROOT 1
    setting OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
  fi
  # A waiting rank that spins keeps its peers from running: a 10 us exchange takes 10 ms. Open MPI yields by itself only when it knows that
  # it is oversubscribed, and it does not know of CPUs that a container or a neighbour takes away.
  if ((local_ranks > cpus)) || is_container; then
    setting OMPI_MCA_mpi_yield_when_idle 1
  fi
  if ! can_read_other_processes 2>/dev/null; then
    setting OMPI_MCA_btl_vader_single_copy_mechanism none
  fi
}

build_mpirun_command() {
  local cpus=$1 local_ranks=$2 threads=$3
  command -v mpirun >/dev/null || refuse "no mpirun on PATH; run scripts/setup.sh"
  [[ $(mpirun --version 2>/dev/null) == *"Open MPI"* ]] || refuse "mpirun on PATH is not Open MPI's, the only launcher this script knows"
  command=(mpirun -n "$ranks" -x OMP_NUM_THREADS)
  if ((pin)); then
    command+=(--map-by "ppr:$local_ranks:node:PE=$threads" --bind-to core)
  else
    # By default Open MPI binds each rank to one core: one thread a rank, and a second job on the machine gets the same cores.
    command+=(--bind-to none)
  fi
  if [[ -n $hosts ]]; then
    command+=(-H "$hosts")
  elif [[ -n $hostfile ]]; then
    command+=(--hostfile "$hostfile")
  elif ((local_ranks > cpus || local_ranks > $(physical_cores))); then
    command+=(--oversubscribe)
  fi
}

build_command() {
  local cpus host_count local_ranks threads
  binary=${SWITCHYARD:-$(dirname "${BASH_SOURCE[0]}")/../build/release/switchyard}
  binary=$(realpath --canonicalize-missing --relative-base=. "$binary")
  [[ $binary == */* ]] || binary=./$binary
  [[ -x $binary ]] || ((print_only)) || refuse "no binary at $binary; build it with scripts/build.sh, or set SWITCHYARD"
  cpus=$("$(dirname "${BASH_SOURCE[0]}")/usable_cpus.sh")
  host_count=$(num_hosts)
  local_ranks=$(((ranks + host_count - 1) / host_count))
  ((!pin)) || cpus=$(physical_cores)
  threads=$((cpus / local_ranks))
  ((!pin || threads > 0)) || refuse "--pin: $local_ranks ranks a host, but this one has $cpus cores; use fewer ranks, or no --pin"
  environment=() command=()
  setting OMP_NUM_THREADS $((threads > 0 ? threads : 1))
  if ((ranks > 1)) || [[ -n $hosts$hostfile ]]; then
    choose_mpi_settings "$cpus" "$local_ranks"
    build_mpirun_command "$cpus" "$local_ranks" "$threads"
  fi
  command+=("$binary" train "$config")
  [[ -z $run_folder ]] || command+=(--run "$run_folder")
  # A pinned rank would else take a thread for each hardware thread of its cores.
  ((!pin)) || command+=("training.threads=$threads")
  command+=("${overrides[@]}")
  ((local_ranks <= cpus)) || echo "train.sh: $local_ranks ranks share $cpus CPUs here" >&2
}

print_command() {
  local words=()
  ((${#environment[@]} == 0)) || words=(env "${environment[@]}")
  words+=("${command[@]}")
  # Quoted for a shell, but only where it is needed.
  local word line=""
  for word in "${words[@]}"; do
    [[ $word =~ ^[A-Za-z0-9_./:,=@%+-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

# --- running it -----------------------------------------------------------------------------------------------------------------------

on_signal() {
  trapped=1
  signals=$((signals + 1))
  if ((signals == 1)); then
    echo "train.sh: saving a checkpoint and stopping; once more to stop at once" >&2
    kill -USR1 "$job" 2>/dev/null || true
  elif [[ ${command[0]} == mpirun ]]; then
    kill -TERM "$job" 2>/dev/null || true  # mpirun ends its ranks, by force after a second
  else
    kill -KILL "$job" 2>/dev/null || true
  fi
}

# Before mpirun: a faulty configuration then ends at once, without the launcher's own lines about ranks that it had to kill.
check_config() {
  "$binary" check "$config" --ranks "$ranks" "${overrides[@]}" >/dev/null || exit
}

run_job() {
  local code=0
  signals=0 trapped=1
  # A process group of its own, or Ctrl-C on the terminal would reach mpirun directly and kill the ranks before they have saved.
  set -m
  env "${environment[@]}" "${command[@]}" </dev/null &
  job=$!
  set +m
  trap on_signal INT TERM HUP USR1
  while ((trapped)); do
    trapped=0 code=0
    wait "$job" || code=$?
  done
  exit "$code"
}

main() {
  parse_arguments "$@"
  build_command
  print_command
  ((print_only)) && return
  [[ ${command[0]} != mpirun ]] || check_config
  run_job
}

main "$@"
