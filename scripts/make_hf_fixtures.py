#!/usr/bin/env python3
"""Tiny random models of the Hugging Face families, and what transformers computes with them: scripts/make_hf_fixtures.py OUT --seed N

Writes OUT/VARIANT for each variant (or those named with --only): config.json and the weights as save_pretrained writes them, and
expected.safetensors with input_ids, labels, logits, lm_loss, loss (with the balancing loss), router_logits.N, grad.NAME of the loss, and
aux_loss, attention_mask, aux_loss_masked, logits_masked where the family has a balancing loss. Sizes and weights depend on the seed and the
variant's name (hf_variants.py) alone. Weights are large, so that every part shows in the logits, and drawn again until rounding can neither
flip a routing decision (none is closer than --margin) nor move a logit by much (one more rounding of every weight moves none by --shift), nor a
gradient (fp32 and fp64 give the same but for --gradient-shift of its norm). It runs in .venv-verify, made by scripts/setup.sh --verify.
"""

import argparse
import copy
import json
import os
import random
import sys
import tempfile
import zlib
from pathlib import Path

from hf_variants import variants

VERIFY_PYTHON = Path(__file__).resolve().parent.parent / ".venv-verify" / "bin" / "python"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
except ImportError:
    if not VERIFY_PYTHON.exists() or Path(sys.executable) == VERIFY_PYTHON:
        sys.exit("make_hf_fixtures.py needs transformers and the full torch wheel: run scripts/setup.sh --verify")
    os.execv(VERIFY_PYTHON, [str(VERIFY_PYTHON), *sys.argv])


def draw_weights(model, generator, rounding):
    """Matrices that keep the size of what passes through, norms around 1, large biases and sinks; small latents, so that their eps shows."""
    buffers = [(name, value) for name, value in model.named_buffers() if name.endswith("e_score_correction_bias")]
    inputs_first = type(model).__name__.startswith(("GptOss", "Llama4"))
    for name, value in [*model.named_parameters(), *buffers]:
        normal = torch.randn(value.shape, generator=generator)
        leaf = name.split(".")[-2] if name.endswith(".weight") else name.split(".")[-1]
        if leaf == "e_score_correction_bias":
            drawn = 0.3 * normal - 0.4
        elif leaf == "sinks":
            drawn = normal
        elif "norm" in leaf:
            drawn = 1.0 + 0.25 * normal
        elif leaf.endswith("bias"):
            drawn = 0.3 * normal
        elif leaf == "embed_tokens":
            drawn = 0.5 * normal
        elif leaf in ("gate", "router"):
            drawn = 0.6 * normal
        else:
            fan_in = value.shape[-2] if inputs_first and value.dim() == 3 else value.shape[-1]
            drawn = 1.2 * normal / fan_in**0.5
        if "q_a_proj" in name or "kv_a_proj_with_mqa" in name:
            drawn[: model.config.kv_lora_rank if "kv_a" in name else None] *= 0.02
        if type(model).__name__.startswith("Deepseek") and leaf in ("q_proj", "q_b_proj"):
            drawn *= 0.4  # its factor on the scores sharpens them enough
        if leaf == "gate" and type(model).__name__.startswith("FlexOlmo"):
            drawn *= 0.4  # nothing norms what its routers see
        if leaf == "gate_up_proj" and type(model).__name__.startswith("GptOss"):
            drawn *= 3.0  # into the clamp
        if leaf == "down_proj" and type(model).__name__.startswith("GptOss"):
            drawn *= 0.4  # of the large numbers that the clamp leaves
        value.data.copy_(drawn.to(rounding).to(value.dtype))


def closest_decision(model, router_logits):
    """The smallest gap between what the routers took and what they left, in scores or logits; over groups too."""
    config, closest = model.config, float("inf")
    biases = [value for name, value in model.named_buffers() if name.endswith("e_score_correction_bias")]

    def gap(values, taken):
        ordered = values.sort(dim=-1, descending=True).values
        return (ordered[:, taken - 1] - ordered[:, taken]).min().item() if taken < values.shape[-1] else float("inf")

    for layer, logits in enumerate(router_logits):
        scores = logits.reshape(-1, logits.shape[-1])
        if biases:
            scores = scores.sigmoid() + biases[layer]
        groups, taken = getattr(config, "n_group", None) or 1, getattr(config, "topk_group", None) or 1
        if groups > taken:
            by_group = scores.unflatten(-1, (groups, -1))
            worth = by_group.topk(2, dim=-1).values.sum(-1) if biases else by_group.amax(-1)
            closest = min(closest, gap(worth, taken))
            open_groups = torch.zeros_like(worth).scatter(1, worth.topk(taken, dim=-1).indices, 1.0).bool()
            scores = by_group.masked_fill(~open_groups.unsqueeze(-1), -1e4).flatten(1)
        closest = min(closest, gap(scores, config.num_experts_per_tok))
    return closest


def shift_by_rounding(model, ids, seed):
    """How far logits, of routers too, move when every weight is rounded once more: what no two implementations agree better than."""
    def all_logits(model):
        output = model(input_ids=ids, use_cache=False, **({"output_router_logits": True} if hasattr(model.config, "num_experts_per_tok") else {}))
        return [output.logits, *(getattr(output, "router_logits", None) or [])]

    generator, largest = torch.Generator().manual_seed(seed), 0.0
    with torch.no_grad():
        exact = all_logits(model)
        for _ in range(3):
            rounded = copy.deepcopy(model)
            for value in rounded.parameters():
                value.mul_(1.0 + 2.0**-23 * torch.randn(value.shape, generator=generator))
            largest = max(largest, *((a - b).abs().max().item() for a, b in zip(all_logits(rounded), exact)))
    return largest


