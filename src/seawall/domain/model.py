"""What a model's config.json says, as the planner needs it. Plain frozen data, no I/O.

`shapes/config.py` makes it from Hugging Face configs of any shape; `decide/plan` reads it. It is
per layer, because hybrid models, pipeline stages and KV-cache groups are: nothing here is an average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LayerKind = Literal["full", "sliding", "chunked", "recurrent", "compressed", "shared", "none"]
"""`compressed` keeps a window and one entry for several tokens (DeepSeek V4), `shared` attends to the cache of an
earlier layer, `none` has no token mixer (an MLP-only block)."""


@dataclass(frozen=True)
class Layer:
    """One decoder layer: what it caches and which MLP it has."""

    kind: LayerKind
    heads: int
    kv_heads: int
    head_dim: int
    head_dim_v: int
    window: int = 0
    """Sliding window or attention chunk in tokens; 0 without."""
    experts: bool = False
    """The MLP is a mixture of experts."""
    intermediate: int = 0
    """Width of the dense MLP; 0 when there is none. Gemma 4's mixtures have both in one layer."""
    indexed: bool = False
    """Sparse attention's own index is kept here (some models share one between layers)."""
    again: bool = False
    """The weights are an earlier layer's: the model passes some layers more than once, with a cache for each."""
    state: bool = False
    """Keeps a recurrent state beside its attention (Falcon H1, the hybrid layers of Zamba 2)."""
    ratio: int = 0
    """DeepSeek V4: so many tokens share one entry of the compressed cache; 0: the window is all there is."""


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: sizes of one MoE layer."""

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    """Width of all shared experts together."""
    latent: int = 0
    """Width that routed experts work in, where it is not the model's own (Nemotron 3, Kimi K3)."""
    matrices: int = 3
    """Gate, up and down; 2 without a gate."""
    idle: int = 0
    """Experts without weights that a token may be routed to as well (LongCat)."""

    @property
    def used(self) -> float:
        """Share of the experts' weights that one token passes through."""
        return self.per_token / (self.count + self.idle)


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (MLA): DeepSeek V2/V3/R1, Kimi, GLM 5, Mistral Small 4."""

    kv_lora_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int
    q_lora_rank: int = 0
    gated: bool = False
    """A gate as wide as the values beside the output projection (Kimi K3)."""
    expanded: bool = False
    """Keys and values are cached whole for every head, not as one latent (MiniCPM 3)."""


@dataclass(frozen=True)
class Indexer:
    """Sparse attention's index: keys of its own, one per token (DSA) or per compressed entry (DeepSeek V4)."""

    head_dim: int
    heads: int
    separate_query: bool = False
    """Queries come from the hidden state, not from a low-rank query (MiniMax M3)."""


@dataclass(frozen=True)
class Compressed:
    """DeepSeek V4's attention: one latent key for all heads, low-rank queries and outputs, a compressed cache."""

    q_lora_rank: int
    o_lora_rank: int
    o_groups: int
    streams: int = 1
    """Residual streams that hyper-connections mix (hc_mult)."""


@dataclass(frozen=True)
class Recurrent:
    """Fixed-size state of linear-attention and state-space layers (Gated DeltaNet, Mamba)."""

    conv_elements: int
    """In the model's dtype."""
    state_elements: int
    state_bytes: int
    """Per element of the state: 2 or 4."""
    parameters: int
    """Parameters of one such mixer."""
    width: int = 0
    """Elements that one token is projected to (keys, queries, values, gate)."""
    scan: str = ""
    """The kernel that passes over a prompt: gdn, kda, mamba2 or another's."""
    taps: int = 0
    """Earlier tokens that `conv_elements` keeps; every draft token adds one (0: of drafts nothing is kept)."""


@dataclass(frozen=True)
class Tower:
    """A vision encoder for images of any size, as vLLM's profiling runs it: on the largest that it takes."""

    patches: int
    """Patches of the largest image."""
    merged: int
    """Patches that become one token."""
    hidden: int
    inner: int
    """Elements that its MLP holds per patch, gate included."""
    outputs: int = 1
    """Hidden states per token that are handed to the language model (deepstack)."""


@dataclass(frozen=True)
class Format:
    """How weights are stored, scales aside: `fp8` 8 bit, `nvfp4` 4 bit in groups of 16, ..."""

    method: str
    """fp8, mxfp8, int8, awq, gptq, mxfp4, nvfp4, bitsandbytes, gguf."""
    bits: float = 8
    group: int = 0
    """Weights that share a scale; 0: one scale per channel or tensor."""


