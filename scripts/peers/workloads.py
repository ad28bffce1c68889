"""What a worker computes: each makes new random inputs, outside of the timed part, and computes a repetition."""

import os

import torch
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
INIT_STD = 0.02


def initialise(module):
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=INIT_STD)


class BareGemms:
    """torch.mm alone, with the same rows at every repetition: forward and both products of backward of each matrix."""

    def __init__(self, spec, generator):
        self.products = []
        for count, rows, width_in, width_out in spec["gemms"]:
            for _ in range(count):
                self.products.append(self.operands(rows, width_in, width_out, DTYPES[spec["dtype"]], generator))

    @staticmethod
    def operands(rows, width_in, width_out, dtype, generator):
        def random(*shape):
            return torch.randn(*shape, generator=generator).to(dtype)

        x, weight, slope = random(rows, width_in), random(width_out, width_in), random(rows, width_out)
        return x, weight, slope, torch.empty_like(slope), torch.empty_like(x), torch.empty_like(weight)

    def inputs(self):
        return None

    def compute(self, _):
        for x, weight, _, y, _, _ in self.products:
            torch.mm(x, weight.t(), out=y)
        for x, weight, slope, _, x_slope, weight_slope in reversed(self.products):
            torch.mm(slope, weight, out=x_slope)
            torch.mm(slope.t(), x, out=weight_slope)


class Layer:
    """Forward and backward of a module, with the gradients of its input and of all weights."""

    def __init__(self, spec, generator, module):
        self.shape, self.generator = (1, spec["tokens"], spec["d_model"]), generator
        self.dtype = DTYPES[spec["dtype"]]
        initialise(module)
        self.module = module.to(self.dtype).train()

    def inputs(self):
        self.module.zero_grad(set_to_none=True)
        tokens, slope = (torch.randn(*self.shape, generator=self.generator).to(self.dtype) for _ in range(2))
        return tokens.requires_grad_(), slope

    def compute(self, inputs):
        tokens, slope = inputs
        result = self.module(tokens)
        output = result[0] if isinstance(result, tuple) else result
        output.backward(slope)


def transformers_layer(spec, generator):
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(hidden_size=spec["d_model"], intermediate_size=spec["ffn"],
                           num_local_experts=spec["experts"], num_experts_per_tok=spec["top_k"],
                           experts_implementation=spec["implementation"])
    return Layer(spec, generator, MixtralSparseMoeBlock(config))


class SwiGlu(nn.Module):
    """An expert as a user of DeepSpeed would write it: gate and up are one matrix."""

    def __init__(self, d_model, ffn):
        super().__init__()
        self.gate_up, self.down = nn.Linear(d_model, 2 * ffn, bias=False), nn.Linear(ffn, d_model, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(nn.functional.silu(gate) * up)


def deepspeed_layer(spec, generator):
    """Without noise on the second choice, so that it chooses as Mixtral does."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    from deepspeed.moe.layer import MoE

    # An extension for all-reduces, which this layer does not need, would be compiled for minutes.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    layer = MoE(hidden_size=spec["d_model"], expert=SwiGlu(spec["d_model"], spec["ffn"]), num_experts=spec["experts"],
                ep_size=spec["ranks"], k=spec["top_k"], capacity_factor=1.0, drop_tokens=spec["drop_tokens"],
                use_rts=False, top2_2nd_expert_sampling=False)
    layer.set_deepspeed_parallelism()
    return Layer(spec, generator, layer)


class Step:
    """A training step of transformers' Mixtral: forward, backward, clipping, AdamW, which with "masters" has fp32
    weights even where the model has bf16 ones."""

    def __init__(self, spec, generator):
        self.spec, self.generator = spec, generator
        self.model = self.make_model(spec).to(DTYPES[spec["dtype"]]).train()
        self.weights = list(self.model.parameters())
        copies = spec["masters"] and spec["dtype"] != "fp32"
        self.masters = [nn.Parameter(weight.detach().float()) for weight in self.weights] if copies else self.weights
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    @staticmethod
    def make_model(spec):
        from transformers import MixtralConfig, MixtralForCausalLM

        return MixtralForCausalLM(MixtralConfig(
            vocab_size=spec["vocabulary"], hidden_size=spec["d_model"], intermediate_size=spec["ffn"],
            num_hidden_layers=spec["layers"], num_attention_heads=spec["heads"],
            num_key_value_heads=spec["kv_heads"], max_position_embeddings=spec["length"],
            num_local_experts=spec["experts"], num_experts_per_tok=spec["top_k"], tie_word_embeddings=False,
            output_router_logits=False, use_cache=False, attn_implementation="sdpa",
            experts_implementation=spec["implementation"]))

    def inputs(self):
        shape = (self.spec["sequences"], self.spec["length"] + 1)
        tokens = torch.randint(self.spec["vocabulary"], shape, generator=self.generator)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def compute(self, inputs):
        tokens, targets = inputs
        self.model(input_ids=tokens, labels=targets, shift_labels=targets).loss.backward()
        if self.masters is not self.weights:
            for master, weight in zip(self.masters, self.weights):
                master.grad, weight.grad = weight.grad.float(), None
        nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.masters is not self.weights:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.masters)


WORKLOADS = {"gemms": BareGemms, "transformers_layer": transformers_layer, "deepspeed_layer": deepspeed_layer,
             "step": Step}
