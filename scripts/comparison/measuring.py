"""What a finished run shows: numbers from its metrics.jsonl and its last evaluation."""

import json
import math
import re
import statistics

LAST_STEPS = 20  # over which loads are averaged, at the end


def read_metrics(path):
    """(training records, evaluation records)."""
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [r for r in records if "loss" in r], [r for r in records if "evaluation" in r]


def mean(values):
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def by_layer(record, field):
    return record.get("routing", {}).get(field, [])


def domain_shares(counts_by_domain, layer):
    """{domain: the share of its assignments that each expert of the layer gets}."""
    rows = {domain: layers[layer] for domain, layers in counts_by_domain.items()}
    return {domain: [count / max(1, sum(row)) for count in row] for domain, row in rows.items()}


def specialisation(counts_by_domain):
    """Mutual information of domain and expert over the entropy of the domain, all domains of equal weight; mean over the layers."""
    num_layers = len(next(iter(counts_by_domain.values())))
    num_domains = len(counts_by_domain)
    if num_domains < 2 or not num_layers:
        return None

    def information(layer):
        shares = list(domain_shares(counts_by_domain, layer).values())
        average = [mean(column) for column in zip(*shares)]
        return sum(p * math.log(p / q) for row in shares for p, q in zip(row, average) if p > 0) / num_domains

    return mean([information(layer) for layer in range(num_layers)]) / math.log(num_domains)


def share_of_own_experts(counts_by_domain, sources):
    """Share of assignments that go to experts which the token's source owns with model.moe.domains = number of sources: source d owns the
    experts d, d + domains, ... Mean over sources and layers."""
    num_layers = len(next(iter(counts_by_domain.values())))
    shares = [sum(domain_shares(counts_by_domain, layer)[source][number::len(sources)])
              for layer in range(num_layers) for number, source in enumerate(sources)]
    return mean(shares)


def entropy_share(record, experts):
    """Router entropy over that of an even choice, mean of the layers."""
    return mean([entropy / math.log(count) for entropy, count in zip(by_layer(record, "router_entropy"), experts)])


def never_chosen(records):
    """Experts, over all layers, that got no assignment in any of these steps."""
    layers = zip(*(record["expert_counts"] for record in records))
    return sum(1 for steps in layers for counts in zip(*steps) if not any(counts))


def phase_seconds(records):
    """{phase: mean seconds a step}, over the last half of the steps; empty where metrics.jsonl has no field phase_seconds."""
    timed = [record["phase_seconds"] for record in records[len(records) // 2:] if record.get("phase_seconds")]
    phases = list(dict.fromkeys(phase for seconds in timed for phase in seconds))
    return {phase: mean([seconds.get(phase, 0.0) for seconds in timed]) for phase in phases}


def routing_numbers(records):
    last = records[-LAST_STEPS:]
    experts = [len(layer) for layer in records[-1]["expert_counts"]]  # of each layer
    return {
        "max_violation": [mean(by_layer(record, "max_violation")) for record in records],
        "idle_experts": [sum(by_layer(record, "dead_experts")) for record in records],
        "logit_size": [math.sqrt(record["z_loss"]) for record in records],
        "last_max_violation": mean([mean(by_layer(record, "max_violation")) for record in last]),
        "dead_experts": never_chosen(last),
        "all_experts": sum(experts),
        "dropped_share": mean([record["dropped_share"] for record in last]),
        "entropy_share": mean([entropy_share(record, experts) for record in last]) if min(experts) > 1 else None,
    }


def measure(folder, job, evaluate):
    """evaluate: called with the folder where the run's own last evaluation is missing."""
    records, evaluations = read_metrics(folder / "metrics.jsonl")
    evaluation = evaluations[-1] if evaluations else evaluate(folder)
    precision = re.search(r"active; (\w+),", (folder / "log.txt").read_text())
    numbers = {
        "steps": [record["step"] for record in records],
        "cross_entropy": [record["cross_entropy"] for record in records],
        "last_cross_entropy": mean([record["cross_entropy"] for record in records[-10:]]),
        "tokens_per_second": statistics.median(record["tokens_per_second"] for record in records[len(records) // 2:]),
        "seconds_a_step": statistics.median(record["tokens"] / record["tokens_per_second"] for record in records[len(records) // 2:]),
        "phase_seconds": phase_seconds(records),
        "bits_per_byte": mean([domain["bits_per_byte"] for domain in evaluation["evaluation"].values()]),
        "bits_by_domain": {name: domain["bits_per_byte"] for name, domain in evaluation["evaluation"].items()},
        "total_parameters": job.resolved.total_parameters,
        "active_parameters": job.resolved.active_parameters,
        "router": job.resolved.setting("model.moe.router"),
        "precision": precision[1] if precision else job.resolved.setting("training.precision"),
        "sources": job.resolved.sources(),
    }
    if not job.resolved.num_experts():
        return numbers
    counts = evaluation["domain_expert_counts"]
    return {**numbers, **routing_numbers(records), "specialisation": specialisation(counts),
            "own_experts_share": share_of_own_experts(counts, numbers["sources"]), "domain_expert_counts": counts,
            "moe_layers": evaluation["moe_layers"]}
