#!/usr/bin/env bash
# Compares the models of Hugging Face transformers with this program: scripts/test_parity.sh [--seeds N] [--first-seed S] [--keep DIR]
# Installs transformers (.venv-verify), has it make tiny random models of every family with fresh seeds and odd sizes, computes them here,
# and prints the worst differences by family. Exit code 1 when one is too large. --first-seed: of the first set (default: from the clock);
# --keep: a folder for the models, which are otherwise removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seeds=3
first_seed=$(($(date +%s) % 1000000))
folder=
while (($#)); do
  case $1 in
    --seeds) seeds=$2 && shift 2 ;;
    --first-seed) first_seed=$2 && shift 2 ;;
    --keep) folder=$2 && shift 2 ;;
    -h | --help) sed -n '2,6s/^# //p' "$0" && exit 0 ;;
    *) sed -n '2s/^# //p' "$0" >&2 && exit 2 ;;
  esac
done

scripts/setup.sh --verify
scripts/build.sh release hf_parity
if [[ -z $folder ]]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi

last_seed=$((first_seed + seeds - 1))
echo "test_parity: seeds $first_seed to $last_seed"
sets=()
for seed in $(seq "$first_seed" "$last_seed"); do
  OMP_NUM_THREADS=1 .venv-verify/bin/python scripts/make_hf_fixtures.py "$folder/$seed" --seed "$seed"
  sets+=("$folder/$seed")
done
OMP_NUM_THREADS=1 build/release/tests/hf_parity "${sets[@]}"
echo "test_parity: seeds $first_seed to $last_seed agree with transformers"
