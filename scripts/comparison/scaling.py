"""More experts at the same work a token: the hierarchical gate from 2 x 2 to 32 x 32 experts."""

import sys

from comparison.jobs import make_job
from comparison.markdown import circumstances, millions, number, table
from comparison.measuring import measure
from comparison.running import Runner
from comparison.switchyard import evaluate

GROUPS_OF_EXPERTS = {4: 2, 32: 8, 256: 16, 1024: 32}
CHOICES = {"model.moe.group_top_k": 2, "model.moe.top_k": 4}
NO_CHECKPOINT = {"checkpoint.at_end": "false"}  # of 1,024 experts it takes gigabytes


def jobs_by_experts(preset, budget):
    return {experts: make_job(f"{preset.stem}_with_{experts}_experts", preset, budget,
                              {**CHOICES, **NO_CHECKPOINT, "model.moe.num_experts": experts, "model.moe.groups": groups})
            for experts, groups in GROUPS_OF_EXPERTS.items()}


def results_table(runs):
    rows = [[experts, f"{GROUPS_OF_EXPERTS[experts]} x {experts // GROUPS_OF_EXPERTS[experts]}", millions(run["active_parameters"]),
             millions(run["total_parameters"]), f"{run['tokens_per_second']:,.0f}", f"{run['seconds_a_step']:.2f}", number(run["last_cross_entropy"]),
             number(run["bits_per_byte"]), number(run["last_max_violation"], "{:.2f}"), f"{run['dead_experts']} of {run['all_experts']}"]
            for experts, run in runs.items()]
    return table(["experts", "groups x experts", "active parameters (M)", "total parameters (M)", "tokens/s", "seconds a step",
                  "training cross entropy (nats, last 10 steps)", "bits/byte", "MaxVio", "dead experts"], rows)


def phases_section(runs):
    """Where the time goes, if the runs' metrics.jsonl tell it: an object phase_seconds a record, {"forward": seconds, ...}."""
    phases = list(dict.fromkeys(phase for run in runs.values() for phase in run["phase_seconds"]))
    if not phases:
        return None
    rows = [[phase, *(shown(run, phase) for run in runs.values())] for phase in phases]
    return ("## Where the time goes\n\nSeconds a step on rank 0, and the share of the step.\n\n"
            + table(["phase", *(f"{experts} experts" for experts in runs)], rows))


def shown(run, phase):
    seconds = run["phase_seconds"].get(phase)
    return "-" if seconds is None else f"{seconds:.3f} ({100 * seconds / run['seconds_a_step']:.0f} %)"


def summary(runs):
    fewest, most = runs[min(runs)], runs[max(runs)]
    growth = most["total_parameters"] / fewest["total_parameters"]
    return (f"From {min(runs)} to {max(runs):,} experts a layer the parameters grow {growth:.0f} times, those that a token uses "
            f"{most['active_parameters'] / fewest['active_parameters']:.2f} times (the gate's own), and a step takes "
            f"{most['seconds_a_step'] / fewest['seconds_a_step']:.2f} times as long.")


def study(preset, budget, runs_folder, repeat, arguments):
    """The report's text."""
    jobs = jobs_by_experts(preset, budget)
    runner = Runner(runs_folder, repeat, len(jobs))
    runs = {experts: measure(runs_folder / job.name, job, evaluate) for experts, job in jobs.items() if runner.run(job)}
    if not runs:
        sys.exit("no run of the scaling study finished")
    parts = ["# More experts at the same work a token",
             f"`{preset.name}` with a two-level gate: 2 groups a token, 2 experts in each, of more and more.",
             circumstances(arguments, budget, list(runs.values())), results_table(runs), summary(runs), phases_section(runs)]
    parts += [f"`{name}` failed: {reason}." for name, reason in runner.failures.items()]
    return "\n\n".join(part for part in parts if part) + "\n"
