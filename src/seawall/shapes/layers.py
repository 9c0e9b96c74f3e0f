"""The layer pattern of a config.json: which layers attend to everything, to a window, or keep a state.

Only translation. The order of the rules matters: an explicit list (`layer_types`) wins over a period
(`sliding_window_pattern`), and that over what an architecture always does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seawall.domain.model import Latent, Layer, LayerKind, Recurrent
from seawall.errors import InputError

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
    heads, kv_heads = _heads(text, count)
    first = next((h for h in heads if h), 1)
    head_dim = (
        _first(text, "head_dim", "attention_head_size", "kv_channels", "attention_head_dim")
        or hidden // first
    )
    kinds = _kinds(text, model_type, count, notes)
    widths = _widths(text, model_type, count, hidden)
    moe = _moe_layers(text, model_type, count) if has_experts else [False] * count
    window = _first(text, "sliding_window", "sliding_window_size", "attention_window_size")
    chunk = _first(text, "attention_chunk_size")
    nemotron = text.get("hybrid_override_pattern")
    own = text.get("per_layer_config")
    out = []
    for i in range(count):
        kind = kinds[i]
        dim, kv = head_dim, kv_heads[i]
        if kind == "full" and _first(text, "global_head_dim"):  # Gemma 4
            dim = _first(text, "global_head_dim")
            if text.get("attention_k_eq_v") is not False:
                kv = _first(text, "num_global_key_value_heads") or kv
        if isinstance(own, Mapping) and isinstance(special := own.get(str(i), own.get(i)), Mapping):
            dim, kv = _first(special, "head_dim") or dim, _first(special, "num_key_value_heads") or kv
        dim_v = dim
        if latent is not None and kind == "full":
            dim, dim_v = latent.kv_lora_rank + latent.rope_dim, 0
            kv = 1
        width, experts = widths[i], moe[i]
        if isinstance(nemotron, str):  # Nemotron-H: attention, state and MLP are layers of their own
            width, experts = (width, False) if kind == "none" else (0, False)
            experts = nemotron[i : i + 1] == "E"
            width = 0 if experts else width
        out.append(
            Layer(
                kind=kind,
                heads=heads[i] if kind not in ("recurrent", "none") else 0,
                kv_heads=kv if kind not in ("recurrent", "none") else 0,
                head_dim=dim,
                head_dim_v=dim_v,
                window=window if kind == "sliding" else chunk if kind == "chunked" else 0,
                experts=experts,
                intermediate=0 if experts else width,
            )
        )
    return tuple(_share_last(out, _first(text, "num_kv_shared_layers")))


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
    if model_type.startswith("llama4") and _first(text, "intermediate_size_mlp"):
        widths = [_first(text, "intermediate_size_mlp")] * count
    if widths is None or not any(widths):
        widths = [4 * hidden] * count
    return widths


def _share_last(layers: list[Layer], shared: int) -> list[Layer]:
    """Gemma 3n and 4: the last layers read the cache of earlier ones and keep none."""
    from dataclasses import replace

    keep = len(layers) - min(shared, len(layers))
    return [layer if i < keep else replace(layer, kind="shared") for i, layer in enumerate(layers)]


def _kinds(text: Mapping[str, Any], model_type: str, count: int, notes: list[str]) -> list[LayerKind]:
    listed = text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    window = _first(text, "sliding_window", "sliding_window_size", "attention_window_size")
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
    period = _first(text, "full_attention_interval")
    if period and _first(text, "linear_num_value_heads"):
        return ["full" if (i + 1) % period == 0 else "recurrent" for i in range(count)]
    period = _first(text, "attn_layer_period")
    if period:  # Jamba
        offset = _first(text, "attn_layer_offset")
        return ["full" if i % period == offset % period else "recurrent" for i in range(count)]
    if model_type in ("mamba", "mamba2", "falcon_mamba"):
        return ["recurrent"] * count
    return _attention_kinds(text, model_type, count, window)


def _attention_kinds(text: Mapping[str, Any], model_type: str, count: int, window: int) -> list[LayerKind]:
    full: list[LayerKind] = ["full"] * count
    if model_type.startswith("llama4") and _first(text, "attention_chunk_size"):
        nope = text.get("no_rope_layers")
        if isinstance(nope, list) and len(nope) >= count:
            return ["chunked" if flag else "full" for flag in nope[:count]]
        every = _first(text, "no_rope_layer_interval") or 4
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
        since = _first(text, "max_window_layers") or count
        return ["sliding" if i >= since else "full" for i in range(count)]
    if model_type.startswith(("mistral", "mixtral", "phi3", "starcoder2", "ministral", "phimoe", "llama")):
        return ["sliding"] * count
    return full


def _moe_layers(text: Mapping[str, Any], model_type: str, count: int) -> list[bool]:
    """Which layers have experts."""
    dense_first = _first(
        text, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "first_k_dense"
    )
    step = (
        _first(
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
    offset = _first(text, "expert_layer_offset")
    if offset or "expert_layer_period" in text:
        return [i % step == offset for i in range(count)]
    if model_type in ("deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek", "kimi_k2"):
        return [i >= dense_first and i % step == 0 and i not in dense for i in range(count)]
    return [i >= dense_first and (i + 1) % step == 0 and i not in dense for i in range(count)]


def recurrent_of(text: Mapping[str, Any], hidden: int) -> Recurrent | None:
    """Sizes of one recurrent layer's state and weights (vLLM: model_executor/layers/mamba/mamba_utils.py)."""
    dtype = str(text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype") or "")
    ssm_bytes = 4 if "32" in dtype else 2
    v_heads = _first(text, "linear_num_value_heads")
    if v_heads:  # Gated DeltaNet: Qwen3-Next, Qwen3.5
        k_heads = _first(text, "linear_num_key_heads") or v_heads
        k_dim, v_dim = (
            _first(text, "linear_key_head_dim") or 128,
            _first(text, "linear_value_head_dim") or 128,
        )
        keys, values = k_heads * k_dim, v_heads * v_dim
        conv = 2 * keys + values
        kernel = _first(text, "linear_conv_kernel_dim") or 4
        weights = hidden * (conv + values + 2 * v_heads) + conv * kernel + values * hidden
        return Recurrent(conv * (kernel - 1), v_heads * k_dim * v_dim, ssm_bytes, weights)
    kda = text.get("linear_attn_config")
    if isinstance(
        kda, Mapping
    ):  # Kimi Delta Attention: queries, keys and values pass a short convolution each
        kda_heads, dim = _first(kda, "num_heads") or 32, _first(kda, "head_dim") or 128
        wide, kernel = kda_heads * dim, _first(kda, "short_conv_kernel_size") or 4
        weights = hidden * wide * 4 + wide * (3 * kernel + 4 * dim)
        return Recurrent(3 * wide * (kernel - 1), wide * dim, 4, weights)
    state = _first(text, "mamba_d_state", "ssm_state_size", "state_size", "mamba_state_dim")
    if not state:
        return None
    kernel = _first(text, "mamba_d_conv", "conv_kernel", "mamba_conv_kernel", "conv_kernel_size") or 4
    mamba_heads = _first(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads")
    if mamba_heads:  # Mamba 2
        head = _first(text, "mamba_d_head", "mamba_head_dim", "mamba_headdim") or 64
        inner = mamba_heads * head
        groups = _first(text, "mamba_n_groups", "n_groups", "mamba_ngroups") or 1
        conv = inner + 2 * groups * state
        weights = hidden * (inner + conv + mamba_heads) + conv * kernel + inner * hidden
        return Recurrent(conv * (kernel - 1), inner * state, ssm_bytes, weights)
    expand = _first(text, "mamba_expand", "expand") or 2
    inner = (
        _first(text, "intermediate_size") if str(text.get("model_type")) in ("mamba", "falcon_mamba") else 0
    )
    inner = inner or expand * hidden
    rank = _first(text, "mamba_dt_rank", "time_step_rank") or math.ceil(hidden / 16)
    weights = (
        hidden * 2 * inner
        + inner * kernel
        + inner * (rank + 2 * state)
        + rank * inner
        + inner * (state + hidden)
    )
    return Recurrent(inner * (kernel - 1), inner * state, ssm_bytes, weights)


def _first(text: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = text.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**12:
            return value
    return 0


def _per_layer(text: Mapping[str, Any], count: int, *names: str) -> list[int] | None:
    """A number for every layer, from one number or a list."""
    for name in names:
        value = text.get(name)
        if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            return [int(v) for v in (value + [value[-1]] * count)[:count]]
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
            return [value] * count
    return None
