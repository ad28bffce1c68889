#!/usr/bin/env python3
"""Compares the metrics of two runs of one job, step by step.

    scripts/compare_runs.py runs/one_rank runs/four_ranks [--steps N] [--tolerance 1e-10]

Prints the largest relative difference of each quantity and the step where it is, and exits with 1 when one exceeds the tolerance, or when the
runs do not hold the same steps. Without --tolerance the numbers must be equal to the bit.
"""
import argparse
import json
import pathlib
import sys

QUANTITIES = ["loss", "cross_entropy", "aux_loss", "z_loss", "grad_norm", "learning_rate", "dropped_share", "load_imbalance"]
COUNTS = ["expert_counts", "dropped_counts"]


def steps_of(run):
    path = pathlib.Path(run)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}; give a run folder or its metrics.jsonl")
    records = [json.loads(line) for line in lines if line.strip()]
    return {record["step"]: record for record in records if "loss" in record}


def difference(a, b):
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--steps", type=int, help="compare the first N steps only")
    parser.add_argument("--tolerance", type=float, default=0.0)
    arguments = parser.parse_args()

    first, second = steps_of(arguments.first), steps_of(arguments.second)
    common = sorted(set(first) & set(second))
    if arguments.steps:
        common = [step for step in common if step <= arguments.steps]
    elif set(first) != set(second):
        sys.exit(f"the runs hold different steps: {len(first)} and {len(second)}; compare the first N with --steps N")
    if not common:
        sys.exit("the runs have no step in common")

    failed = False
    for name in QUANTITIES:
        worst, where = max((difference(first[step][name], second[step][name]), step) for step in common)
        failed |= worst > arguments.tolerance
        print(f"{name:<16} {worst:9.2e}" + (f"  at step {where}" if worst else ""))
    for name in COUNTS:
        unequal = [step for step in common if first[step][name] != second[step][name]]
        failed |= bool(unequal)
        print(f"{name:<16} " + (f"differ first at step {unequal[0]}" if unequal else "equal"))
    print(f"{len(common)} steps compared: " + ("different" if failed else "equal within the tolerance"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
