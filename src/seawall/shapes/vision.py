"""How large the towers beside a language model are (vision, audio, projector), from their configs. Only translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEFAULTS = {  # hidden, layers, intermediate: what transformers fills in when a config leaves it out
    "pixtral": (1024, 24, 4096),
    "siglip_vision_model": (1152, 27, 4304),
    "clip_vision_model": (1024, 24, 4096),
    "moonvit": (1152, 27, 4304),
    "llama4_vision_model": (1408, 34, 5632),
    "qwen2_vl": (1280, 32, 5120),
    "qwen2_5_vl": (1280, 32, 3420),
    "qwen3_vl": (1152, 27, 4304),
    "mllama_vision_model": (1280, 40, 5120),
}
_GATED = ("pixtral", "qwen2_5_vl", "qwen2_5_omni")


def extra_parameters(raw: Mapping[str, Any], text: Mapping[str, Any], hidden: int) -> int:
    """Parameters of everything that is not the language model. Zero when the config names no tower."""
    total = 0
    for key in ("vision_config", "audio_config", "visual", "vision_tower_config"):
        tower = raw.get(key)
        if not isinstance(tower, Mapping) and isinstance(raw.get("thinker_config"), Mapping):
            tower = raw["thinker_config"].get(key)
        if isinstance(tower, Mapping):
            total += _tower(tower, hidden)
    return total


def _tower(tower: Mapping[str, Any], hidden: int) -> int:
    kind = str(tower.get("model_type") or "")
    width0, layers0, inner0 = _DEFAULTS.get(kind, (1024, 24, 4096))
    width = _first(tower, "hidden_size", "embed_dim", "d_model", "width", "vt_hidden_size") or width0
    if kind == "qwen2_vl":
        width = _first(tower, "embed_dim") or width
    layers = (
        _first(tower, "num_hidden_layers", "depth", "layers", "encoder_layers", "vt_num_hidden_layers")
        or layers0
    )
    inner = _first(tower, "intermediate_size", "mlp_dim", "encoder_ffn_dim", "vt_intermediate_size") or inner0
    ratio = tower.get("mlp_ratio")
    if isinstance(ratio, (int, float)) and "intermediate_size" not in tower:
        inner = int(width * ratio)
    matrices = 3 if kind in _GATED else 2
    if min(width, layers, inner) <= 0 or max(width, inner) > 10**6 or layers > 1000:
        return 0
    merge = _first(tower, "spatial_merge_size") or 2
    patch = _first(tower, "patch_size") or 14
    frames = _first(tower, "temporal_patch_size") or 1
    out = _first(tower, "out_hidden_size") or hidden
    inside = _first(tower, "qkv_hidden_size") or width
    block = 4 * width * inside + matrices * width * inner
    joined = width * merge * merge
    mergers = 1
    if kind.startswith(
        ("qwen3", "qwen2_5_vl", "qwen2_vl")
    ):  # merge in the merged width, once per tapped layer
        deep = tower.get("deepstack_visual_indexes")
        mergers += len(deep) if isinstance(deep, list) else 0
        projector = joined * joined + joined * out
    else:
        projector = joined * out + out * out
    positions = _first(tower, "num_position_embeddings", "position_embedding_size") * width
    return layers * block + frames * 3 * patch * patch * width + mergers * projector + positions


def patches_of(raw: Mapping[str, Any]) -> int:
    """Patches of the largest image that a tower of this kind is profiled with; 0 where nothing is known."""
    return 0


def tower_hidden(raw: Mapping[str, Any]) -> int:
    """Width of the vision tower; 0 without one."""
    tower = raw.get("vision_config")
    return _first(tower, "hidden_size", "embed_dim", "vt_hidden_size") if isinstance(tower, Mapping) else 0


def _first(data: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = data.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
