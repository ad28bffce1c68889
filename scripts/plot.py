#!/usr/bin/env python3
"""Draws a run: scripts/plot.py RUN [--output DIR] [--last STEPS]

Reads RUN/metrics.jsonl and writes to RUN/plots:
  curves.png          losses, learning rate, gradient norm, balance, speed over the steps
  expert_load.png     how much of each MoE layer's assignments every expert gets (mean over the last steps)
  domain_experts.png  the same by domain, from the last evaluation
It runs in .venv-tools, made by scripts/setup.sh --tools.
"""

import argparse
import json
import os
import sys
from pathlib import Path

TOOLS_PYTHON = Path(__file__).resolve().parent.parent / ".venv-tools" / "bin" / "python"

try:
    import matplotlib
    import numpy as np
except ImportError:
    if not TOOLS_PYTHON.exists() or Path(sys.executable) == TOOLS_PYTHON:
        sys.exit("plot.py needs numpy and matplotlib: run scripts/setup.sh --tools")
    os.execv(TOOLS_PYTHON, [str(TOOLS_PYTHON), *sys.argv])

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

plt.rcParams.update({
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False, "figure.dpi": 130, "axes.prop_cycle": plt.cycler(color=plt.cm.tab10.colors),
})


def read_metrics(path):
    """Training records and evaluation records. A last line cut off by a killed run is left out."""
    lines = path.read_text().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                sys.exit(f"{path}:{number}: not JSON")
    return [r for r in records if "loss" in r], [r for r in records if "evaluation" in r]


def column(records, key):
    """(steps, values) of a field; values that are absent or null are gaps."""
    steps = np.array([record["step"] for record in records])
    return steps, np.array([np.nan if record.get(key) is None else record[key] for record in records], dtype=float)


def smooth(values):
    """Mean over a window of a fiftieth of the curve around each step, so that the trend shows through the noise; gaps do not count."""
    window = np.ones(2 * (len(values) // 100) + 1)
    known = ~np.isnan(values)
    total = np.convolve(np.where(known, values, 0.0), window, mode="full")
    count = np.convolve(known.astype(float), window, mode="full")
    middle = slice(len(window) // 2, len(window) // 2 + len(values))
    return np.divide(total[middle], count[middle], out=np.full(len(values), np.nan), where=count[middle] > 0)


def draw_curve(axes, records, key, label=None, color="C0"):
    steps, values = column(records, key)
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(steps, smooth(values), color=color, linewidth=1.6, label=label)


def draw_evaluations(axes, evaluations):
    domains = list(evaluations[-1]["evaluation"])
    for index, domain in enumerate(domains):
        points = [(record["step"], record["evaluation"][domain]["bits_per_byte"]) for record in evaluations if domain in record["evaluation"]]
        axes.plot(*zip(*points), "o-", color=f"C{index}", markersize=3, linewidth=1.4, label=f"{domain} {points[-1][1]:.3f}")
    axes.legend(fontsize=8)


def draw_on_log_scale(axes, records, key):
    draw_curve(axes, records, key)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))


def draw_from_zero(axes, steps, values):
    axes.plot(steps, values, color="C0", alpha=0.25, linewidth=0.8)
    axes.plot(steps, smooth(values), color="C0", linewidth=1.6)
    highest = np.nanmax(values, initial=0)
    axes.set_ylim(0, 1.08 * highest if highest > 0 else 1)


def dense_panels(records, evaluations):
    def losses(axes):
        draw_curve(axes, records, "loss", "all terms", "C1")
        draw_curve(axes, records, "cross_entropy", "cross entropy", "C0")
        axes.legend(fontsize=8)

    panels = [("Training loss (nats a token)", losses)]
    if evaluations:
        panels.append(("Held-out text (bits a byte)", lambda axes: draw_evaluations(axes, evaluations)))
    return panels + [
        ("Learning rate", lambda axes: axes.plot(*column(records, "learning_rate"))),
        ("Gradient norm before clipping", lambda axes: draw_on_log_scale(axes, records, "grad_norm")),
        ("Tokens a second", lambda axes: draw_from_zero(axes, *column(records, "tokens_per_second"))),
    ]


def moe_panels(records):
    def imbalance(axes):
        draw_curve(axes, records, "load_imbalance")
        axes.axhline(1, color="grey", linewidth=0.8, linestyle="--")

    def dropped(axes):
        steps, share = column(records, "dropped_share")
        draw_from_zero(axes, steps, 100 * share)

    return [
        ("Balancing loss (1 = even)", lambda axes: draw_curve(axes, records, "aux_loss")),
        ("Router z-loss", lambda axes: draw_curve(axes, records, "z_loss")),
        ("Load imbalance (fullest expert / mean)", imbalance),
        ("Dropped assignments (%)", dropped),
    ]


def draw_curves(records, evaluations, title):
    panels = dense_panels(records, evaluations) + (moe_panels(records) if records[-1].get("expert_counts") else [])
    columns = 3
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(12.5, 2.9 * rows), squeeze=False, layout="constrained")
    for axes, (name, draw) in zip(grid.flat, panels):
        draw(axes)
        axes.set_title(name, loc="left")
        axes.set_xlabel("step")
    for axes in grid.flat[len(panels):]:
        axes.axis("off")
    figure.suptitle(title)
    return figure


