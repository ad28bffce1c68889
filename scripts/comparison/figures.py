#!/usr/bin/env python3
"""Draws the figures of scripts/compare_systems: figures.py MEASUREMENTS.json FOLDER

It runs in .venv-tools, made by scripts/setup.sh --tools. Prints the names of the files it writes.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import MaxNLocator

plt.rcParams.update({
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.25, "legend.frameon": False, "figure.dpi": 130,
})


def smooth(values):
    """Mean over the steps around each, a fortieth of the curve to each side."""
    reach = len(values) // 40
    return [np.mean(values[max(0, i - reach): i + reach + 1]) for i in range(len(values))]


def draw_line(axes, run, field, label, color):
    values = np.array(run[field], dtype=float)
    axes.plot(run["steps"], values, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(run["steps"], smooth(values), color=color, linewidth=1.6, label=label)


def draw_losses(data):
    runs = {entry["name"]: data["runs"][entry["run"]] for entry in data["presets"]}
    names = sorted(runs, key=lambda name: -runs[name]["last_cross_entropy"])  # as the curves end, from above
    colors = plt.get_cmap("tab10").colors
    figure, (whole, end) = plt.subplots(1, 2, figsize=(12.5, 5), layout="constrained")
    for number, name in enumerate(names):
        steps, values = np.array(runs[name]["steps"]), np.array(smooth(runs[name]["cross_entropy"]))
        style = {"color": colors[number % 10], "linestyle": ["-", "--", ":"][number // 10 % 3], "linewidth": 1.5}
        whole.plot(steps, values, **style)
        half = steps > steps[-1] / 2
        end.plot(steps[half], values[half], label=f"{name} {runs[name]['last_cross_entropy']:.3f}", **style)
    whole.set(title="All steps", xlabel="step", ylabel="training cross entropy (nats a token, smoothed)")
    end.set(title="Last half", xlabel="step", ylabel="training cross entropy (nats a token, smoothed)")
    for axes in (whole, end):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*end.get_legend_handles_labels(), loc="outside right upper", fontsize=8, title="mean of the last 10 steps")
    return figure


def draw_bits(data):
    entries = sorted(data["presets"], key=lambda entry: -data["runs"][entry["run"]]["bits_per_byte"])  # the best on top
    own = [data["runs"][entry["run"]]["bits_per_byte"] for entry in entries]
    controls = [data["runs"][entry["control"]]["bits_per_byte"] if entry["control"] else np.nan for entry in entries]
    gains = np.array(controls) - np.array(own)
    places = np.arange(len(entries))
    figure, (bars, difference) = plt.subplots(1, 2, figsize=(12.5, 1.6 + 0.42 * len(entries)), sharey=True, layout="constrained",
                                              width_ratios=[3, 2])
    for shift, values, color, label in ((0.19, own, "C0", "preset"), (-0.19, controls, "0.7", "untrained router, same size")):
        drawn = bars.barh(places + shift, values, height=0.36, color=color, label=label)
        bars.bar_label(drawn, ["" if np.isnan(value) else f"{value:.3f}" for value in values], padding=2, fontsize=7)
    foresight = [" (looks ahead)" if data["runs"][entry["run"]]["router"] == "expert_choice" else "" for entry in entries]
    bars.set_yticks(places, [entry["name"] + note for entry, note in zip(entries, foresight)])
    bars.set_ylim(-0.6, len(entries) - 0.4)
    bars.set_xlim(0, 1.1 * np.nanmax(own + controls))
    bars.set(title="Held-out text", xlabel="bits a byte (mean of the domains; less is better)")
    drawn = difference.barh(places, np.nan_to_num(gains), height=0.5, color=["C2" if gain > 0 else "C3" for gain in gains])
    difference.bar_label(drawn, ["no control" if np.isnan(gain) else f"{gain:+.3f}" for gain in gains], padding=2, fontsize=7)
    difference.axvline(0, color="black", linewidth=0.8)
    difference.margins(x=0.2)
    difference.set(title="Gained by the trained router", xlabel="control - preset (bits a byte; right of 0 beats the control)")
    figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def contrast_pair(data, topic):
    entry = data["contrasts"][topic]
    return (entry["base"], data["runs"][entry["base_run"]]), (entry["name"], data["runs"][entry["run"]])


def draw_balancing(data):
    figure, (violation, idle) = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
    for color, (name, run) in zip(("C0", "C3"), contrast_pair(data, "balancing")):
        draw_line(violation, run, "max_violation", name, color)
        draw_line(idle, run, "idle_experts", name, color)
    violation.set_ylim(bottom=0)
    idle.yaxis.set_major_locator(MaxNLocator(integer=True))
    violation.set(title="MaxVio", xlabel="step", ylabel="fullest expert / even share - 1 (mean of layers)")
    idle.set(title="Experts without a token", xlabel="step", ylabel=f"experts, of {run['all_experts']} in all layers")
    figure.legend(*violation.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_logits(data):
    figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for color, (name, run) in zip(("C0", "C3"), contrast_pair(data, "logits")):
        draw_line(axes, run, "logit_size", name, color)
    axes.set_ylim(bottom=0)
    axes.set(title="Size of the router's logits", xlabel="step", ylabel="root mean square of logsumexp")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def load_by_domain(run, layer, order):
    """[domain, expert]: what an expert gets of a domain's assignments over the even share."""
    rows = np.array([run["domain_expert_counts"][domain][layer] for domain in run["sources"]], dtype=float)
    return (rows / rows.sum(axis=1, keepdims=True) * rows.shape[1])[:, order]


def draw_domains(data):
    pair = contrast_pair(data, "domains")
    layers, sources = pair[0][1]["moe_layers"], pair[0][1]["sources"]
    num_experts = len(pair[0][1]["domain_expert_counts"][sources[0]][0])
    order = sorted(range(num_experts), key=lambda expert: (expert % len(sources), expert))
    loads = [[load_by_domain(run, layer, order) for layer in range(len(layers))] for _, run in pair]
    norm = TwoSlopeNorm(vmin=0, vcenter=1, vmax=max(2.0, float(np.max(loads))))
    figure, grid = plt.subplots(2, len(layers), figsize=(1.6 + 2.9 * len(layers), 5), squeeze=False, sharey=True, layout="constrained")
    for row, (name, run) in zip(range(2), pair):
        for column, layer in enumerate(layers):
            axes = grid[row, column]
            image = axes.imshow(loads[row][column], cmap="RdBu_r", norm=norm, aspect="auto")
            axes.grid(False)
            axes.set_xticks(range(num_experts), order, fontsize=6 if num_experts <= 16 else 4)
            axes.set_yticks(range(len(sources)), sources)
            axes.set_title(f"{name}\nlayer {layer}" if column == 0 else f"\nlayer {layer}", loc="left")
            if row == 1:
                axes.set_xlabel("expert, sorted by the domain that the signal gives it", fontsize=7)
    figure.colorbar(image, ax=grid, pad=0.01, label="load / even share, of the domain's held-out text")
    return figure


def main():
    data, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    drawings = {"loss": draw_losses, "bits_per_byte": draw_bits}
    by_topic = {"balancing": draw_balancing, "logits": draw_logits, "domains": draw_domains}
    drawings |= {topic: by_topic[topic] for topic in data["contrasts"]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in drawings.items():
        draw(data).savefig(folder / f"{name}.png")
        print(f"{name}.png")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