ATTENTION = frozenset({"q", "kv", "o", "q_a", "q_b", "kv_a", "kv_b", "o_a", "gate", "indexer", "state"})
"""Parts of a layer that mix tokens."""
PARTS = ATTENTION | {"mlp", "experts", "shared", "latent", "head", "embed"}
"""Every part of a model whose weights may be stored in a format of their own."""


@dataclass(frozen=True)
class CheckpointQuantization:
    """How the checkpoint's weights are stored: one format, the parts that keep 16 bit, and layers that differ."""

    method: str
    bits: float = 8
    group: int = 0
    kept: frozenset[str] = frozenset({"head", "embed"})
    """Parts in the model's own dtype."""
    others: Mapping[str, Format] = field(default_factory=dict)
    """Parts in another format than the main one."""
    guessed: str = ""
    """The method's name, where nobody here knows what it does: counted as 8 bit."""
    layers: Mapping[int, Mapping[str, Format | None]] = field(default_factory=dict)
    """Layers in which some parts are stored otherwise; None: in the model's own dtype."""

    def format(self, part: str, layer: int | None = None) -> Format | None:
        """The format of one part of one layer (None: of the model, as head and embedding); None: plain 16 bit."""
        if layer is not None and part in (own := self.layers.get(layer, {})):
            return own[part]
        if part in self.others:
            return self.others[part]
        return None if part in self.kept else Format(self.method, self.bits, self.group)

    @property
    def attention(self) -> bool:
        """Attention projections are quantized too."""
        return not {"q", "o"} <= self.kept


def experts_only(method: str, bits: float, group: int) -> CheckpointQuantization:
    """Routed experts in a small format, all else in 16 bit: MXFP4 and most NVFP4 checkpoints of mixtures."""
    return CheckpointQuantization(method, bits, group, kept=PARTS - {"experts"})


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model's shape. Sizes are elements, lengths are tokens."""

    name: str
    architecture: str
    known: bool
    """False: the general formula for a transformer was used."""
    cache_compared: bool = True
    """False: its parameters were counted, and what it caches was read from its code but never held against vLLM's."""
    layers: tuple[Layer, ...]
    hidden: int
    vocab: int
    tied: bool
    max_position: int
    """Longest context that the config states; 0 when it states none."""
    reach: int
    """Longest context that the config allows, scaling included; vLLM refuses more. 0: not stated."""
    dtype: str
    gated_mlp: bool = True
    query_rank: int = 0
    """Width that queries pass on their way, where it is narrower than theirs (Step 3); 0: none."""
    gated_attention: bool = False
    """A gate as wide as the queries beside them (Qwen3-Next, Qwen3.5)."""
    experts: Experts | None = None
    latent: Latent | None = None
    indexer: Indexer | None = None
    compressed: Compressed | None = None
    recurrent: Recurrent | None = None
    quantization: CheckpointQuantization | None = None
    cache_dtype: str = "auto"
    """KV cache that the checkpoint asks for: what vLLM takes under `--kv-cache-dtype auto`."""
    multimodal: bool = False
    extra_parameters: int = 0
    """Vision or audio towers and projectors, in the model's dtype."""
    layer_embeddings: int = 0
    """Parameters of the small embeddings that Gemma 3n and 4 keep for every layer."""
    adapter_parameters: int = 0
    """LoRA adapters inside the checkpoint, which are loaded only when they are asked for."""
    tower: Tower | None = None
    """A vision encoder that takes images of any size; None: none, or one whose images are small."""
    draft: ModelConfig | None = None
    """The draft model that speculative decoding was given, when its shape is known."""
    rope_elements: int = 0
    """Precomputed rotary tables (positions x rotary width), whole on every GPU. Large for very long contexts."""
    draft_layers: int = 0
    """Multi-token-prediction layers in the checkpoint; loaded only for speculative decoding."""
    assumed_format: bool = False
    """The format was named, by a flag or a spec; which layers it leaves in 16 bit is a guess."""
    checkpoint_bytes: int | None = None
    """Exact size of all weight files (the safetensors index's total_size), when known."""
    notes: tuple[str, ...] = ()

    @property
    def context(self) -> int:
        """The context that vLLM takes without --max-model-len (2048 when the config states none)."""
        return self.max_position or 2048

    @property
    def recurs(self) -> bool:
        """Some layers keep a recurrent state."""
        return any(layer.kind == "recurrent" or layer.state for layer in self.layers)

    @property
    def heads(self) -> int:
        """Query heads of the widest layer: what the tensor-parallel size must divide."""
        return max((layer.heads for layer in self.layers), default=1)

    @property
    def kv_heads(self) -> int:
        return max((layer.kv_heads for layer in self.layers), default=1)
