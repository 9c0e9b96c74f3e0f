"""Mistral's own `params.json` -> the config.json keys that it means. Only translation.

Large 3, Small 4 and others are published in this form, some with no config.json beside it; vLLM reads it in the same
way (transformers_utils/configs/mistral.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
_OF_EXPERTS = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "expert_hidden_dim": "moe_intermediate_size",
    "num_shared_experts": "n_shared_experts",
    "first_k_dense_replace": "first_k_dense_replace",
    "route_every_n": "moe_layer_freq",
}
_OF_SPEECH = {
    "dim": "d_model",
    "n_layers": "encoder_layers",
    "hidden_dim": "encoder_ffn_dim",
    "n_heads": "encoder_attention_heads",
}


def is_params(config: Mapping[str, Any]) -> bool:
    """True for a params.json: it says `dim` and `n_layers` where a config.json says `hidden_size`."""
    return "dim" in config and "n_layers" in config and "hidden_size" not in config


def from_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The equivalent config.json."""
    out = {_NAMES.get(k, k): v for k, v in params.items()}
    out.setdefault("max_position_embeddings", 128_000)
    out.setdefault("tie_word_embeddings", False)
    moe = params.get("moe")
    if isinstance(moe, Mapping):
        out |= {new: moe[old] for old, new in _OF_EXPERTS.items() if old in moe}
    elif params.get("qk_nope_head_dim") is not None:
        out.pop("moe", None)
    out["model_type"] = _type_of(out, isinstance(moe, Mapping))
    _window(out)
    yarn = params.get("yarn")
    if isinstance(yarn, Mapping):
        out["rope_scaling"] = {"rope_type": "yarn", **yarn}
    stored = params.get("quantization")
    if isinstance(stored, Mapping):
        fp8 = stored.get("qformat_weight") == "fp8_e4m3"
        out["quantization_config"] = {"quant_method": "fp8"} if fp8 else dict(stored)
    return _with_encoder(out, params)


def _type_of(out: Mapping[str, Any], mixture: bool) -> str:
    if out.get("model_type") == "mamba":
        return "mamba2"
    if out.get("kv_lora_rank"):
        return "deepseek_v3"
    return "mixtral" if mixture else "mistral"


def _window(out: dict[str, Any]) -> None:
    """A list of windows, repeated over the layers, in which null is full attention."""
    windows, count = out.get("sliding_window"), out.get("num_hidden_layers")
    if isinstance(windows, list) and windows and isinstance(count, int) and 0 < count <= 2048:
        kinds = ["sliding_attention" if w else "full_attention" for w in windows]
        out["layer_types"] = (kinds * (count // len(kinds) + 1))[:count]
        out["sliding_window"] = next((w for w in windows if w), None)


def _with_encoder(out: dict[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The text nested beside its vision or speech encoder, where the model has one."""
    several = params.get("multimodal")
    several = several if isinstance(several, Mapping) else {}
    vision = several.get("vision_encoder_args") or params.get("vision_encoder")
    if isinstance(vision, Mapping):
        return {**out, "vision_config": {"model_type": "pixtral", **vision}}
    speech = several.get("whisper_model_args")
    encoder = speech.get("encoder_args") if isinstance(speech, Mapping) else None
    if isinstance(encoder, Mapping):
        audio = {new: encoder[old] for old, new in _OF_SPEECH.items() if old in encoder}
        return {**out, "audio_config": {"model_type": "whisper", **audio}}
    return out
