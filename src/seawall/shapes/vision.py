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
    out = _first(tower, "out_hidden_size") or hidden
    block = 4 * width * width + matrices * width * inner
    projector = width * merge * merge * out + out * out
    return layers * block + 3 * patch * patch * width + projector


def _first(data: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = data.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
