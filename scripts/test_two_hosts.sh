#!/usr/bin/env bash
# Trains 5 steps on two hosts and on one, with the same four ranks, and compares the records: equal to the bit. The hosts are network
# namespaces with names and addresses of their own, joined by a bridge; Open MPI starts the ranks through an agent in place of ssh, and their
# messages go over TCP. Expert groups span both hosts, with the all-to-all that `auto` chooses (hierarchical) and with a flat one.
#   scripts/test_two_hosts.sh [BINARY]
# Exit code 0: equal; 77: namespaces cannot be made here, so NOTHING WAS TESTED; anything else: failed.
set -euo pipefail

readonly SKIPPED=77
readonly NETWORK=10.77.0  # inside the namespaces only
readonly JOB='
config_version: 1
name: two_hosts
model:
  vocab_size: 257
  num_layers: 2
  hidden_size: 32
  num_attention_heads: 4
  max_sequence_length: 64
  moe: {num_experts: 8, top_k: 2, ffn_hidden_size: 32, aux_loss_coeff: 0.01, z_loss_coeff: 0.001}
parallel: {expert: 4}
data: {sources: [{name: text, path: TEXT}]}
training: {steps: 5, global_batch_size: 8, micro_batch_size: 1, precision: fp32, device: cpu, threads: 1}
logging: {every: 1}
'

skip() {
  echo "test_two_hosts: NOT TESTED, and not passed: $*" >&2
  exit "$SKIPPED"
}

fail() {
  echo "test_two_hosts: FAILED: $*" >&2
  exit 1
}

# --- the network ----------------------------------------------------------------------------------------------------------------------

# Everything below runs in namespaces that end with it: no trace is left, whatever ends the test. Without root, a user namespace gives the
# rights that are needed, where the system lets it.
enter_namespaces() {
  local command options=(--net --mount --pid --fork --kill-child --mount-proc) answer
  for command in ip unshare mpirun python3; do
    command -v "$command" >/dev/null || skip "no command $command (scripts/setup.sh installs it)"
  done
  ((EUID == 0)) || options+=(--map-root-user)
  answer=$(unshare "${options[@]}" true 2>&1) || skip "namespaces cannot be made: $answer"
  exec unshare "${options[@]}" scripts/test_two_hosts.sh --inside "$1"
}

make_hosts() {
  local i
  # Private places for what ip keeps of its namespaces and what Open MPI keeps in shared memory.
  mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm || return
  ip link set lo up && ip link add bridge0 type bridge && ip link set bridge0 up || return
  for i in 1 2; do
    ip netns add "host$i" && ip link add "port$i" type veth peer name eth0 netns "host$i" && ip link set "port$i" master bridge0 up &&
      ip -n "host$i" address add "$NETWORK.$((10 + i))/24" dev eth0 && ip -n "host$i" link set eth0 up && ip -n "host$i" link set lo up ||
      return
  done
}

# on_host N COMMAND...
on_host() {
  local name=host$1
  shift
  ip netns exec "$name" unshare --uts bash -c "hostname $name"' && exec "$@"' bash "$@"
}

# What stands in for ssh: [options] ADDRESS COMMAND, the command for a shell.
write_agent() {
  cat >"$1" <<'AGENT'
#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
name=host$((${1##*.} - 10))
shift
exec ip netns exec "$name" unshare --uts bash -c "hostname $name; $*"
AGENT
  chmod +x "$1"
}

# --- the runs -------------------------------------------------------------------------------------------------------------------------

# train_on_two RUN [key=value ...]
train_on_two() {
  local run=$1
  shift
  on_host 1 env OMPI_MCA_plm_rsh_agent="$work/agent" OMPI_MCA_btl=self,vader,tcp NETWORK=$NETWORK.0/24 RANKS_PER_HOST=2 PIN=0 \
    scripts/launch/mpirun_hosts.sh "$work/job.yaml" "$work/hosts" --run "$work/$run" "$@" || fail "the run on two hosts ended with exit code $?"
}

# expect_in_log RUN TEXT: what makes the comparison worth something.
expect_in_log() { grep -qF "$2" "$work/$1/log.txt" || fail "the log of $1 does not say \"$2\":"$'\n'"$(cat "$work/$1/log.txt")"; }

received_bytes() { ip netns exec host2 cat /sys/class/net/eth0/statistics/rx_bytes; }

compare() {
  echo "--- $1 against one_host"
  scripts/compare_runs.py "$work/one_host" "$work/$1" || fail "$1 and one_host are not equal to the bit"
}

run_inside() {
  local before
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  export SWITCHYARD=$1 TMPDIR=$work OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
  make_hosts 2>"$work/errors" || skip "no network namespaces with a bridge: $(cat "$work/errors")"
  write_agent "$work/agent"
  cat README.md CONTRIBUTING.md docs/*.md >"$work/text"
  echo "${JOB//TEXT/$work/text}" >"$work/job.yaml"
  printf '%s slots=2\n' $NETWORK.11 $NETWORK.12 >"$work/hosts"

  scripts/train.sh "$work/job.yaml" -n 4 --run "$work/one_host" || fail "the run on one host ended with exit code $?"
  expect_in_log one_host "flat (auto): 1 machine(s) with 4 rank(s) each"
  before=$(received_bytes)
  train_on_two two_hosts
  expect_in_log two_hosts "hierarchical (auto): 2 machine(s) with 2 rank(s) each"
  compare two_hosts
  echo "the second host received $((($(received_bytes) - before) / 1024)) KiB"
  (($(received_bytes) - before > 1000000)) || fail "hardly anything went over the network"
  train_on_two two_hosts_flat parallel.all_to_all=flat
  compare two_hosts_flat
  echo "test_two_hosts: two hosts and one: equal to the bit"
}

root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
if [[ ${1:-} == --inside ]]; then
  cd "$root"
  run_inside "$2"
else
  binary=$(realpath --canonicalize-missing "${1:-$root/build/release/switchyard}")
  [[ -x $binary ]] || fail "no binary at $binary; build it with scripts/build.sh"
  cd "$root"
  enter_namespaces "$binary"
fi
