"""Trains a tiny dense and two tiny Mixture-of-Experts transformers for 10 steps and writes down what came out.

Written from the formulae, with loops over heads, tokens and experts, in float64; it shares no code with the framework that it checks.
Sources: RMSNorm arXiv:1910.07467, rotary embedding arXiv:2104.09864 (pairs i, i + d/2), grouped queries arXiv:2305.13245, SwiGLU
arXiv:2002.05202, balancing loss arXiv:2101.03961 (equation 4, f over all choices), z-loss arXiv:2202.08906 (equation 5), capacity
arXiv:2006.16668 (algorithm 1), AdamW arXiv:1711.05101.

Letters: B sequences, S positions, D model width, F feed-forward width, E experts, K choices, V vocabulary, d width of a head.
"""

import math
import pathlib
from dataclasses import dataclass, field

import numpy
import safetensors.numpy
import torch

V, D, LAYERS, HEADS, KEY_VALUE_HEADS, HEAD_WIDTH = 29, 16, 2, 4, 2, 4
DENSE_WIDTH, EXPERT_WIDTH, SHARED_WIDTH = 24, 12, 8
E, K = 4, 2
B, S, STEPS = 8, 8, 10
ROPE_THETA, NORM_EPS = 10000.0, 1e-5
AUX_LOSS_COEFF, Z_LOSS_COEFF = 0.01, 0.001
LEARNING_RATE, BETA1, BETA2, ADAM_EPS, WEIGHT_DECAY, CLIP_NORM = 0.01, 0.9, 0.95, 1e-8, 0.1, 1.0
SCALARS = ("loss", "cross_entropy", "aux_loss", "z_loss", "grad_norm")
SMALLEST_GAP = 1e-5  # between probabilities whose order decides something; closer ones could fall otherwise in float32


@dataclass
class Variant:
    name: str
    seed: int  # chosen so that no choice is closer than SMALLEST_GAP
    moe: bool = True
    shared_expert: bool = False
    capacity_factor: float | None = None


VARIANTS = [
    Variant("dense", seed=1, moe=False),
    Variant("moe", seed=7),
    Variant("moe_capacity", seed=7, shared_expert=True, capacity_factor=1.0),
]


@dataclass
class RoutingRecord:
    """What one MoE layer decided for one batch."""

    probabilities: list = field(default_factory=list)  # a token: [E], differentiable
    squared_logsumexps: list = field(default_factory=list)  # a token: scalar, differentiable
    counts: list = field(default_factory=lambda: [0] * E)  # choices before drops
    dropped: list = field(default_factory=lambda: [0] * E)
    smallest_gap: float = math.inf


def rms_norm(x_D, weight_D):
    return weight_D * x_D / torch.sqrt((x_D * x_D).mean() + NORM_EPS)


def rotate(x_d, position):
    half = HEAD_WIDTH // 2
    turned = [None] * HEAD_WIDTH
    for i in range(half):
        angle = position * ROPE_THETA ** (-2.0 * i / HEAD_WIDTH)
        turned[i] = x_d[i] * math.cos(angle) - x_d[i + half] * math.sin(angle)
        turned[i + half] = x_d[i + half] * math.cos(angle) + x_d[i] * math.sin(angle)
    return torch.stack(turned)


def attention(x_SD, qkv, output):
    d = HEAD_WIDTH
    projected = [qkv @ x_D for x_D in x_SD]

    def head(position, index):
        return projected[position][index * d : (index + 1) * d]

    queries = [[rotate(head(s, h), s) for h in range(HEADS)] for s in range(S)]
    keys = [[rotate(head(s, HEADS + h), s) for h in range(KEY_VALUE_HEADS)] for s in range(S)]
    values = [[head(s, HEADS + KEY_VALUE_HEADS + h) for h in range(KEY_VALUE_HEADS)] for s in range(S)]
    result = []
    for s in range(S):
        seen = []
        for h in range(HEADS):
            shared = h // (HEADS // KEY_VALUE_HEADS)
            scores = torch.stack([queries[s][h] @ keys[t][shared] / math.sqrt(d) for t in range(s + 1)])
            shares = torch.softmax(scores, 0)
            seen.append(sum(shares[t] * values[t][shared] for t in range(s + 1)))
        result.append(output @ torch.cat(seen))
    return result


def feed_forward(x_D, gate_up, down):
    width = down.shape[1]
    gate, up = gate_up[:width] @ x_D, gate_up[width:] @ x_D
    return down @ (gate * torch.sigmoid(gate) * up)


def choose(x_D, router, record):
    """The K most probable experts of one token, most probable first, and their weights."""
    logits = router @ x_D
    probability = torch.softmax(logits, 0)
    order = sorted(range(E), key=lambda e: (-probability[e].item(), e))
    record.probabilities.append(probability)
    record.squared_logsumexps.append(torch.logsumexp(logits, 0) ** 2)
    for first, second in zip(order[:K], order[1 : K + 1]):
        record.smallest_gap = min(record.smallest_gap, (probability[first] - probability[second]).item())
    chosen = order[:K]
    total = sum(probability[e] for e in chosen)
    return [(e, probability[e] / total) for e in chosen]


