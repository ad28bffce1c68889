#!/usr/bin/env python3
"""The arithmetic of scripts/quickstart.sh. Needs nothing but Python itself.

  quickstart_figures.py steps-of RUN                 the number of steps that RUN was begun with
  quickstart_figures.py steps-for RUN MINUTES        steps that take MINUTES at the speed of the short run RUN
  quickstart_figures.py table JSON DOMAIN=FILE ...   bits per byte: what `switchyard eval --json` wrote, gzip -9 and xz -9 of the held-out files
"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

WARM_UP_STEPS = 5
SHARE_OF_STEPS = 0.95  # of the time; start, evaluations and checkpoints take the rest
LEAST_STEPS = 100  # the configuration's learning rate rises for 50


def setting(run, key):
    """A whole number from the resolved configuration, where every key of ours stands once, one a line."""
    found = re.findall(rf"^\s+{key}: (\d+)$", (run / "config.yaml").read_text(), flags=re.MULTILINE)
    if len(found) != 1:
        sys.exit(f"{run}/config.yaml: expected one line '{key}: NUMBER', found {len(found)}")
    return int(found[0])


def steps_for(run, minutes):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speeds = [record["tokens_per_second"] for record in records if "loss" in record][WARM_UP_STEPS:]
    if not speeds:
        sys.exit(f"{run}: {WARM_UP_STEPS} steps or fewer in the time of the measurement; train with a number of steps of your own choice")
    tokens_per_step = setting(run, "global_batch_size") * (setting(run, "sequence_length") or setting(run, "max_sequence_length"))
    steps = 60 * minutes * SHARE_OF_STEPS * statistics.median(speeds) / tokens_per_step
    return max(LEAST_STEPS, round(steps / 10) * 10)


def compressed_bits_per_byte(command, path):
    text = path.read_bytes()
    return 8 * len(subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout) / len(text)


def print_table(evaluation_file, files):
    evaluation = json.loads(evaluation_file.read_text())["evaluation"]
    rows = []
    for entry in files:
        domain, path = entry.split("=", 1)
        compressed = [compressed_bits_per_byte([program, "-9", "-c"], Path(path)) for program in ("gzip", "xz")]
        rows.append((domain, evaluation[domain]["bits_per_byte"], *compressed))
    means = (statistics.mean(column) for column in list(zip(*rows))[1:])
    print(f"  {'domain':<10}{'ours':>9}{'gzip -9':>9}{'xz -9':>9}")
    for name, *values in [*rows, ("mean", *means)]:
        print(f"  {name:<10}" + "".join(f"{value:9.3f}" for value in values))


def main():
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command == "steps-of" and len(arguments) == 1:
        print(setting(Path(arguments[0]), "steps"))
    elif command == "steps-for" and len(arguments) == 2:
        print(steps_for(Path(arguments[0]), float(arguments[1])))
    elif command == "table" and len(arguments) >= 2:
        print_table(Path(arguments[0]), arguments[1:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
