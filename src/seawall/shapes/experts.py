"""Experts, latent and indexed attention in a config, under all the names they go by. Only translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.domain.model import Compressed, Experts, Indexer, Latent
from seawall.shapes.getter import Getter

_PATTERNS = (
    "layers_block_type",
    "layer_types",
    "hybrid_override_pattern",
    "block_configs",
    "hybrid_layer_pattern",
)


def experts_of(text: Mapping[str, Any], gated: bool) -> Experts | None:
    """The mixture of experts; `gated` says whether its MLPs have a gate."""
    get = Getter(text)
    count = get.integer(
        0, "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts", "n_experts"
    )
    if count <= 1:
        return None
    # Llama 4, Mixtral, GPT-OSS and MiniMax M2 give the expert's width as intermediate_size.
    width = get.integer(
        0, "moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size", "ffn_hidden_size"
    ) or get.need("intermediate_size", "ffn_dim")
    shared = get.integer(
        0, "shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size",
        "share_expert_dim",
    )  # fmt: skip
    if not shared:
        shared = width * get.integer(
            0, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"
        )
    if not shared and str(text.get("model_type", "")).startswith("llama4"):
        shared = width
    per_token = get.integer(
        2, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts",
        "num_selected_experts",
    )  # fmt: skip
    latent = get.integer(0, "moe_latent_size", "routed_expert_hidden_size")
    idle = get.integer(0, "zero_expert_num")
    return Experts(count, per_token, width, shared, latent, 3 if gated else 2, idle)


_GATED = ("hy_v4",)


def latent_of(text: Mapping[str, Any]) -> Latent | None:
    """Multi-head latent attention, told by its `kv_lora_rank`."""
    get = Getter(text)
    rank = get.integer(0, "kv_lora_rank")
    if not rank:
        return None
    return Latent(
        rank,
        get.integer(64, "qk_rope_head_dim"),
        get.integer(128, "qk_nope_head_dim"),
        get.integer(128, "v_head_dim"),
        get.integer(0, "q_lora_rank"),
        text.get("mla_use_output_gate") is True or text.get("model_type") in _GATED,
        text.get("model_type") == "minicpm3",
    )


def ratios_of(text: Mapping[str, Any], count: int) -> list[int]:
    """Tokens that share one entry of the compressed cache, for each layer (0: a window only); empty: another model."""
    if not Getter(text).integer(0, "o_lora_rank"):
        return []
    given = text.get("compress_ratios")
    if isinstance(given, list):
        return [_ratio(value) for value in (given + [0] * count)[:count]]
    rates, types = text.get("compress_rates"), text.get("layer_types")
    if not isinstance(rates, Mapping) or not isinstance(types, list):
        return []
    return [_ratio(rates.get(str(kind))) for kind in (types + [""] * count)[:count]]


def _ratio(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 < value <= 4096 else 0


def compressed_of(text: Mapping[str, Any]) -> Compressed | None:
    """DeepSeek V4's attention, told by its list of compression ratios."""
    get = Getter(text)
    if not ratios_of(text, 1):
        return None
    return Compressed(
        get.need("q_lora_rank"),
        get.need("o_lora_rank"),
        get.integer(1, "o_groups") or 1,
        min(64, get.integer(1, "hc_mult") or 1),
    )


def indexer_of(text: Mapping[str, Any]) -> Indexer | None:
    """Sparse attention's index: DeepSeek's keys, or MiniMax M3's `sparse_attention_config`."""
    get = Getter(text)
    dim = get.integer(0, "index_head_dim")
    if dim:
        return Indexer(dim, get.integer(1, "index_n_heads"))
    sparse = text.get("sparse_attention_config")
    if isinstance(sparse, Mapping) and sparse.get("use_sparse_attention") is True:
        own = Getter(sparse)
        dim = own.integer(0, "sparse_index_dim")
        return Indexer(dim, own.integer(1, "sparse_num_index_heads"), separate_query=True) if dim else None
    return None


def indexed_layers(text: Mapping[str, Any], count: int) -> list[bool]:
    """Which layers keep an index of their own; in the others it is absent or an earlier layer's."""
    types = text.get("indexer_types")  # GLM 5.2: full, or shared with the layer before
    if isinstance(types, list) and types:
        own = [t == "full" for t in types[:count]]
        return own + [True] * (count - len(own))
    sparse = text.get("sparse_attention_config")
    freq = sparse.get("sparse_attention_freq") if isinstance(sparse, Mapping) else None
    if isinstance(freq, list) and freq:
        return [bool(f) for f in (freq + [freq[-1]] * count)[:count]]
    if ratios := ratios_of(text, count):
        return [r == 4 for r in ratios]
    return [indexer_of(text) is not None] * count


def layer_count(text: Mapping[str, Any]) -> int:
    """Decoder layers: the number, or the length of the list that describes each of them."""
    get = Getter(text)
    count = get.integer(0, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    if count:
        return count
    for key in _PATTERNS:
        value = text.get(key)
        if isinstance(value, (list, str)) and value:
            return len(value)
    return get.need("num_hidden_layers", "n_layer", "num_layers", "n_layers")
