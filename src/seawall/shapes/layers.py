"""The decoder layers of a config.json: the heads, the widths and the experts of each. Only translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seawall.domain.model import Latent, Layer, LayerKind
from seawall.errors import InputError
from seawall.shapes.experts import indexed_layers, ratios_of
from seawall.shapes.getter import first
from seawall.shapes.kinds import kinds_of


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
    kinds = kinds_of(text, model_type, count, notes)
    widths = _widths(text, model_type, count, hidden)
    moe = _moe_layers(text, model_type, count) if has_experts else [False] * count
    indexed = indexed_layers(text, count)
    ratios = ratios_of(text, count) or [0] * count
    states = _states(text, model_type, count)
    again = _again(text, model_type, states)
    own = _by_number(text.get("per_layer_config"))
    apart = _apart(text)
    out = []
    for i in range(count):
        kind = kinds[i]
        size = _Size(heads[i], kv_heads[i], _head_dim(text, hidden, some), 0)
        size = _sized(text, size, kind, latent)
        if isinstance(special := own.get(i), Mapping):
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
        if model_type == "zamba2" and not states[i]:
            width = 0  # its other layers are states and nothing else
        both = experts and (text.get("enable_moe_block") is True or model_type.startswith("longcat_flash"))
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
                ratio=ratios[i],
                state=states[i],
                again=again[i],
            )
        )
    if model_type.startswith("longcat_flash"):  # every layer is two, with one mixture of experts between them
        out = [half for layer in out for half in (layer, replace(layer, experts=False))]
    return tuple(_share_last(out, first(text, "num_kv_shared_layers")))


@dataclass(frozen=True)
class _Size:
    heads: int
    kv: int
    dim: int
    dim_v: int


def _head_dim(text: Mapping[str, Any], hidden: int, heads: int) -> int:
    return (
        first(text, "head_dim", "attention_head_size", "attention_head_dim", "kv_channels") or hidden // heads
    )


def _sized(text: Mapping[str, Any], size: _Size, kind: LayerKind, latent: Latent | None) -> _Size:
    """Heads and head sizes of one layer, where windowed and full layers differ, or keys and values do."""
    if latent is not None and latent.expanded:
        whole = latent.nope_dim + latent.rope_dim
        return replace(size, kv=size.heads, dim=whole, dim_v=whole)
    if latent is not None and kind == "full":
        return replace(size, kv=1, dim=latent.kv_lora_rank + latent.rope_dim, dim_v=0)
    dim, kv, heads = size.dim, size.kv, size.heads
    dim_v = first(text, "v_head_dim") if latent is None else 0
    if kind == "sliding" and first(text, "swa_head_dim", "swa_num_key_value_heads"):  # MiMo V2
        dim = first(text, "swa_head_dim") or dim
        dim_v = first(text, "swa_v_head_dim") or dim_v
        kv = first(text, "swa_num_key_value_heads") or kv
        heads = first(text, "swa_num_attention_heads") or heads
    if kind == "sliding":
        heads = first(text, "num_sliding_attention_heads") or heads  # Step 3.7
    if kind == "full" and first(text, "global_head_dim"):  # Gemma 4
        dim = first(text, "global_head_dim")
        if text.get("attention_k_eq_v") is not False:
            kv = first(text, "num_global_key_value_heads") or kv
    return _Size(heads, kv, dim, dim_v or dim)


def _window(text: Mapping[str, Any], kind: LayerKind) -> int:
    if kind in ("sliding", "compressed"):
        window = first(text, "sliding_window", "sliding_window_size", "attention_window_size")
        inclusive = str(text.get("model_type")).startswith("cohere2")  # the token itself comes on top
        return window + 1 if window and inclusive else window
    return first(text, "attention_chunk_size") if kind == "chunked" else 0


def _by_number(own: Any) -> dict[int, Any]:
    """A mapping whose keys are layers, written `5`, `"5"` or `"05"`."""
    if not isinstance(own, Mapping):
        return {}
    return {int(key): value for key, value in own.items() if str(key)[:6].isdigit() and len(str(key)) < 6}


def _again(text: Mapping[str, Any], model_type: str, states: list[bool]) -> list[bool]:
    """Layers whose weights are an earlier one's: Zamba 2's shared blocks, HRM's stacks that are passed in cycles."""
    if model_type == "zamba2":
        blocks = first(text, "num_mem_blocks") or 1
        return [state and sum(states[:i]) >= blocks for i, state in enumerate(states)]
    stack = 2 * first(text, "num_layers_per_stack") if model_type == "hrm_text" else 0
    return [bool(stack) and i >= stack for i in range(len(states))]


