"""The layer pattern of a config.json: which layers attend to everything, to a window, or keep a state.

Only translation. The order of the rules matters: an explicit list (`layer_types`) wins over a period
(`sliding_window_pattern`), and that over what an architecture always does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seawall.domain.model import Latent, Layer, LayerKind
from seawall.errors import InputError
from seawall.shapes.experts import indexed_layers
from seawall.shapes.getter import first

_KINDS: dict[str, LayerKind] = {
    "full_attention": "full", "attention": "full", "global": "full", "full": "full", "hybrid": "full",
    "global_attention": "full", "*": "full", "parallel_hybrid": "full",
    "indexed_attention": "full", "deepseek_sparse_attention": "full",
    "sliding_attention": "sliding", "sliding_window": "sliding", "local": "sliding", "local_attention": "sliding",
    "sliding_window_attention": "sliding", "chunked_attention": "chunked",
    "linear_attention": "recurrent", "mamba": "recurrent", "mamba2": "recurrent", "conv": "recurrent",
    "recurrent": "recurrent", "m": "recurrent",
    "linear": "recurrent", "kda": "recurrent", "gated_deltanet": "recurrent",
    "mlp": "none", "-": "none", "moe": "none", "e": "none",
}  # fmt: skip


def layers_of(
    text: Mapping[str, Any],
    model_type: str,
    count: int,
    hidden: int,
    has_experts: bool,
    latent: Latent | None,
    notes: list[str],
) -> tuple[Layer, ...]:
    """One `Layer` per decoder layer, in order."""
    if isinstance(text.get("block_configs"), list):
        return searched_layers(text, hidden)
    heads, kv_heads = _heads(text, count)
    some = next((h for h in heads if h), 1)
    kinds = _kinds(text, model_type, count, notes)
    widths = _widths(text, model_type, count, hidden)
    moe = _moe_layers(text, model_type, count) if has_experts else [False] * count
    indexed = indexed_layers(text, count)
    ratios = text.get("compress_ratios")
    own = text.get("per_layer_config")
    apart = _apart(text)
    out = []
    for i in range(count):
        kind = kinds[i]
        size = _Size(heads[i], kv_heads[i], _head_dim(text, hidden, some), 0)
        size = _sized(text, size, kind, latent)
        if isinstance(own, Mapping) and isinstance(special := own.get(str(i), own.get(i)), Mapping):
            size = replace(
                size,
                dim=first(special, "head_dim") or size.dim,
                dim_v=first(special, "head_dim") or size.dim_v,
                kv=first(special, "num_key_value_heads") or size.kv,
            )
        width, experts = widths[i], moe[i]
        if apart:  # Nemotron-H: attention, state and MLP are layers of their own
            word = apart[i] if i < len(apart) else ""
            experts = word in ("moe", "e")
            width = width if word in ("mlp", "-") else 0
        both = experts and text.get("enable_moe_block") is True
        mixes = kind not in ("recurrent", "none")
        out.append(
            Layer(
                kind=kind,
                heads=size.heads if mixes else 0,
                kv_heads=size.kv if mixes else 0,
                head_dim=size.dim,
                head_dim_v=size.dim_v,
                window=_window(text, kind),
                experts=experts,
                intermediate=0 if experts and not both else width,
                indexed=indexed[i] and mixes,
                ratio=_ratio(ratios, i),
            )
        )
    return tuple(_share_last(out, first(text, "num_kv_shared_layers")))


@dataclass(frozen=True)
class _Size:
    heads: int
    kv: int
    dim: int
    dim_v: int


def _head_dim(text: Mapping[str, Any], hidden: int, heads: int) -> int:
    return (
        first(text, "head_dim", "attention_head_size", "kv_channels", "attention_head_dim") or hidden // heads
    )


def _sized(text: Mapping[str, Any], size: _Size, kind: LayerKind, latent: Latent | None) -> _Size:
    """Heads and head sizes of one layer, where windowed and full layers differ, or keys and values do."""
    if latent is not None and kind == "full":
        return replace(size, kv=1, dim=latent.kv_lora_rank + latent.rope_dim, dim_v=0)
    dim, kv, heads = size.dim, size.kv, size.heads
    dim_v = first(text, "v_head_dim") if latent is None else 0
    if kind == "sliding" and first(text, "swa_head_dim", "swa_num_key_value_heads"):  # MiMo V2
        dim = first(text, "swa_head_dim") or dim
        dim_v = first(text, "swa_v_head_dim") or dim_v
        kv = first(text, "swa_num_key_value_heads") or kv
        heads = first(text, "swa_num_attention_heads") or heads
    if kind == "full" and first(text, "global_head_dim"):  # Gemma 4
        dim = first(text, "global_head_dim")
        if text.get("attention_k_eq_v") is not False:
            kv = first(text, "num_global_key_value_heads") or kv
    return _Size(heads, kv, dim, dim_v or dim)


def _window(text: Mapping[str, Any], kind: LayerKind) -> int:
    if kind in ("sliding", "compressed"):
        return first(text, "sliding_window", "sliding_window_size", "attention_window_size")
    return first(text, "attention_chunk_size") if kind == "chunked" else 0


def _ratio(ratios: Any, i: int) -> int:
    value = ratios[i] if isinstance(ratios, list) and i < len(ratios) else 0
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 < value <= 4096 else 0


def _apart(text: Mapping[str, Any]) -> list[str]:
    """The words of a pattern in which every block is a layer of one kind; empty for usual models."""
    pattern = text.get("hybrid_override_pattern") or text.get("layers_block_type")
    if not isinstance(pattern, (str, list)) or str(text.get("model_type")) != "nemotron_h":
        return []
    return [str(word).lower() for word in pattern]


def searched_layers(text: Mapping[str, Any], hidden: int) -> tuple[Layer, ...]:
    """Nemotron's searched models (nemotron-nas): `block_configs` says for each layer what is left of it."""
    heads = first(text, "num_attention_heads") or 1
    dim = _head_dim(text, hidden, heads)
    out = []
    for block in text["block_configs"][:4096]:
        attention = block.get("attention") if isinstance(block, Mapping) else None
        ffn = block.get("ffn") if isinstance(block, Mapping) else None
        attention = attention if isinstance(attention, Mapping) else {}
        ffn = ffn if isinstance(ffn, Mapping) else {}
        gone = attention.get("no_op") is True or attention.get("replace_with_linear") is True
        shared_by = first(attention, "n_heads_in_group") or 1
        factor = ffn.get("ffn_mult")
        width = first(ffn, "intermediate_size")
        if isinstance(factor, (int, float)) and not isinstance(factor, bool) and 0 < factor < 64:
            width = -(-int(2 * factor * hidden / 3) // 256) * 256
        window = first(attention, "window_length")
        out.append(
            Layer(
                kind="none" if gone else "sliding" if window else "full",
                heads=0 if gone else heads,
                kv_heads=0 if gone else max(1, heads // shared_by),
                head_dim=dim,
                head_dim_v=dim,
                window=0 if gone else window,
                intermediate=0 if ffn.get("no_op") is True else width,
            )
        )
    if not out:
        raise InputError("config.json: block_configs is empty.", "Pass the model's own config.json.")
    return tuple(out)


def _heads(text: Mapping[str, Any], count: int) -> tuple[list[int], list[int]]:
    """Query heads and key-value heads of each layer; a pure state-space model has none."""
    heads = _per_layer(text, count, "num_attention_heads", "n_head", "num_heads", "n_heads")
    if heads is None or max(heads) <= 0:
        if any(k in text for k in ("state_size", "ssm_state_size", "mamba_d_state")):
            heads = [0] * count
        else:
            raise InputError(
                "config.json: has no num_attention_heads.", "Pass the language model's own config.json."
            )
    kv_heads = _per_layer(
        text, count, "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"
    )
    if kv_heads is None:
        multi_query = text.get("multi_query") is True and not text.get("new_decoder_architecture")
        kv_heads = [1] * count if multi_query else heads
    return heads, kv_heads


def _widths(text: Mapping[str, Any], model_type: str, count: int, hidden: int) -> list[int]:
    """The MLP's intermediate size in each layer; four times the hidden size where nothing is said."""
    widths = _per_layer(
        text, count, "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "ffn_hidden_dim"
    )
    dense = first(text, "dense_intermediate_size")  # MiniMax M3; Llama 4
    if model_type.startswith("llama4"):
        dense = first(text, "intermediate_size_mlp")
    if dense:
        widths = [dense] * count
    if widths is None or not any(widths):
        widths = [4 * hidden] * count
    return widths


def _share_last(layers: list[Layer], shared: int) -> list[Layer]:
    """Gemma 3n and 4: the last layers read the cache of earlier ones and keep none."""
    keep = len(layers) - min(shared, len(layers))
    return [layer if i < keep else replace(layer, kind="shared") for i, layer in enumerate(layers)]


def _kinds(text: Mapping[str, Any], model_type: str, count: int, notes: list[str]) -> list[LayerKind]:
    if isinstance(text.get("compress_ratios"), list) and first(text, "o_lora_rank"):
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


def _moe_layers(text: Mapping[str, Any], model_type: str, count: int) -> list[bool]:
    """Which layers have experts."""
    dense_first = first(
        text, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "first_k_dense"
    )
    step = (
        first(
            text,
            "decoder_sparse_step",
            "interleave_moe_layer_step",
            "moe_layer_interval",
            "expert_layer_period",
        )
        or 1
    )
    explicit = text.get("moe_layers")
    if isinstance(explicit, list) and explicit:
        return [i in explicit for i in range(count)]
    freq = text.get("moe_layer_freq")
    if isinstance(freq, list) and len(freq) >= count:
        return [bool(f) for f in freq[:count]]
    if isinstance(freq, int) and freq > 1:
        step = freq
    mlp_only = text.get("mlp_only_layers")
    dense = {i for i in mlp_only if isinstance(i, int)} if isinstance(mlp_only, list) else set()
    offset = first(text, "expert_layer_offset")
    if offset or "expert_layer_period" in text:
        return [i % step == offset for i in range(count)]
    if model_type in ("deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek", "kimi_k2"):
        return [i >= dense_first and i % step == 0 and i not in dense for i in range(count)]
    return [i >= dense_first and (i + 1) % step == 0 and i not in dense for i in range(count)]


def _per_layer(text: Mapping[str, Any], count: int, *names: str) -> list[int] | None:
    """A number for every layer, from one number or a list."""
    for name in names:
        value = text.get(name)
        if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            return [int(v) for v in (value + [value[-1]] * count)[:count]]
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
            return [value] * count
    return None
