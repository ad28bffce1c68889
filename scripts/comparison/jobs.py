"""What is run: the presets on one budget, an untrained router beside each, and single changes that show what a term is for."""

import functools
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from comparison.switchyard import Refused, Resolved, check, parse_settings

UNTRAINED_ROUTER = "hash"
MAX_WARMUP_SHARE = 0.25  # of the steps; a preset's own warm-up is made for 1000


@dataclass(frozen=True)
class Budget:
    """What all runs have in common."""

    steps: int
    sequence_length: int
    global_batch_size: int
    micro_batch_size: int
    seed: int
    ranks: int
    threads: int
    validation_sequences: int

    def tokens(self):
        return self.steps * self.global_batch_size * self.sequence_length

    def overrides(self, warmup_steps):
        return {
            "training.steps": self.steps, "schedule.warmup_steps": min(warmup_steps, int(self.steps * MAX_WARMUP_SHARE)),
            "training.global_batch_size": self.global_batch_size, "training.micro_batch_size": self.micro_batch_size,
            "training.seed": self.seed, "training.threads": self.threads, "training.max_minutes": 0,
            "model.max_sequence_length": self.sequence_length, "data.sequence_length": self.sequence_length,
            "evaluation.every": 0, "evaluation.max_sequences": self.validation_sequences, "checkpoint.every": 0,
            "logging.every": max(1, self.steps // 10), "logging.tensorboard": "false",
        }


@dataclass(frozen=True)
class Job:
    name: str  # of the run's folder
    preset: Path
    overrides: dict
    ranks: int
    resolved: Resolved


@dataclass(frozen=True)
class Contrast:
    """A preset and the same with one change."""

    topic: str
    base: str
    job: Job
    change: dict


def is_language_model(preset):
    return re.search(r"^model:", preset.read_text(), flags=re.MULTILINE) is not None


@functools.cache
def unchanged(preset):
    return check(preset, {}, 1)


def make_job(name, preset, budget, changes):
    """Experts are split over as many ranks as divide them."""
    own = unchanged(preset)
    overrides = {**budget.overrides(int(own.setting("schedule.warmup_steps"))), **changes}
    num_experts = int(changes.get("model.moe.num_experts", own.num_experts()))
    overrides["parallel.expert"] = math.gcd(budget.ranks, num_experts) if num_experts else 1
    return Job(name, preset, overrides, budget.ranks, check(preset, overrides, budget.ranks))


def without_balancing(resolved):
    """Every balancing term off; the z-loss, which does not balance, as it is."""
    balances = re.compile(r"model\.moe\.((?!z_)\w+_loss_coeff|bias_update)")
    return {key: 0 for key, value in parse_settings(resolved.config).items() if balances.fullmatch(key) and value != "0"}


def untrained_changes(resolved):
    """A router without weights has no terms to be taught by. It drops nothing: its experts get what the text brings, and slots that are made
    for balanced experts would handicap it."""
    settings = parse_settings(resolved.config)
    no_terms = {key: 0 for key in settings if key.endswith("_loss_coeff")}
    defaults = {key: "null" for key in settings if re.search(r"_loss_(scope|form|counts)$|\.(eval_)?capacity_factor$", key)}
    return {"model.moe.router": UNTRAINED_ROUTER, **no_terms, **defaults}


def control_of(job, budget):
    """The same model with the untrained router, or None where there is none to compare with. Keys that it refuses go back to their defaults."""
    if not job.resolved.num_experts() or job.resolved.setting("model.moe.router") == UNTRAINED_ROUTER:
        return None
    changes = untrained_changes(job.resolved)
    while True:
        try:
            return make_job(job.name + "_control", job.preset, budget, changes)
        except Refused as refusal:
            refused = set(re.findall(r": (model\.moe\.\w+) = ", str(refusal))) - {"model.moe.router"}
            refused -= {key for key, value in changes.items() if value == "null"}
            if not refused:
                raise
            changes |= dict.fromkeys(refused, "null")


def comparable_jobs(presets, budget):
    """(jobs, {name: why it is left out}): those that learn from the same data as most of them."""
    left_out = {preset.stem: "not a configuration of a language model" for preset in presets if not is_language_model(preset)}
    jobs = [make_job(preset.stem, preset, budget, {}) for preset in presets if preset.stem not in left_out]
    usual_data = [data for data, _ in Counter(job.resolved.section("data") for job in jobs).most_common(1)]
    left_out |= {job.name: "learns from other data" for job in jobs if job.resolved.section("data") not in usual_data}
    return [job for job in jobs if job.name not in left_out], left_out


def softmax_top_k(jobs):
    """A preset whose router is a softmax top-k with several choices; Qwen3's if it is there."""
    fitting = [job for job in jobs if job.resolved.setting("model.moe.router") == "top_k" and job.resolved.setting("model.moe.score") == "softmax"
               and int(job.resolved.setting("model.moe.top_k")) > 1]
    return sorted(fitting, key=lambda job: (job.name != "qwen3_moe", job.name))[:1]


def contrasts(jobs, budget):
    named = {job.name: [job] for job in jobs}
    plans = [("balancing", "without_balancing", named.get("switch", []), lambda job: without_balancing(job.resolved)),
             ("logits", "without_z_loss", named.get("st_moe", []), lambda job: {"model.moe.z_loss_coeff": 0}),
             ("domains", "with_domains", softmax_top_k(jobs),
              lambda job: {"model.moe.domains": len(job.resolved.sources()), "model.moe.domain_loss_coeff": 0.05})]
    found = []
    for topic, suffix, bases, changes_of in plans:
        for base in bases:
            changes = changes_of(base)
            found.append(Contrast(topic, base.name, make_job(f"{base.name}_{suffix}", base.preset, budget, changes), changes))
    return found
