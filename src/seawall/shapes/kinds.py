"""Which layers of a config.json attend to everything, to a window, or keep a state. Only translation.

The order of the rules matters: an explicit list (`layer_types`) wins over a period (`sliding_window_pattern`), and
that over what an architecture always does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.domain.model import LayerKind
from seawall.shapes.experts import ratios_of
from seawall.shapes.getter import first

_KINDS: dict[str, LayerKind] = {
    "full_attention": "full", "attention": "full", "global": "full", "full": "full", "hybrid": "full",
    "global_attention": "full", "*": "full", "parallel_hybrid": "full",
    "indexed_attention": "full", "deepseek_sparse_attention": "full",
    "sliding_attention": "sliding", "sliding_window": "sliding", "local": "sliding", "local_attention": "sliding",
    "sliding_window_attention": "sliding", "hybrid_sliding": "sliding", "chunked_attention": "chunked",
    "linear_attention": "recurrent", "mamba": "recurrent", "mamba2": "recurrent", "conv": "recurrent",
    "recurrent": "recurrent", "m": "recurrent",
    "linear": "recurrent", "kda": "recurrent", "gated_deltanet": "recurrent",
    "mlp": "none", "-": "none", "moe": "none", "e": "none",
}  # fmt: skip


def kinds_of(text: Mapping[str, Any], model_type: str, count: int, notes: list[str]) -> list[LayerKind]:
    """The kind of each layer; a word that is not known becomes full attention and a note."""
    if ratios_of(text, count):
        return ["compressed"] * count
    coded = text.get("hybrid_layer_pattern")  # MiMo V2: 1 windowed, 0 full
    if isinstance(coded, list) and coded:
        return ([("sliding" if c else "full") for c in coded] + ["full"] * count)[:count]
    listed = text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    window = first(text, "sliding_window", "sliding_window_size", "attention_window_size")
    if isinstance(listed, (list, str)) and listed:
        out: list[LayerKind] = []
        for item in list(listed)[:count]:
            kind = _KINDS.get(str(item).lower())
            if kind is None:
                notes.append(f"layer type {item!r:.40} is not known: counted as full attention")
                kind = "full"
            out.append("full" if kind == "sliding" and not window else kind)
        return (out + [out[-1]] * count)[:count]
    coded = text.get("attn_type_list")  # MiniMax: 0 linear, 1 full
    if isinstance(coded, list) and coded:
        return ([("full" if c else "recurrent") for c in coded] + ["full"] * count)[:count]
    kda = text.get("linear_attn_config")
    if isinstance(kda, Mapping) and isinstance(
        kda.get("full_attn_layers"), list
    ):  # Kimi Linear counts from 1
        return ["full" if i + 1 in kda["full_attn_layers"] else "recurrent" for i in range(count)]
    by_index = text.get("attn_layer_indices") or text.get("full_attn_idxs")
    if isinstance(by_index, list):
        return ["full" if i in by_index else "recurrent" for i in range(count)]
    period = first(text, "layer_group_size")
    if period > 1 and model_type.startswith("bailing"):  # Ling 2.5: the last of a group sees everything
        return ["full" if (i + 1) % period == 0 else "recurrent" for i in range(count)]
    period = first(text, "full_attention_interval")
    if period and first(text, "linear_num_value_heads"):
        return ["full" if (i + 1) % period == 0 else "recurrent" for i in range(count)]
    period = first(text, "attn_layer_period")
    if period:  # Jamba
        offset = first(text, "attn_layer_offset")
        return ["full" if i % period == offset % period else "recurrent" for i in range(count)]
    if model_type in ("mamba", "mamba2", "falcon_mamba"):
        return ["recurrent"] * count
    return _attention_kinds(text, model_type, count, window)


def _attention_kinds(text: Mapping[str, Any], model_type: str, count: int, window: int) -> list[LayerKind]:
    full: list[LayerKind] = ["full"] * count
    if model_type.startswith("llama4") and first(text, "attention_chunk_size"):
        nope = text.get("no_rope_layers")
        if isinstance(nope, list) and len(nope) >= count:
            return ["chunked" if flag else "full" for flag in nope[:count]]
        every = first(text, "no_rope_layer_interval") or 4
        return ["full" if (i + 1) % every == 0 else "chunked" for i in range(count)]
    if not window or text.get("use_sliding_window") is False:
        return full
    pattern = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    if isinstance(pattern, str) and pattern:  # EXAONE 4: "LLLG"
        return ["full" if pattern[i % len(pattern)] == "G" else "sliding" for i in range(count)]
    if isinstance(pattern, int) and pattern > 1:
        return ["full" if (i + 1) % pattern == 0 else "sliding" for i in range(count)]
    period = first(text, "global_attn_every_n_layers")
    if period > 1:
        return ["full" if (i + 1) % period == 0 else "sliding" for i in range(count)]
    if model_type in ("gemma3", "gemma3_text", "gemma4", "gemma4_text"):
        return ["full" if (i + 1) % 6 == 0 else "sliding" for i in range(count)]
    if model_type in ("gemma3n", "gemma3n_text"):
        return ["full" if (i + 1) % 5 == 0 else "sliding" for i in range(count)]
    if model_type in ("cohere2", "cohere2_vision", "olmo3"):
        return ["full" if (i + 1) % 4 == 0 else "sliding" for i in range(count)]
    if model_type in ("gemma2", "gpt_oss"):
        return ["sliding" if i % 2 == 0 else "full" for i in range(count)]
    if model_type.startswith("qwen2"):
        # vLLM uses the window of Qwen 2 only when use_sliding_window says so, from max_window_layers on.
        if text.get("use_sliding_window") is not True:
            return full
        since = first(text, "max_window_layers") or count
        return ["sliding" if i >= since else "full" for i in range(count)]
    if model_type.startswith(("mistral", "mixtral", "phi3", "starcoder2", "ministral", "phimoe", "llama")):
        return ["sliding"] * count
    return full
