"""Sizes of the towers beside a language model (vision, audio, projector), from their configs. Only translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.domain.model import Tower

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
    total = _second_experts(text, hidden)
    if str(raw.get("model_type")) == "phi4mm":  # a SigLIP whose config is not told
        total += _tower({"model_type": "siglip_vision_model"}, hidden)
    for key in (
        "vision_config",
        "audio_config",
        "visual",
        "vision_tower_config",
        "encoder_config",
        "audio_processor",
    ):
        tower = raw.get(key)
        if key == "audio_processor" and isinstance(tower, Mapping):
            tower = tower.get("config")
        if not isinstance(tower, Mapping) and isinstance(raw.get("thinker_config"), Mapping):
            tower = raw["thinker_config"].get(key)
        if isinstance(tower, Mapping):
            total += _tower(tower, hidden)
    return total


def _second_experts(text: Mapping[str, Any], hidden: int) -> int:
    """Ernie 4.5 VL: every mixture has a second set of experts, for the tokens of images."""
    widths, count = text.get("moe_intermediate_size"), text.get("moe_num_experts")
    counts = count if isinstance(count, list) else [count, count]
    if not isinstance(widths, list) or len(widths) != 2 or len(counts) != 2:
        return 0
    since = text.get("moe_layer_start_index")
    since = since[1] if isinstance(since, list) and len(since) == 2 else since
    layers = _first(text, "num_hidden_layers") - (since if isinstance(since, int) else 1)
    width, own = widths[1], counts[1]
    if not isinstance(width, int) or not isinstance(own, int):
        return 0
    return max(0, layers) * own * 3 * hidden * width if 0 < width < 10**6 and 0 < own < 10**5 else 0


def _tower(tower: Mapping[str, Any], hidden: int) -> int:
    kind = str(tower.get("model_type") or "")
    if kind == "gemma3n_vision":  # MobileNet v5, by its name, and the projection of its features
        return 294_000_000 + 2 * (_first(tower, "hidden_size") or 2048) * hidden
    width0, layers0, inner0 = _DEFAULTS.get(kind, (1024, 24, 4096))
    width = (
        _first(
            tower,
            "hidden_size",
            "embed_dim",
            "d_model",
            "width",
            "vt_hidden_size",
            "hidden_dim",
            "attention_dim",
        )
        or width0
    )
    if kind.startswith("qwen2_vl"):
        width = _first(tower, "embed_dim") or width
    layers = (
        _first(
            tower,
            "num_hidden_layers",
            "depth",
            "layers",
            "encoder_layers",
            "vt_num_hidden_layers",
            "conf_num_hidden_layers",
            "num_layers",
            "num_blocks",
        )
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
    if kind.startswith(_GLM):
        return layers * (4 * width * width + 3 * width * _glm_inner(tower, kind)) + _glm_merger(
            tower, kind, width, out, merge
        )
    if kind == "gemma4_vision":  # gated, a place for each axis, and pooled before it is projected
        places = 2 * (_first(tower, "position_embedding_size") or 10240) * width
        return (
            layers * (4 * width * width + 3 * width * inner)
            + 3 * patch * patch * width
            + places
            + width * out
        )
    inside = _first(tower, "qkv_hidden_size") or width
    block = 4 * width * inside + matrices * width * inner
    if kind.endswith("_audio") or "parakeet" in kind or "speech" in kind or "linear_units" in tower:
        # Conformers have a second MLP and a convolution.
        inner = _first(tower, "intermediate_size", "linear_units") or 4 * width
        gated = 3 if "linear_units" in tower else 2
        block = 4 * width * width + 2 * gated * width * inner + 3 * width * width
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


_GLM = ("glm4v", "glm46v", "glm_ocr", "glm5_next")
"""Their encoders have gated MLPs, and a merger with one of its own."""


def _glm_inner(tower: Mapping[str, Any], kind: str) -> int:
    """The width of the encoder's own MLPs; in GLM 4.1 to 4.6 `intermediate_size` is the merger's."""
    own = "out_hidden_size" if kind.startswith(("glm4v", "glm46v")) else "intermediate_size"
    return _first(tower, own) or 4096


def _glm_merger(tower: Mapping[str, Any], kind: str, width: int, out: int, merge: int) -> int:
    inner = _first(tower, "projection_intermediate_size", "intermediate_size")
    if kind.startswith("glm_ocr"):
        inner = out * (_first(tower, "in_channels") or 3)
    return out * width * merge * merge + out * out + 3 * out * inner


_LARGEST_IMAGE = {
    "qwen2_vl": 65536, "qwen2_5_vl": 65536, "qwen3": 65536, "kimi": 16384, "glm4v": 24576, "glm46v": 24576,
}  # fmt: skip
"""Patches of the largest image that a family's processor makes, by the beginning of its name."""


def tower_of(raw: Mapping[str, Any], outer_type: str) -> Tower | None:
    """The encoder, where its images may be so large that profiling with one decides how much memory is left."""
    tower = raw.get("vision_config")
    patches = next((n for start, n in _LARGEST_IMAGE.items() if outer_type.startswith(start)), 0)
    if not isinstance(tower, Mapping) or not patches:
        return None
    kind = str(tower.get("model_type") or outer_type)
    width0, _, inner0 = _DEFAULTS.get(kind, (1152, 27, 4304))
    hidden = _first(tower, "hidden_size", "embed_dim", "vt_hidden_size") or width0
    inner = _first(tower, "intermediate_size", "vt_intermediate_size") or inner0
    gated = kind in _GATED
    if kind.startswith(_GLM):
        gated, inner = True, _glm_inner(tower, kind)
    merge = _first(tower, "spatial_merge_size") or 2
    deep = tower.get("deepstack_visual_indexes")
    if not 0 < merge <= 64 or max(hidden, inner) > 10**6:
        return None
    outputs = 1 + (len(deep) if isinstance(deep, list) else 0)
    return Tower(patches, merge * merge, hidden, (3 if gated else 2) * inner, outputs)


def _first(data: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = data.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