def _states(text: Mapping[str, Any], model_type: str, count: int) -> list[bool]:
    """Layers that keep a recurrent state beside their attention."""
    if model_type == "falcon_h1":
        return [True] * count
    words = text.get("layers_block_type")
    if model_type != "zamba2" or not isinstance(words, list):
        return [False] * count
    return [word == "hybrid" for word in (words + [""] * count)[:count]]


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
    heads = _per_layer(
        text,
        count,
        "num_attention_heads_per_layer",
        "num_attention_heads",
        "n_head",
        "num_heads",
        "n_heads",
        "decoder_attention_heads",
    )
    if heads is None or max(heads) <= 0:
        if any(k in text for k in ("state_size", "ssm_state_size", "mamba_d_state")):
            heads = [0] * count
        else:
            raise InputError(
                "config.json: has no num_attention_heads.", "Pass the language model's own config.json."
            )
    kv_heads = _per_layer(
        text,
        count,
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "multi_query_group_num",
        "num_attention_groups",
    )
    multi_query = text.get("multi_query") is True and not text.get("new_decoder_architecture")
    if kv_heads is None or multi_query:
        kv_heads = [1] * count if multi_query else heads
    return heads, kv_heads


def _widths(text: Mapping[str, Any], model_type: str, count: int, hidden: int) -> list[int]:
    """The MLP's intermediate size in each layer; four times the hidden size where nothing is said."""
    if model_type in ("mamba", "mamba2", "falcon_mamba"):
        return [0] * count  # the state's mixer is all there is
    widths = _per_layer(
        text,
        count,
        "intermediate_size",
        "block_ff_dim",
        "ffn_hidden_size",
        "n_inner",
        "ffn_dim",
        "ffn_hidden_dim",
        "decoder_ffn_dim",
    )
    dense = first(text, "dense_intermediate_size")  # MiniMax M3; Llama 4
    if model_type.startswith("llama4"):
        dense = first(text, "intermediate_size_mlp")
    if dense:
        widths = [dense] * count
    if widths is None or not any(widths):
        widths = [4 * hidden] * count
    if model_type.startswith("lfm2") and text.get("block_auto_adjust_ff_dim", model_type == "lfm2") is True:
        widths = [_adjusted(width, text) for width in widths]
    return widths


def _adjusted(width: int, text: Mapping[str, Any]) -> int:
    """LFM 2's own width: two thirds of what is stated, times a factor, rounded up."""
    factor, step = text.get("block_ffn_dim_multiplier"), first(text, "block_multiple_of") or 256
    inner = int(2 * width / 3)
    if isinstance(factor, (int, float)) and 0 < factor < 64:
        inner = int(factor * inner)
    return -(-inner // step) * step


def _share_last(layers: list[Layer], shared: int) -> list[Layer]:
    """Gemma 3n and 4: the last layers read the cache of earlier ones and keep none."""
    keep = len(layers) - min(shared, len(layers))
    return [layer if i < keep else replace(layer, kind="shared") for i, layer in enumerate(layers)]


def _moe_layers(text: Mapping[str, Any], model_type: str, count: int) -> list[bool]:
    """Which layers have experts."""
    words = text.get("mlp_layer_types")  # transformers 5 writes a word for every layer
    if isinstance(words, list) and words:
        return [word != "dense" for word in (words + [words[-1]] * count)[:count]]
    dense_first = _first_of(
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
    explicit = text.get("moe_layers") or text.get("moe_layers_enum")
    if isinstance(explicit, str):  # Step 3: "4,5,6"
        explicit = [int(word) for word in explicit.split(",")[:4096] if word.strip().isdigit()]
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


def _first_of(text: Mapping[str, Any], *names: str) -> int:
    """The number that `first` finds; of a list (Ernie's text and vision experts) its first."""
    return first({name: v[0] if isinstance(v := text.get(name), list) and v else v for name in names}, *names)


def _per_layer(text: Mapping[str, Any], count: int, *names: str) -> list[int] | None:
    """A number for every layer, from one number or a list."""
    for name in names:
        value = text.get(name)
        if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            return [int(v) for v in (value + [value[-1]] * count)[:count]]
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
            return [value] * count
    return None