def relative_load(count_rows):
    """Each row's counts over the even share, padded to the longest row: 1 = even, 0 = an expert that nothing reaches."""
    load = np.full((len(count_rows), max(map(len, count_rows))), np.nan)
    for row, counts in zip(load, count_rows):
        total = sum(counts)
        row[: len(counts)] = np.array(counts, dtype=float) * len(counts) / total if total else np.nan
    return load


def draw_heat_map(axes, load, row_names, norm):
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="0.85")  # grey: no such expert in this layer
    image = axes.imshow(np.ma.masked_invalid(load), cmap=colours, norm=norm, aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_yticks(range(len(row_names)), row_names)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.set_xlabel("expert")
    if load.shape[1] <= 16:
        for (row, expert), value in np.ndenumerate(load):
            if not np.isnan(value):
                red, green, blue, _ = image.to_rgba(value)
                dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
                axes.text(expert, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    return image


def load_scale(load):
    """Colours with the even share in the middle, wide enough for the fullest expert."""
    return TwoSlopeNorm(vmin=0, vcenter=1, vmax=max(2.0, float(np.nanmax(load))))


def draw_expert_load(records, last, title):
    recent = records[-last:]
    layers = recent[-1]["moe_layers"]
    counts = [np.sum([record["expert_counts"][i] for record in recent], axis=0).tolist() for i in range(len(layers))]
    load = relative_load(counts)
    figure, axes = plt.subplots(figsize=(max(5.0, 2.2 + 0.55 * min(load.shape[1], 20)), 1.6 + 0.42 * len(layers)), layout="constrained")
    image = draw_heat_map(axes, load, [f"layer {layer}" for layer in layers], load_scale(load))
    figure.colorbar(image, ax=axes, label="load / even share")
    axes.set_title(f"{title}: load of the experts, steps {recent[0]['step']} to {recent[-1]['step']}", loc="left")
    return figure


def draw_domain_experts(evaluation, layers, title):
    by_domain = evaluation["domain_expert_counts"]
    domains = list(by_domain)
    loads = [relative_load([by_domain[domain][i] for domain in domains]) for i in range(len(layers))]
    most_experts = max(load.shape[1] for load in loads)
    columns = min(len(layers), 4 if most_experts <= 16 else 2)
    rows = -(-len(layers) // columns)
    width = max(2.6, 0.42 * min(most_experts, 16))
    figure, grid = plt.subplots(rows, columns, figsize=(1.6 + width * columns, 0.9 + (0.7 + 0.38 * len(domains)) * rows),
                                squeeze=False, sharey=True, layout="constrained")
    norm = load_scale(np.concatenate([load.ravel() for load in loads]))
    for axes in grid.flat[len(layers):]:
        axes.axis("off")
    for axes, layer, load in zip(grid.flat, layers, loads):
        image = draw_heat_map(axes, load, domains, norm)
        axes.set_title(f"layer {layer}", loc="left")
    figure.colorbar(image, ax=grid, pad=0.01, label="load / even share")
    figure.suptitle(f"{title}: which experts each domain uses, evaluation at step {evaluation['step']}")
    return figure


def figures(records, evaluations, last, title):
    yield "curves.png", draw_curves(records, evaluations, title)
    if not records[-1].get("expert_counts"):
        print("no MoE layers: no heat maps of experts")
        return
    yield "expert_load.png", draw_expert_load(records, last, title)
    with_domains = [record for record in evaluations if record.get("domain_expert_counts")]
    if with_domains:
        yield "domain_experts.png", draw_domain_experts(with_domains[-1], records[-1]["moe_layers"], title)
    else:
        print("no evaluation by domain yet: no domain_experts.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, with metrics.jsonl")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default: RUN/plots)")
    parser.add_argument("--last", type=int, default=50, help="steps over which the load of the experts is averaged (default 50)")
    arguments = parser.parse_args()
    metrics = arguments.run / "metrics.jsonl"
    if not metrics.is_file():
        sys.exit(f"{metrics}: no such file; is {arguments.run} a run folder?")
    records, evaluations = read_metrics(metrics)
    if not records:
        sys.exit(f"{metrics}: no training step in it yet")
    output = arguments.output or arguments.run / "plots"
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(records, evaluations, arguments.last, arguments.run.resolve().name):
        figure.savefig(output / name)
        print(output / name)


if __name__ == "__main__":
    main()
