"""Who runs, and with what sizes."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LayerSizes:
    """Tokens are those of one rank."""

    experts: int = 8
    top_k: int = 2
    d_model: int = 512
    ffn: int = 1024
    tokens: int = 2048

    def gemms(self, ranks: int) -> list:
        """[count, rows, width in, width out] of what a rank computes with even experts; gate and up are one."""
        count, rows = self.experts // ranks, ranks * self.tokens * self.top_k // self.experts
        return [[count, rows, self.d_model, 2 * self.ffn], [count, rows, self.ffn, self.d_model]]

    def text(self) -> str:
        return (f"hidden size {self.d_model}, {self.experts} SwiGLU experts of width {self.ffn}, top-{self.top_k}, "
                f"{self.tokens:,} tokens a rank")


@dataclass(frozen=True)
class StepSizes:
    layers: int = 4
    d_model: int = 512
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 1024
    experts: int = 8
    top_k: int = 2
    vocabulary: int = 8192
    sequences: int = 4
    length: int = 512

    @property
    def tokens(self) -> int:
        return self.sequences * self.length

    def gemms(self, ranks: int) -> list:
        """The experts of all layers, attention's four projections and the output head; not the scores of attention."""
        experts = LayerSizes(self.experts, self.top_k, self.d_model, self.ffn, self.tokens).gemms(ranks)
        kv_width = self.d_model // self.heads * self.kv_heads
        return [*([self.layers * count, *shape] for count, *shape in experts),
                [2 * self.layers, self.tokens, self.d_model, self.d_model],
                [2 * self.layers, self.tokens, self.d_model, kv_width],
                [1, self.tokens, self.d_model, self.vocabulary]]

    def overrides(self) -> list:
        keys = {
            "model.num_layers": self.layers, "model.hidden_size": self.d_model, "model.num_attention_heads": self.heads,
            "model.num_key_value_heads": self.kv_heads, "model.vocab_size": self.vocabulary,
            "model.max_sequence_length": self.length, "model.moe.ffn_hidden_size": self.ffn,
            "model.moe.num_experts": self.experts, "model.moe.top_k": self.top_k,
            "training.global_batch_size": self.sequences, "training.micro_batch_size": self.sequences,
        }
        return [f"{key}={value}" for key, value in keys.items()]

    def text(self) -> str:
        return (f"{self.layers} layers, hidden size {self.d_model}, {self.heads} heads and {self.kv_heads} key-value "
                f"heads, {self.experts} SwiGLU experts of width {self.ffn}, top-{self.top_k}, vocabulary "
                f"{self.vocabulary:,}, {self.sequences} sequences of {self.length} tokens")


QUICK_LAYER = LayerSizes(d_model=64, ffn=128, tokens=128)
QUICK_STEP = StepSizes(layers=2, d_model=64, heads=4, kv_heads=2, ffn=128, vocabulary=512, sequences=2, length=32)


@dataclass(frozen=True)
class Contender:
    name: str
    note: str
    spec: dict  # of its worker; empty: Switchyard
    absence: str = ""  # why it is not even tried


@dataclass(frozen=True)
class Case:
    """What is compared with each other, in one table."""

    kind: str  # layer or step
    dtype: str
    ranks: int
    threads: int
    sizes: LayerSizes | StepSizes
    contenders: list

    def title(self) -> str:
        def count(number: int, noun: str) -> str:
            return f"{number} {noun}{'s' if number > 1 else ''}"

        return f"{self.kind.capitalize()}, {self.dtype}, {count(self.ranks, 'rank')} x {count(self.threads, 'thread')}"

    def tokens(self) -> int:
        """Of all ranks."""
        return self.sizes.tokens * self.ranks

    def spec(self, contender: Contender) -> dict:
        gemms = self.sizes.gemms(self.ranks)
        common = {"dtype": self.dtype, "ranks": self.ranks, "threads": self.threads, "gemms": gemms}
        return {**asdict(self.sizes), **common, **contender.spec}


BARE_GEMMS = Contender("bare GEMMs", "`torch.mm` with even rows, the same at every repetition: the limit",
                       {"workload": "gemms"})
SWITCHYARD = Contender("Switchyard", "", {})
NO_RANKS = "transformers splits experts over ranks only inside a whole model that it loads with a parallel plan"


IMPLEMENTATIONS = ("grouped_mm", "eager")  # of transformers' experts
CAPACITIES = (
    ("dropless", False, "`drop_tokens=False`: every expert is padded to the fullest"),
    ("drops", True, "capacity factor 1.0: DROPS what exceeds an expert's even share, and pads the others to it"),
)


def layer_contenders(ranks: int) -> list:
    found = [BARE_GEMMS, SWITCHYARD]
    for implementation in IMPLEMENTATIONS:
        note = f"`MixtralSparseMoeBlock`, experts implementation `{implementation}`; dropless"
        spec = {"workload": "transformers_layer", "implementation": implementation}
        found.append(Contender(f"transformers, {implementation}", note, spec, NO_RANKS if ranks > 1 else ""))
    for name, drop, note in CAPACITIES:
        spec = {"workload": "deepspeed_layer", "drop_tokens": drop}
        found.append(Contender(f"DeepSpeed, {name}", f"`deepspeed.moe.layer.MoE`, {note}", spec))
    return found


def step_contenders(dtype: str) -> list:
    found = [BARE_GEMMS, SWITCHYARD]
    masters = "; in bf16 AdamW has fp32 copies of the weights, as in Switchyard"
    for implementation in IMPLEMENTATIONS:
        note = f"`MixtralForCausalLM`, experts implementation `{implementation}`{masters}"
        spec = {"workload": "step", "implementation": implementation, "masters": True}
        found.append(Contender(f"transformers, {implementation}", note, spec))
    if dtype == "bf16":
        spec = {"workload": "step", "implementation": "grouped_mm", "masters": False}
        note = "the same without fp32 copies: less memory and work, coarser updates"
        found.append(Contender("transformers, grouped_mm, all bf16", note, spec))
    return found


def make_cases(kinds: list, dtypes: list, ranks: list, quick: bool) -> list:
    """Two CPUs' worth of each: one rank of two threads, or two ranks of one. Steps are of one rank."""
    layer, step = (QUICK_LAYER, QUICK_STEP) if quick else (LayerSizes(), StepSizes())
    layers = [Case("layer", dtype, count, 2 // count, layer, layer_contenders(count))
              for dtype in dtypes for count in ranks]
    steps = [Case("step", dtype, 1, 2, step, step_contenders(dtype)) for dtype in dtypes]
    return (layers if "layer" in kinds else []) + (steps if "step" in kinds else [])
