"""What a model's config.json says, as the planner needs it. Plain frozen data, no I/O.

`shapes/config.py` makes it from Hugging Face configs of any shape; `decide/plan` reads it. It is
per layer, because hybrid models, pipeline stages and KV-cache groups are: nothing here is an average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["full", "sliding", "chunked", "recurrent", "shared", "none"]
"""`shared` attends to the cache of an earlier layer, `none` has no token mixer (an MLP-only block)."""


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
    """Width of the dense MLP; 0 when there is none."""


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: sizes of one MoE layer."""

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    """Width of all shared experts together."""


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (MLA): DeepSeek V2/V3/R1, Kimi, GLM 5, Mistral Small 4."""

    kv_lora_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int
    q_lora_rank: int = 0


@dataclass(frozen=True)
class Indexer:
    """Sparse attention's index cache (DSA): one fp8 key per token and layer."""

    head_dim: int
    heads: int


@dataclass(frozen=True)
class Recurrent:
    """Fixed-size state of linear-attention and state-space layers (Gated DeltaNet, Mamba)."""

    conv_elements: int
    """In the model's dtype."""
    state_elements: int
    state_bytes: int
    """Per element of the state: 2 or 4."""
    parameters: int
    """Of one such mixer."""


@dataclass(frozen=True)
class CheckpointQuantization:
    """How the checkpoint's weights are stored."""

    method: str
    """fp8, int8, awq, gptq, mxfp4, nvfp4, bitsandbytes, gguf."""
    bits: float = 8
    group: int = 0
    """Weights that share a scale; 0: one scale per channel or tensor."""
    attention: bool = True
    """Attention projections are quantized too."""
    experts_only: bool = False
    shared_experts: bool = True
    head: bool = False
    """lm_head and embeddings are quantized too (GGUF)."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model's shape. Sizes are elements, lengths are tokens."""

    name: str
    architecture: str
    known: bool
    """False: the general formula for a transformer was used."""
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
    gated_attention: bool = False
    """A gate as wide as the queries beside them (Qwen3-Next, Qwen3.5)."""
    experts: Experts | None = None
    latent: Latent | None = None
    indexer: Indexer | None = None
    recurrent: Recurrent | None = None
    quantization: CheckpointQuantization | None = None
    multimodal: bool = False
    extra_parameters: int = 0
    """Vision or audio towers and projectors, in the model's dtype."""
    rope_elements: int = 0
    """Precomputed rotary tables (positions x rotary width), whole on every GPU. Large for very long contexts."""
    draft_layers: int = 0
    """Multi-token-prediction layers in the checkpoint; loaded only for speculative decoding."""
    checkpoint_bytes: int | None = None
    """Exact size of all weight files (the safetensors index's total_size), when known."""
    notes: tuple[str, ...] = ()

    @property
    def context(self) -> int:
        """The context that vLLM takes without --max-model-len (2048 when the config states none)."""
        return self.max_position or 2048

    @property
    def heads(self) -> int:
        """Query heads of the widest layer: what the tensor-parallel size must divide."""
        return max((layer.heads for layer in self.layers), default=1)

    @property
    def kv_heads(self) -> int:
        return max((layer.kv_heads for layer in self.layers), default=1)
