"""The Markdown report of the comparison."""

from comparison.markdown import circumstances, millions, names, number, percent, table

SEES_LATER_TOKENS = {"expert_choice"}
NO_LEARNED_ROUTER = {"hash", "forced_uniform", "forced_random", "forced_zipf"}

COLUMNS = ["preset", "bits/byte", "control", "control - preset", "beats its control", "tokens/s", "active / total parameters (M)", "MaxVio",
           "dead experts", "dropped", "router entropy", "specialisation (control)"]
LEGEND = """- *bits/byte*: held-out text, mean of the domains. *control*: the same model with an untrained router (`router: hash`: the byte itself
  names the experts), no balancing terms and nothing dropped.
- *tokens/s*: median of the last half of the steps. *MaxVio*: fullest expert / even share - 1, mean of layers and of the last {last} steps.
- *dead experts*: without a single assignment in the last {last} steps, of all layers. *dropped*: share of the assignments in those steps.
- *router entropy*: mean over tokens, layers and the last {last} steps, over log(number of experts).
- *specialisation*: mutual information of domain and expert over the entropy of the domain, domains weighing the same, mean of layers, on the
  held-out text; 0: experts do not care about the domain, 1: each serves one domain."""


def row_of(entry, runs):
    run, control = runs[entry["run"]], runs.get(entry["control"])
    gain = control["bits_per_byte"] - run["bits_per_byte"] if control else None
    learned = run["router"] not in NO_LEARNED_ROUTER
    dead = f"{run['dead_experts']} of {run['all_experts']}" if "all_experts" in run else "-"
    special = number(run.get("specialisation")) + (f" ({number(control.get('specialisation'))})" if control else "")
    return [f"{entry['name']}{' (1)' if run['router'] in SEES_LATER_TOKENS else ''}", number(run["bits_per_byte"]),
            number(control and control["bits_per_byte"]), number(gain, "{:+.3f}"), "-" if gain is None else "yes" if gain > 0 else "**no**",
            f"{run['tokens_per_second']:,.0f}", f"{millions(run['active_parameters'])} / {millions(run['total_parameters'])}",
            number(run.get("last_max_violation"), "{:.2f}"), dead, percent(run.get("dropped_share")),
            percent(run.get("entropy_share") if learned else None), special]


def findings(presets, runs):
    """Sentences that follow from the numbers."""
    compared = [entry for entry in presets if entry["control"]]
    losers = [entry["name"] for entry in compared if runs[entry["control"]]["bits_per_byte"] <= runs[entry["run"]]["bits_per_byte"]]
    dead = [entry["name"] for entry in presets if runs[entry["run"]].get("dead_experts")]
    sentences = []
    if compared:
        sentences.append(f"Of {len(compared)} presets with a control, {len(compared) - len(losers)} beat it"
                         + (f"; {names(losers)} {'does' if len(losers) == 1 else 'do'} not." if losers else "."))
    sentences.append(f"{names(dead)} {'has' if len(dead) == 1 else 'have'} dead experts." if dead else "No preset has dead experts.")
    foresighted = [entry["name"] for entry in presets if runs[entry["run"]]["router"] in SEES_LATER_TOKENS]
    if foresighted:
        sentences.append(f"(1) {names(foresighted)} looks at later tokens of the sequence when it chooses: its bits/byte are not those of a causal "
                         "model, and comparing them with the others' or its control's says nothing.")
    return " ".join(sentences)


def contrast_rows(entry, runs):
    return [(f"{entry['base']}", runs[entry["base_run"]]), (f"{entry['name']}", runs[entry["run"]])]


