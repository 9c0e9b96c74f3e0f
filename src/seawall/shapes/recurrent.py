"""Sizes of one recurrent layer's state and weights: Gated DeltaNet, Kimi Delta Attention, Mamba. Only translation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seawall.domain.model import Recurrent
from seawall.shapes.getter import first


def recurrent_of(text: Mapping[str, Any], hidden: int) -> Recurrent | None:
    """Sizes of one recurrent layer's state and weights (vLLM: model_executor/layers/mamba/mamba_utils.py)."""
    dtype = str(text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype") or "")
    if not dtype and str(text.get("model_type")) == "nemotron_h":
        dtype = "float32"  # vLLM's own default for these models (models/config.py)
    ssm_bytes = 4 if "32" in dtype else 2
    v_heads = first(text, "linear_num_value_heads")
    if v_heads:  # Gated DeltaNet: Qwen3-Next, Qwen3.5
        k_heads = first(text, "linear_num_key_heads") or v_heads
        k_dim, v_dim = (
            first(text, "linear_key_head_dim") or 128,
            first(text, "linear_value_head_dim") or 128,
        )
        keys, values = k_heads * k_dim, v_heads * v_dim
        conv = 2 * keys + values
        kernel = first(text, "linear_conv_kernel_dim") or 4
        weights = hidden * (conv + values + 2 * v_heads) + conv * kernel + values * hidden
        return Recurrent(
            conv * (kernel - 1), v_heads * k_dim * v_dim, ssm_bytes, weights, conv + values, "gdn", kernel - 1
        )
    kda = text.get("linear_attn_config")
    if kda is None and first(text, "linear_num_heads"):  # as transformers 5 spells it
        names = {"num_heads": "linear_num_heads", "head_dim": "linear_head_dim"}
        kda = {name: text.get(key) for name, key in names.items()}
        kda["short_conv_kernel_size"] = text.get("linear_conv_kernel_dim")
    if (
        kda is None and first(text, "layer_group_size") > 1 and first(text, "short_conv_kernel_size")
    ):  # Ling 3
        kda = {"num_heads": text.get("num_attention_heads"), "head_dim": text.get("head_dim")}
        kda["short_conv_kernel_size"] = text.get("short_conv_kernel_size")
    if isinstance(
        kda, Mapping
    ):  # Kimi Delta Attention: queries, keys and values pass a short convolution each
        kda_heads, dim = first(kda, "num_heads") or 32, first(kda, "head_dim") or 128
        wide, kernel = kda_heads * dim, first(kda, "short_conv_kernel_size") or 4
        gate = hidden * wide if kda.get("use_full_rank_gate") is True else dim * (hidden + wide)
        weights = hidden * wide * 4 + gate + dim * (hidden + wide) + hidden * kda_heads + 3 * wide * kernel
        return Recurrent(3 * wide * (kernel - 1), wide * dim, 4, weights, 4 * wide, "kda")
    lightning = isinstance(text.get("attn_type_list"), list) or first(text, "layer_group_size") > 1
    heads = first(text, "num_attention_heads")
    if lightning and heads and not first(text, "short_conv_kernel_size"):  # MiniMax M1, Ling 2.5
        dim = first(text, "head_dim") or hidden // heads
        wide = heads * dim
        return Recurrent(0, wide * dim, ssm_bytes, 5 * hidden * wide, 4 * wide, "lightning")
    taps = first(text, "conv_L_cache") - 1
    if taps > 0:  # LFM 2: a gated convolution over the last tokens
        return Recurrent(
            hidden * taps, 0, ssm_bytes, hidden * (4 * hidden + taps + 1), 3 * hidden, "conv", taps
        )
    state = first(text, "mamba_d_state", "ssm_state_size", "state_size", "mamba_state_dim")
    if not state:
        return None
    kernel = first(text, "mamba_d_conv", "conv_kernel", "mamba_conv_kernel", "conv_kernel_size") or 4
    own = text.get("model_type") == "mamba2"  # its layers are nothing else
    mamba_heads = first(text, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", *["num_heads"] * own)
    if mamba_heads:  # Mamba 2
        head = first(text, "mamba_d_head", "mamba_head_dim", "mamba_headdim", *["head_dim"] * own) or 64
        inner = mamba_heads * head
        groups = first(text, "mamba_n_groups", "n_groups", "mamba_ngroups") or 1
        conv = inner + 2 * groups * state
        weights = hidden * (inner + conv + mamba_heads) + conv * kernel + inner * hidden
        return Recurrent(
            conv * (kernel - 1), inner * state, ssm_bytes, weights, inner + conv, "mamba2", kernel - 1
        )
    expand = first(text, "mamba_expand", "expand") or 2
    inner = (
        first(text, "intermediate_size") if str(text.get("model_type")) in ("mamba", "falcon_mamba") else 0
    )
    inner = inner or expand * hidden
    rank = first(text, "mamba_dt_rank", "time_step_rank") or math.ceil(hidden / 16)
    weights = (
        hidden * 2 * inner
        + inner * kernel
        + inner * (rank + 2 * state)
        + rank * inner
        + inner * (state + hidden)
    )
    return Recurrent(inner * (kernel - 1), inner * state, ssm_bytes, weights, 2 * inner)
