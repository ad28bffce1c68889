#!/usr/bin/env bash
# Recipe: one job over the machines of a host file, started on one of them; mpirun reaches the others by ssh. Copy it, or set the variables.
#
#   RANKS_PER_HOST=4 scripts/launch/mpirun_hosts.sh CONFIG HOSTFILE [--run DIR] [key=value ...]
#
# The host file names a machine a line, each with at least RANKS_PER_HOST slots:
#   node1 slots=4
#   node2 slots=4
#
# Tokens:  a step is training.global_batch_size sequences on however many ranks. More ranks make a step faster, not larger, and do not change
#          its result; training.micro_batch_size x ranks must divide global_batch_size (`switchyard check CONFIG --ranks N` tells).
# Ranks:   as many on every machine, numbered machine by machine. parallel.expert consecutive ranks share the experts: up to RANKS_PER_HOST
#          the all-to-all stays inside machines; beyond, it goes inside the machine first and then between machines (parallel.all_to_all).
#          On the CPU one rank a socket is a good start, with GPUs one rank a GPU.
# Pinning: every rank gets cores of its own, cores / RANKS_PER_HOST, and a thread for each. PIN=0 leaves the placing to the operating system:
#          where other jobs run on the machines, or where two "hosts" are one machine.
#
# docs/several_hosts.md says what the machines must have in common.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

RANKS_PER_HOST=${RANKS_PER_HOST:-1}
PIN=${PIN:-1}
NETWORK=${NETWORK:-}  # the network between the machines, 10.0.0.0/24 or eth1; needed where they have others that lead nowhere (docker0)

if (($# < 2)) || [[ ! -r $2 ]]; then
  echo "usage: RANKS_PER_HOST=4 scripts/launch/mpirun_hosts.sh CONFIG HOSTFILE [--run DIR] [key=value ...]" >&2
  exit 2
fi
config=$1 hostfile=$2
shift 2
hosts=$(sed 's/#.*//' "$hostfile" | awk 'NF {print $1}' | sort -u | wc -l)

if [[ -n $NETWORK ]]; then
  export OMPI_MCA_btl_tcp_if_include=$NETWORK  # the ranks' messages
  export OMPI_MCA_oob_tcp_if_include=$NETWORK  # mpirun's own
fi
options=()
((!PIN)) || options=(--pin)
# It prints the mpirun line, and turns Ctrl-C into "save a checkpoint and stop".
exec scripts/train.sh "$config" -n $((hosts * RANKS_PER_HOST)) --hostfile "$hostfile" "${options[@]}" "$@"