def drop_overflow(choices, capacity_factor, record):
    """Which (position, choice) of one sequence keep their place: first choices queue before second ones, earlier positions before later."""
    capacity = math.inf if capacity_factor is None else math.ceil(capacity_factor * S * K / E)
    taken = [0] * E
    kept = set()
    for c in range(K):
        for s in range(S):
            expert = choices[s][c][0]
            record.counts[expert] += 1
            if taken[expert] < capacity:
                taken[expert] += 1
                kept.add((s, c))
            else:
                record.dropped[expert] += 1
    return kept


def moe(x_SD, weights, prefix, variant, record):
    choices = [choose(x_D, weights[prefix + "router.weight"], record) for x_D in x_SD]
    kept = drop_overflow(choices, variant.capacity_factor, record)
    gate_up, down = weights[prefix + "experts.gate_up"], weights[prefix + "experts.down"]
    result = []
    for s, x_D in enumerate(x_SD):
        y_D = torch.zeros(D, dtype=torch.float64)
        for c, (expert, weight) in enumerate(choices[s]):
            if (s, c) in kept:
                y_D = y_D + weight * feed_forward(x_D, gate_up[expert], down[expert])
        if variant.shared_expert:
            y_D = y_D + feed_forward(x_D, weights[prefix + "shared_expert.gate_up"], weights[prefix + "shared_expert.down"])
        result.append(y_D)
    return result


def logits_of(tokens, weights, variant, records):
    """One sequence of S tokens -> S vectors [V]."""
    x_SD = [weights["embedding"][t] for t in tokens]
    for layer in range(LAYERS):
        prefix = f"layers.{layer}."
        normed = [rms_norm(x_D, weights[prefix + "attention_norm.weight"]) for x_D in x_SD]
        mixed = attention(normed, weights[prefix + "attention.qkv"], weights[prefix + "attention.output"])
        x_SD = [x_D + y_D for x_D, y_D in zip(x_SD, mixed)]
        normed = [rms_norm(x_D, weights[prefix + "channel_norm.weight"]) for x_D in x_SD]
        if variant.moe:
            mixed = moe(normed, weights, prefix + "moe.", variant, records[layer])
        else:
            gate_up, down = weights[prefix + "feed_forward.gate_up"], weights[prefix + "feed_forward.down"]
            mixed = [feed_forward(x_D, gate_up, down) for x_D in normed]
        x_SD = [x_D + y_D for x_D, y_D in zip(x_SD, mixed)]
    return [weights["head"] @ rms_norm(x_D, weights["final_norm.weight"]) for x_D in x_SD]


def balance_loss(record):
    """E sum_i f_i P_i over the whole batch; counts carry no gradient."""
    num_tokens = len(record.probabilities)
    mean_probability = sum(record.probabilities) / num_tokens
    return E * sum(record.counts[e] / (K * num_tokens) * mean_probability[e] for e in range(E))


def z_loss(record):
    return sum(record.squared_logsumexps) / len(record.squared_logsumexps)


def losses_of(windows, weights, variant):
    """Windows of S + 1 tokens -> the parts of the objective, and the routing of each MoE layer."""
    records = [RoutingRecord() for _ in range(LAYERS)] if variant.moe else []
    surprises = []
    for window in windows.tolist():
        for logits, target in zip(logits_of(window[:S], weights, variant, records), window[1:]):
            surprises.append(torch.logsumexp(logits, 0) - logits[target])
    zero = torch.zeros((), dtype=torch.float64)
    losses = {
        "cross_entropy": sum(surprises) / len(surprises),
        "aux_loss": sum((balance_loss(record) for record in records), zero),
        "z_loss": sum((z_loss(record) for record in records), zero),
    }
    losses["loss"] = losses["cross_entropy"] + AUX_LOSS_COEFF * losses["aux_loss"] + Z_LOSS_COEFF * losses["z_loss"]
    return losses, records


def adamw(weight, gradient, moments, step):
    first, second = moments
    first.mul_(BETA1).add_((1 - BETA1) * gradient)
    second.mul_(BETA2).add_((1 - BETA2) * gradient**2)
    if weight.dim() >= 2:
        weight -= LEARNING_RATE * WEIGHT_DECAY * weight
    weight -= LEARNING_RATE * (first / (1 - BETA1**step)) / (torch.sqrt(second / (1 - BETA2**step)) + ADAM_EPS)