def quarter_points(run, field):
    """A curve's mean around a quarter, half, three quarters and the end of the steps."""
    values = run[field]
    width = max(1, len(values) // 20)
    ends = [max(width, len(values) * quarter // 4) for quarter in (1, 2, 3, 4)]
    return [sum(values[end - width:end]) / width for end in ends]


QUARTERS = ["25 %", "50 %", "75 %", "100 %"]


def balancing_section(entry, runs):
    rows = [[name, number(run["bits_per_byte"]), *(f"{value:.2f}, {idle:.1f}" for value, idle in
                                                  zip(quarter_points(run, "max_violation"), quarter_points(run, "idle_experts"))),
             f"{run['dead_experts']} of {run['all_experts']}", percent(run["dropped_share"])] for name, run in contrast_rows(entry, runs)]
    kept, without = (run["last_max_violation"] for _, run in contrast_rows(entry, runs))
    return ("## Collapse without balancing\n\n" + changed(entry) + f" At the end its fullest expert gets {1 + without:.1f} times the even share, "
            f"with balancing {1 + kept:.1f} times. The columns with shares of the steps give MaxVio and the number of experts without a token "
            "there.\n\n" + table(["run", "bits/byte", *QUARTERS, "dead experts", "dropped"], rows))


def logits_section(entry, runs):
    rows = [[name, number(run["bits_per_byte"]), *(f"{size:.2f}" for size in quarter_points(run, "logit_size"))]
            for name, run in contrast_rows(entry, runs)]
    kept, without = (quarter_points(run, "logit_size")[-1] for _, run in contrast_rows(entry, runs))
    return ("## Router logits without the z-loss\n\n" + changed(entry) + f" Its logits end {without / kept:.2f} times as large. Their size is the "
            "root of the mean square of logsumexp, which the z-loss works on; the columns with shares of the steps give it there. Logits that are "
            "all 0 have the size log(number of experts).\n\n" + table(["run", "bits/byte", *QUARTERS], rows))


def domains_section(entry, runs):
    rows = [[name, number(run["bits_per_byte"]), number(run["specialisation"]), percent(run["own_experts_share"]),
             number(run["last_max_violation"], "{:.2f}")] for name, run in contrast_rows(entry, runs)]
    plain, taught = (run for _, run in contrast_rows(entry, runs))
    cost = taught["bits_per_byte"] - plain["bits_per_byte"]
    return ("## Experts that belong to domains\n\n" + changed(entry) + f" Specialisation is {number(taught['specialisation'])} instead of "
            f"{number(plain['specialisation'])}, and the held-out text takes {abs(cost):.3f} bits/byte {'more' if cost > 0 else 'less'}. An even "
            f"router would give a domain's own experts {100 / len(plain['sources']):.0f} %.\n\n"
            + table(["run", "bits/byte", "specialisation", "assignments to the domain's own experts", "MaxVio"], rows))


def changed(entry):
    changes = ", ".join(f"`{key}={value}`" for key, value in entry["change"].items())
    return f"`{entry['name']}` is `{entry['base']}` with {changes}."


SECTIONS = {"balancing": balancing_section, "logits": logits_section, "domains": domains_section}


def write_report(data, arguments, budget, last_steps, link):
    """The text. link: a picture's name -> its address, or None where it was not drawn."""
    def picture(name, text):
        return f"\n\n![{text}]({link(name)})" if link(name) else ""

    presets, runs = data["presets"], data["runs"]
    ranked = sorted(presets, key=lambda entry: runs[entry["run"]]["bits_per_byte"])
    parts = ["# The presets compared", "Presets of `configs/small` on the same tokens in the same order, with the same seed and budget. One seed: "
             "a difference of a few thousandths of a bit may be chance.", circumstances(arguments, budget, list(runs.values())),
             "## Results", table(COLUMNS, [row_of(entry, runs) for entry in ranked]), findings(presets, runs),
             LEGEND.format(last=last_steps) + picture("loss", "training loss over the steps")
             + picture("bits_per_byte", "held-out bits per byte of presets and controls")]
    shared = [f"`{job}` is the same job as `{run}`" for job, run in data["shared"].items()]
    notes = shared + [f"`{name}` is not compared: {reason}" for name, reason in data["left_out"].items()]
    notes += [f"`{name}` failed: {reason}" for name, reason in data["failures"].items()] + data["remarks"]
    if notes:
        parts.append("\n".join(f"- {note}." for note in notes))
    parts += [SECTIONS[topic](entry, runs) + picture(topic, topic) for topic, entry in data["contrasts"].items()]
    return "\n\n".join(parts) + "\n"
