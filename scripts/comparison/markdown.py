"""Pieces of Markdown reports."""

import datetime
import os
import re
import shlex
import subprocess


def table(headings, rows):
    """The first column to the left, the others to the right."""
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value, pattern="{:.3f}"):
    return "-" if value is None else pattern.format(value)


def percent(value):
    return "-" if value is None else f"{100 * value:.1f} %"


def millions(count):
    return f"{count / 1e6:.2f}"


def names(items):
    quoted = [f"`{item}`" for item in items]
    return ", ".join(quoted[:-1]) + " and " + quoted[-1] if len(quoted) > 1 else "".join(quoted)


def processor():
    text = subprocess.run(["lscpu"], env={**os.environ, "LC_ALL": "C"}, text=True, stdout=subprocess.PIPE, check=False).stdout
    model = re.search(r"^Model name: +(.+)$", text, flags=re.MULTILINE)
    cpus = re.search(r"^CPU\(s\): +(\d+)$", text, flags=re.MULTILINE)
    return f"{model[1] if model else 'unknown processor'}, {cpus[1] if cpus else '?'} CPUs"


def circumstances(arguments, budget, runs):
    """How the numbers of a report were made."""
    precisions = " or ".join(sorted({run["precision"] for run in runs}))
    sources = ", ".join(runs[0]["sources"])
    held_out = f"the first {budget.validation_sequences} held-out sequences" if budget.validation_sequences else "all held-out text"
    facts = {
        "command": f"`{shlex.join(['scripts/compare_systems', *arguments])}`",
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "ranks x threads": f"{budget.ranks} x {budget.threads}, {precisions}",
        "steps": f"{budget.steps} of {budget.global_batch_size} sequences of {budget.sequence_length} tokens: {budget.tokens():,} tokens",
        "data": f"{sources}; validation on {held_out} of each",
        "seed": f"{budget.seed}",
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