def parameter_shapes(variant):
    shapes = {"embedding": (V, D), "final_norm.weight": (D,), "head": (V, D)}
    for layer in range(LAYERS):
        prefix = f"layers.{layer}."
        shapes[prefix + "attention_norm.weight"] = (D,)
        shapes[prefix + "attention.qkv"] = ((HEADS + 2 * KEY_VALUE_HEADS) * HEAD_WIDTH, D)
        shapes[prefix + "attention.output"] = (D, HEADS * HEAD_WIDTH)
        shapes[prefix + "channel_norm.weight"] = (D,)
        if not variant.moe:
            shapes[prefix + "feed_forward.gate_up"] = (2 * DENSE_WIDTH, D)
            shapes[prefix + "feed_forward.down"] = (D, DENSE_WIDTH)
            continue
        shapes[prefix + "moe.router.weight"] = (E, D)
        shapes[prefix + "moe.experts.gate_up"] = (E, 2 * EXPERT_WIDTH, D)
        shapes[prefix + "moe.experts.down"] = (E, D, EXPERT_WIDTH)
        if variant.shared_expert:
            shapes[prefix + "moe.shared_expert.gate_up"] = (2 * SHARED_WIDTH, D)
            shapes[prefix + "moe.shared_expert.down"] = (D, SHARED_WIDTH)
    return shapes


def initial_weights(variant, random):
    """Values that float32 holds exactly; norms away from 1, so that a forgotten one shows."""
    return {
        name: (random.normal(0.0, 0.2, shape) + (1.0 if len(shape) == 1 else 0.0)).astype(numpy.float32)
        for name, shape in parameter_shapes(variant).items()
    }


def token_windows(random):
    """A walk round the vocabulary with random small steps: there is something to learn, and something left to chance."""
    first, moves = random.integers(0, V, (STEPS, B, 1)), random.integers(1, 4, (STEPS, B, S))
    return (numpy.concatenate([first, first + moves.cumsum(2)], 2) % V).astype(numpy.int64)


def take_step(step, windows, weights, moments, variant):
    """One update in place; the objective's parts, the routing, and the gradients before clipping with their norm."""
    losses, records = losses_of(windows, weights, variant)
    gradients = dict(zip(weights, torch.autograd.grad(losses["loss"], list(weights.values()))))
    norm = math.sqrt(sum((gradient**2).sum().item() for gradient in gradients.values()))
    scale = CLIP_NORM / norm if norm > CLIP_NORM else 1.0
    with torch.no_grad():
        for name, weight in weights.items():
            adamw(weight, gradients[name] * scale, moments[name], step)
    return losses, records, gradients, norm


def as_float32(prefix, tensors):
    return {f"{prefix}.{name}": tensor.detach().numpy().astype(numpy.float32) for name, tensor in tensors.items()}


def train(variant):
    """The golden tensors by name, and the smallest gap between probabilities that decided something."""
    random = numpy.random.default_rng(variant.seed)
    initial = initial_weights(variant, random)
    tokens = token_windows(random)
    weights = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in initial.items()}
    moments = {name: (torch.zeros_like(weight), torch.zeros_like(weight)) for name, weight in weights.items()}
    golden = {"tokens": tokens, **as_float32("initial", weights)}
    series = {name: [] for name in SCALARS}
    counts, dropped, smallest_gap = [], [], math.inf
    for step in range(1, STEPS + 1):
        losses, records, gradients, norm = take_step(step, tokens[step - 1], weights, moments, variant)
        if step == 1:
            golden |= as_float32("gradient", gradients)
        for name, value in losses.items():
            series[name].append(value.item())
        series["grad_norm"].append(norm)
        counts.append([record.counts for record in records])
        dropped.append([record.dropped for record in records])
        smallest_gap = min([smallest_gap, *(record.smallest_gap for record in records)])
    golden |= as_float32("final", weights)
    golden |= {name: numpy.array(values, dtype=numpy.float64) for name, values in series.items()}
    if variant.moe:
        golden["expert_counts"] = numpy.array(counts, dtype=numpy.int64)
        golden["dropped_counts"] = numpy.array(dropped, dtype=numpy.int64)
    return golden, smallest_gap


def report(variant, golden, smallest_gap):
    for step in range(STEPS):
        print(variant.name, "step", step + 1, *(f"{name} {golden[name][step]:.6f}" for name in SCALARS))
    if variant.moe:
        totals = {name: golden[name].sum(0).tolist() for name in ("expert_counts", "dropped_counts")}
        print(variant.name, totals, f"smallest gap {smallest_gap:.2e}")


def main():
    torch.set_num_threads(1)  # sums in one order
    for variant in VARIANTS:
        golden, smallest_gap = train(variant)
        report(variant, golden, smallest_gap)
        if smallest_gap <= SMALLEST_GAP:
            raise SystemExit(f"{variant.name}: a choice is a near-tie; take another seed")
        safetensors.numpy.save_file(golden, pathlib.Path(__file__).with_name(variant.name + ".safetensors"))


if __name__ == "__main__":
    main()