def gradient_error(model, ids, labels):
    """How far the gradients of fp32 are from those of fp64, of each one's norm. Some are sums of terms that cancel."""
    def gradients(model):
        run_model(model, ids, labels)[0].loss.backward()
        return [value.grad.double() for value in model.parameters() if value.grad is not None]

    approximate, exact = gradients(copy.deepcopy(model)), gradients(copy.deepcopy(model).double())
    largest = max(value.norm().item() for value in exact)
    return max((a - b).norm().item() / max(b.norm().item(), 1e-4 * largest) for a, b in zip(approximate, exact))


def run_model(model, ids, labels, mask=None):
    has_experts = hasattr(model.config, "num_experts_per_tok")
    more = {"output_router_logits": True} if has_experts else {}
    return model(input_ids=ids, labels=labels, attention_mask=mask, use_cache=False, **more), has_experts


def gradients_as_saved(model, folder):
    """The gradients under the names of files: a model that has them for weights is saved."""
    shadow = copy.deepcopy(model)
    for value, (name, source) in zip(shadow.parameters(), model.named_parameters()):
        value.data.copy_(torch.zeros_like(source) if source.grad is None else source.grad)
    shadow.save_pretrained(folder)
    saved = load_file(Path(folder) / "model.safetensors")
    return {f"grad.{name}": value for name, value in saved.items() if not name.endswith("e_score_correction_bias")}


def expected_values(model, ids, labels):
    output, has_experts = run_model(model, ids, labels)
    output.loss.backward()
    with tempfile.TemporaryDirectory() as folder:
        expected = gradients_as_saved(model, folder)
    expected.update(input_ids=ids, labels=labels, logits=output.logits, loss=output.loss)
    with torch.no_grad():
        expected["lm_loss"] = model(input_ids=ids, labels=labels, use_cache=False).loss
        for layer, logits in enumerate(output.router_logits if has_experts else []):
            expected[f"router_logits.{layer}"] = logits
        if getattr(output, "aux_loss", None) is not None:
            mask = torch.ones_like(ids)
            mask[-1, -4:] = 0
            masked, _ = run_model(model, ids, labels, mask)
            expected.update(aux_loss=output.aux_loss, attention_mask=mask, aux_loss_masked=masked.aux_loss, logits_masked=masked.logits)
    return {name: (value.detach().float() if value.is_floating_point() else value).contiguous() for name, value in expected.items()}


def rewrite_for_version_4(path):
    """config.json as transformers 4 wrote it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else dict(rope, type=kind)
    config["torch_dtype"] = config.pop("dtype")
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts", config.get("num_experts"))
    path.write_text(json.dumps(config, indent=2) + "\n")


def compute_plainly(model):
    """Without dropout, and one expert after the other: the grouped product takes aligned widths only."""
    model.eval()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")


def check_files(folder, expected):
    """That transformers reads back what was written, whatever form it was given: in fp32 the logits are the same."""
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True, output_loading_info=True)
    problems = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    if problems:
        sys.exit(f"{folder}: transformers does not read it cleanly: {problems}")
    compute_plainly(model)
    with torch.no_grad():
        logits = model(input_ids=expected["input_ids"], use_cache=False).logits
    difference = (logits - expected["logits"]).abs().max().item()
    if not difference < 1e-5:
        sys.exit(f"{folder}: the files give other logits than the model they were written from: {difference}")


def draw_model(name, own_seed, rounding, limits):
    """A model that rounding does not change, tokens and labels, how close its closest decision is, and how many draws it took."""
    family, keys, _ = variants()[name]
    draw = random.Random(own_seed)
    config = getattr(transformers, f"{family}Config")(**keys(draw))
    config._attn_implementation = "eager"
    for attempt in range(500):
        generator = torch.Generator().manual_seed(own_seed + attempt)
        model = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")(config)
        compute_plainly(model)
        draw_weights(model, generator, rounding)
        ids = torch.randint(0, config.vocab_size, (2, draw.choice([11, 13])), generator=generator)
        labels = ids.clone()
        labels[0, :3] = -100
        with torch.no_grad():
            output, has_experts = run_model(model, ids, labels)
        closest = closest_decision(model, output.router_logits) if has_experts else float("inf")
        if (closest > limits.margin and shift_by_rounding(model, ids, own_seed) < limits.shift
                and gradient_error(model, ids, labels) < limits.gradient_shift):
            return model, ids, labels, closest, attempt + 1
    sys.exit(f"{name}: no draw with decisions further than {limits.margin} apart, and with logits and gradients that rounding moves by less "
             f"than {limits.shift} and {limits.gradient_shift}")


def make(name, folder, seed, limits):
    form = variants()[name][2]
    rounding = getattr(torch, form.get("dtype", "float32"))
    model, ids, labels, closest, draws = draw_model(name, zlib.crc32(f"{name}/{seed}".encode()), rounding, limits)
    expected = expected_values(model, ids, labels)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(rounding).save_pretrained(folder, max_shard_size=form.get("shard_bytes", 10**9), save_original_format=not form.get("stacked", False))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if form.get("version_4"):
        rewrite_for_version_4(folder / "config.json")
    save_file(expected, folder / "expected.safetensors")
    check_files(folder, expected)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name:18s} seed {seed}  {size:7d} bytes  draw {draws:3d}  closest decision {closest:.1e}  loss {expected['loss'].item():.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(variants()), default=list(variants()))
    parser.add_argument("--margin", type=float, default=2e-3)
    parser.add_argument("--shift", type=float, default=1.5e-5)
    parser.add_argument("--gradient-shift", type=float, default=1.5e-5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in arguments.only:
        make(name, arguments.out / name, arguments.seed, arguments)


if __name__ == "__main__":
    main()
