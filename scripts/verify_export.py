#!/usr/bin/env python3
"""Proves an export: scripts/verify_export.py DIR

Loads DIR (made by `switchyard export RUN --to DIR`) with Hugging Face transformers in fp32, computes the logits and the balancing loss of
fixed random tokens, has the switchyard binary compute the same from the checkpoint that the export came from, and compares. Exit code 1
when they differ by more than the tolerance. It runs in .venv-verify, made by scripts/setup.sh --verify.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VERIFY_PYTHON = REPOSITORY / ".venv-verify" / "bin" / "python"
AUX_LOSS_TOLERANCE = 1e-5  # relative

try:
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError:
    if not VERIFY_PYTHON.exists() or Path(sys.executable) == VERIFY_PYTHON:
        sys.exit("verify_export.py needs transformers and the full torch wheel: run scripts/setup.sh --verify")
    os.execv(VERIFY_PYTHON, [str(VERIFY_PYTHON), *sys.argv])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path, help="folder in Hugging Face layout, with switchyard.json")
    parser.add_argument("--source", type=Path, help="checkpoint to compare with (default: the one named in switchyard.json)")
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "build" / "release" / "switchyard")
    parser.add_argument("--tolerance", type=float, default=2e-5, help="largest absolute difference of logits (default 2e-5)")
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--length", type=int, default=64, help="tokens a sequence, cut to the model's maximum (default 64)")
    parser.add_argument("--seed", type=int, default=1234)
    return parser.parse_args()


def find_source(export):
    """The checkpoint folder that switchyard.json names; a relative path is seen from the export's folder."""
    description = export / "switchyard.json"
    if not description.is_file():
        sys.exit(f"{description}: no such file; was {export} made by `switchyard export`? --source names the checkpoint otherwise")
    source = export / json.loads(description.read_text())["source"]
    if not source.exists():
        sys.exit(f"{description}: its source {source} does not exist any more; --source names the checkpoint")
    return source


def load_reference(export):
    """The model as transformers reads it. transformers fills absent tensors with random numbers and only warns: here that is an error."""
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        export, dtype=torch.float32, attn_implementation="eager", local_files_only=True, output_loading_info=True)
    problems = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    if problems:
        sys.exit(f"{export}: transformers does not read it cleanly: {problems}")
    return model.eval()


def reference_results(model, ids):
    """Logits [B, S, V] and the balancing loss over all MoE layers; None for a dense model."""
    is_moe = hasattr(model.config, "router_aux_loss_coef")
    with torch.no_grad():
        outputs = model(input_ids=ids, use_cache=False, **({"output_router_logits": True} if is_moe else {}))
    return outputs.logits, outputs.aux_loss if is_moe else None


def our_results(binary, source, ids):
    with tempfile.TemporaryDirectory() as folder:
        ids_file, output = Path(folder) / "ids.json", Path(folder) / "logits.safetensors"
        ids_file.write_text(json.dumps({"ids": ids.tolist()}))
        command = [str(binary), "logits", str(source), "--ids", str(ids_file), "--output", str(output)]
        print(" ".join(command))
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            sys.exit(f"{binary}: no such binary; build it with scripts/build.sh")
        except subprocess.CalledProcessError as error:
            sys.exit(f"switchyard logits failed with exit code {error.returncode}")
        tensors = load_file(output)
    return tensors["logits"], tensors.get("aux_loss")


def compare_logits(ours, reference, tolerance):
    if ours.shape != reference.shape:
        print(f"logits: MISMATCH: shape {list(ours.shape)}, transformers has {list(reference.shape)}")
        return False
    difference = (ours - reference).abs().max().item()
    agree = difference <= tolerance  # false for NaN
    print(f"logits: {'agree' if agree else 'MISMATCH'}: largest difference {difference:.2e} (tolerance {tolerance:.0e}), "
          f"largest logit {reference.abs().max().item():.2f}, {reference.numel()} values")
    return agree


def compare_aux_losses(ours, reference):
    if reference is None:
        print("balancing loss: none, the model is dense")
        return True
    if ours is None:
        print("balancing loss: MISMATCH: the binary wrote none for a model with experts")
        return False
    difference = abs(ours.item() - reference.item()) / abs(reference.item())
    agree = difference <= AUX_LOSS_TOLERANCE
    print(f"balancing loss: {'agree' if agree else 'MISMATCH'}: {ours.item():.7f}, transformers {reference.item():.7f}, "
          f"relative difference {difference:.2e} (tolerance {AUX_LOSS_TOLERANCE:.0e})")
    return agree


def main():
    arguments = parse_arguments()
    source = arguments.source or find_source(arguments.export)
    model = load_reference(arguments.export)
    length = min(arguments.length, model.config.max_position_embeddings)
    ids = torch.randint(model.config.vocab_size, (arguments.sequences, length), generator=torch.Generator().manual_seed(arguments.seed))
    logits, aux_loss = reference_results(model, ids)
    our_logits, our_aux_loss = our_results(arguments.binary, source, ids)
    logits_agree = compare_logits(our_logits, logits, arguments.tolerance)
    aux_losses_agree = compare_aux_losses(our_aux_loss, aux_loss)
    sys.exit(0 if logits_agree and aux_losses_agree else 1)


if __name__ == "__main__":
    main()
