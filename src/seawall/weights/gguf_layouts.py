"""What tells the architectures of GGUF files apart: tensors, what llama.cpp did to them, and the config that undoes it.

Data and small functions of a file's metadata; `gguf.py` reads the file and writes the folder. An architecture that is
not here is refused by its name, and so is a tensor that its layout does not know.
Sources: llama.cpp's converters (LlamaModel.permute; GemmaModel, Gemma2Model and Gemma3Model, which store 1 + w for
every norm; Phi3MiniModel, whose projections stay fused) and its loader (the attention scale of the 27B Gemmas).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from seawall.errors import InputError

BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""A block's tensors in a llama -> their Hugging Face names below `model.layers.N`."""
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_27B = {46, 62}
"""Layers of Gemma 2 and 3 with 27B parameters, whose attention is scaled by hidden / heads, not by the head's size."""
Get = Callable[[str, Any], Any]


@dataclass(frozen=True, kw_only=True)
class ModelOfGguf:
    """A decoder's dimensions, and what a config of a relative declares."""

    kind: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    context: int
    vocab: int
    rope_theta: float
    rms_eps: float
    head_dim: int


@dataclass(frozen=True, kw_only=True)
class LayoutOfGguf:
    """One architecture."""

    name: str
    """vLLM's and transformers' class."""
    model_type: str = ""
    """transformers' word for it, where it is not GGUF's own."""
    block: Mapping[str, str] = field(default_factory=lambda: BLOCK)
    biases: frozenset[str] = frozenset()
    """Tensors of a block that have a bias beside their weight."""
    permuted: bool = False
    """llama.cpp has reordered the rows of the query and key projections."""
    norms_plus_one: bool = False
    """llama.cpp has added 1 to the weights of all norms."""
    ends: tuple[str, ...] = ()
    """Tokens besides the file's own that end an answer."""
    rope_scalings: frozenset[str] = frozenset()
    """Kinds of scaled rotary embedding that its config can say."""
    config: Callable[[ModelOfGguf, Get], dict[str, Any]] = lambda model, get: {}


def _gemma2(model: ModelOfGguf, get: Get) -> dict[str, Any]:
    return _GELU | {
        "query_pre_attn_scalar": _scalar(model), "sliding_window": int(get("attention.sliding_window", 4096)),
        "attn_logit_softcapping": float(get("attn_logit_softcapping", 50.0)),
        "final_logit_softcapping": float(get("final_logit_softcapping", 30.0)),
    }  # fmt: skip


def _gemma3(model: ModelOfGguf, get: Get) -> dict[str, Any]:
    scaled = get("rope.scaling.type", None) == "linear"
    kinds = ("full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(model.layers))
    return _GELU | {
        "query_pre_attn_scalar": _scalar(model), "sliding_window": int(get("attention.sliding_window", 1024)),
        "layer_types": list(kinds), "rope_local_base_freq": float(get("rope.freq_base_swa", 10000.0)),
        "rope_scaling": {"rope_type": "linear", "factor": float(get("rope.scaling.factor", 8.0))} if scaled else None,
    }  # fmt: skip


def _phi3(model: ModelOfGguf, get: Get) -> dict[str, Any]:
    window = get("attention.sliding_window", None)
    long, short = get("rope_factors_long", None), get("rope_factors_short", None)
    if (long is None) != (short is None):
        raise InputError(
            "this GGUF has one list of rotary factors of two.", "Fetch it again, or use safetensors."
        )
    rotated = int(get("rope.dimension_count", model.head_dim))
    return {
        "original_max_position_embeddings": int(get("rope.scaling.original_context_length", model.context)),
        "sliding_window": int(window) if window else None, "partial_rotary_factor": rotated / model.head_dim,
        "rope_scaling": {"type": "longrope", "long_factor": long, "short_factor": short} if long else None,
    }  # fmt: skip


def _scalar(model: ModelOfGguf) -> int:
    return model.hidden // model.heads if model.layers in _27B else model.head_dim


_GELU = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
_NO_WINDOW = {"use_sliding_window": False}

LAYOUTS: dict[str, LayoutOfGguf] = {
    "llama": LayoutOfGguf(
        name="LlamaForCausalLM", permuted=True,
        config=lambda model, get: {"mlp_bias": False, "attention_bias": False},
    ),
    "qwen2": LayoutOfGguf(
        name="Qwen2ForCausalLM", biases=frozenset({"attn_q", "attn_k", "attn_v"}), config=lambda model, get: _NO_WINDOW
    ),
    "qwen3": LayoutOfGguf(
        name="Qwen3ForCausalLM", block=BLOCK | _QK_NORMS,
        config=lambda model, get: _NO_WINDOW | {"attention_bias": False},
    ),
    "gemma": LayoutOfGguf(
        name="GemmaForCausalLM", norms_plus_one=True, ends=("<end_of_turn>",), config=lambda model, get: _GELU
    ),
    "gemma2": LayoutOfGguf(
        name="Gemma2ForCausalLM", block=BLOCK | _FOUR_NORMS, norms_plus_one=True, ends=("<end_of_turn>",),
        config=_gemma2,
    ),
    "gemma3": LayoutOfGguf(
        name="Gemma3ForCausalLM", model_type="gemma3_text", block=BLOCK | _FOUR_NORMS | _QK_NORMS, norms_plus_one=True,
        ends=("<end_of_turn>",), rope_scalings=frozenset({"linear"}), config=_gemma3,
    ),
    "phi3": LayoutOfGguf(
        name="Phi3ForCausalLM",
        block={**{k: v for k, v in BLOCK.items() if k not in ("attn_q", "attn_k", "attn_v", "ffn_gate")},
               "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
        ends=("<|end|>",), rope_scalings=frozenset({"longrope"}), config=_phi3,
    ),
}  # fmt: skip
"""GGUF architecture -> what it becomes."""
