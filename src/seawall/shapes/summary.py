"""Architecture summaries (flat tables of a model's parameters) -> the config.json keys that they mean.

People keep such tables (`arch`, nested `moe` and `mla`, `attention_pattern` in words) beside logs of runs.
Only translation; what a summary says in prose is read with two patterns and otherwise left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def is_summary(config: Mapping[str, Any]) -> bool:
    return "attention_pattern" in config or ("arch" in config and "model_type" not in config)


def from_summary(summary: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The equivalent config.json and the published parameter count (0 when unknown)."""
    out = {k: v for k, v in summary.items() if v is not None and k not in ("moe", "mla", "sparse_indexer")}
    arch = str(summary.get("arch") or "unknown")
    out["model_type"] = re.split(r"[ /(]", arch)[0]
    for key in ("mla", "sparse_indexer"):
        if isinstance(summary.get(key), Mapping):
            out.update({k: v for k, v in summary[key].items() if v is not None})
    moe = summary.get("moe")
    if isinstance(moe, Mapping):
        _experts(out, moe)
    _pattern(out, str(summary.get("attention_pattern") or ""))
    note = str(summary.get("checkpoint_note") or "")
    if "quantization_config" not in out:
        if "mxfp4" in note:
            out["quantization_config"] = {"quant_method": "mxfp4"}
        elif "fp8" in note and "block" in note:
            out["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
        elif "int8" in note:
            out["quantization_config"] = {"quant_method": "int8"}
    total = summary.get("total_parameters")
    return out, int(total) if isinstance(total, (int, float)) and not isinstance(total, bool) else 0


def _experts(out: dict[str, Any], moe: Mapping[str, Any]) -> None:
    out["num_experts"] = moe.get("num_experts")
    out["num_experts_per_tok"] = moe.get("num_experts_per_tok")
    out["moe_intermediate_size"] = moe.get("moe_intermediate_size")
    out["first_k_dense_replace"] = moe.get("first_k_dense")
    if moe.get("shared_expert_intermediate_size"):
        out["shared_expert_intermediate_size"] = moe["shared_expert_intermediate_size"]
    elif moe.get("shared_experts"):
        out["n_shared_experts"] = moe["shared_experts"]


def _pattern(out: dict[str, Any], text: str) -> None:
    """`22 sliding / 4 full (every 6th)`, `16 of 64 layers full attention`, `(4 KV heads x 512, K==V)`."""
    layers = out.get("num_hidden_layers")
    if not isinstance(layers, int) or layers <= 0:
        return
    of = re.search(r"(\d+) of (\d+) layers (full|chunked)", text)
    if of and of[3] == "full" and "layer_types" not in out:
        every = max(1, int(of[2]) // max(1, int(of[1])))
        out["layer_types"] = [
            "full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(layers)
        ]
    pair = re.search(r"(\d+) sliding[^/]*/ *(\d+) full", text)
    if pair and "layer_types" not in out:
        every = max(1, round(layers / max(1, int(pair[2]))))
        kinds = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]
        out["layer_types"] = kinds
        wide = re.search(r"full \((\d+) KV heads x (\d+)", text)
        if wide:
            out["num_global_key_value_heads"], out["global_head_dim"] = int(wide[1]), int(wide[2])
