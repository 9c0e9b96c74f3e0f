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
        2, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts",
        "num_selected_experts",
    )  # fmt: skip
    latent = get.integer(0, "moe_latent_size", "routed_expert_hidden_size")
    return Experts(count, per_token, width, shared, latent, 3 if gated else 2)


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
        text.get("mla_use_output_gate") is True,
    )


def compressed_of(text: Mapping[str, Any]) -> Compressed | None:
    """DeepSeek V4's attention, told by its list of compression ratios."""
    get = Getter(text)
    if not isinstance(text.get("compress_ratios"), list) or not get.integer(0, "o_lora_rank"):
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
    ratios = text.get("compress_ratios")
    if isinstance(ratios, list):
        return [r == 4 for r in (ratios + [0] * count)[:count]]
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
