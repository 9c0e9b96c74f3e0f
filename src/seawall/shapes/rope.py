"""The reach of a config: its context, its scaled context, and the size of the rotary tables. Only translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.shapes.getter import Getter

_THREE_AXES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v", "qwen2_5_omni")


def max_position(text: Mapping[str, Any]) -> int:
    """The longest context as vLLM (config/model.py) derives it: YaRN and Llama 3 scaling are already in the number."""
    get = Getter(text)
    own = get.integer(
        0, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
        "max_sequence_length", "max_target_positions", "n_ctx",
    )  # fmt: skip
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if isinstance(scaling, Mapping) and "gemma3" not in str(text.get("model_type")):
        kind = str(scaling.get("rope_type") or scaling.get("type") or "")
        factor = scaling.get("factor")
        if isinstance(factor, (int, float)) and 1 <= factor <= 1e4 and kind in ("linear", "dynamic"):
            own = int(own * factor)
    return own


def rope_elements(text: Mapping[str, Any]) -> int:
    """Elements of the rotary cos/sin tables: one row per position that the scaling can reach, one table per kind."""
    get = Getter(text)
    positions = get.integer(0, "max_position_embeddings", "n_positions")
    heads = max(1, get.integer(1, "num_attention_heads", "n_head"))
    width = get.integer(0, "qk_rope_head_dim", "head_dim") or get.integer(0, "hidden_size", "n_embd") // heads
    tables, wide = _rope_tables(text), get.integer(0, "global_head_dim")
    if wide and len(tables) == 1:  # a summary of Gemma 4, which has a table for each kind of layer
        return positions * (width + wide)
    scalings = text.get("rope_parameters")
    global_table = scalings.get("full_attention") if wide and isinstance(scalings, Mapping) else None
    elements = 0
    for scaling in tables:
        share = scaling.get("partial_rotary_factor", text.get("partial_rotary_factor"))
        own = wide if global_table is scaling else width
        # A proportional table is as wide as the head: what is not turned has rows of ones and zeros.
        partial = str(scaling.get("rope_type")) != "proportional" and not get.integer(0, "qk_rope_head_dim")
        if isinstance(share, (int, float)) and 0 < share <= 1 and partial:
            own = int(own * share)
        # Multimodal rotary tables (three axes) are made four times as long (vLLM: rotary_embedding/mrope.py).
        axes = "mrope_section" in scaling or str(text.get("model_type")).startswith(_THREE_AXES)
        rows = _rope_rows(scaling, positions) * (4 if axes else 1)
        elements += own * rows
    if len(tables) == 1 and text.get("rope_local_base_freq"):
        elements += width * positions
    return elements


def reach(given: Mapping[str, Any]) -> int:
    """The longest context that the config itself allows; 0 when only a class's default would say."""
    own = max_position(given)
    return max(own, *(_rope_rows(scaling, own) for scaling in _rope_tables(given))) if own else 0


def _rope_tables(text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One scaling for the model, or one per kind of layer (transformers 5)."""
    scalings = text.get("rope_scaling") or text.get("rope_parameters") or {}
    nested = [v for v in scalings.values() if isinstance(v, Mapping)] if isinstance(scalings, Mapping) else []
    return nested or [scalings if isinstance(scalings, Mapping) else {}]


def _rope_rows(scaling: Mapping[str, Any], positions: int) -> int:
    kind = str(scaling.get("rope_type") or scaling.get("type") or "")
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if not isinstance(factor, (int, float)) or not 1 <= factor <= 1e4:
        return positions
    if kind.startswith(("yarn", "deepseek_yarn")) and isinstance(original, int):
        return int(original * factor)
    return int(positions * factor) if kind in ("linear", "dynamic") else positions
