"""`quantization_config` of a config.json -> how many bits which weights have. Only translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.domain.model import CheckpointQuantization


def quantization_of(raw: Mapping[str, Any], text: Mapping[str, Any]) -> CheckpointQuantization | None:
    """The checkpoint's own quantization, or None for plain 16 or 32 bit weights."""
    for source in (raw, text):
        for key in ("quantization_config", "compression_config"):
            config = source.get(key)
            if isinstance(config, Mapping) and config:
                return _read(config)
    return None


def quantization_named(text: str) -> CheckpointQuantization | None:
    """A method's name as people and logs write it (`awq_marlin`, `modelopt_fp4 (nvfp4)`, `gguf Q8_0`)."""
    t = text.lower().replace("-", "_")
    if not t or t in ("none", "null"):
        return None
    if "mxfp4" in t:
        return CheckpointQuantization("mxfp4", 4, 32, attention=False, experts_only=True)
    if "fp4" in t:
        return CheckpointQuantization("nvfp4", 4, 16)
    if "gguf" in t:
        return CheckpointQuantization("gguf", gguf_bits(t), 32, head=True)
    if "bitsandbytes" in t or "bnb" in t:
        return CheckpointQuantization("bitsandbytes", 8 if "8" in t else 4, 64)
    for method in ("awq", "gptq"):
        if method in t:
            return CheckpointQuantization(method, 8 if "8bit" in t or "8_bit" in t else 4, 128)
    if any(word in t for word in ("int4", "4_bit", "4bit", "w4a", "wna16", "autoround", "auto_round", "hqq")):
        return CheckpointQuantization("gptq", 4, 128)
    if "fp8" in t:
        return CheckpointQuantization("fp8", 8, 0)
    return CheckpointQuantization("int8", 8, 0)


def gguf_bits(name: str) -> float:
    """Bits per weight of a GGUF type, scales included (ggml's block sizes)."""
    table = {
        "q8_0": 8.5,
        "q6_k": 6.5625,
        "q5_k": 5.5,
        "q5_1": 6.0,
        "q5_0": 5.5,
        "q4_k": 4.83,
        "q4_1": 5.0,
        "q4_0": 4.5,
    }
    table |= {"q3_k": 3.9, "q2_k": 3.0, "iq4": 4.4, "iq3": 3.4, "f16": 16.0, "bf16": 16.0}
    return next((bits for key, bits in table.items() if key in name.lower()), 4.83)


def _read(config: Mapping[str, Any]) -> CheckpointQuantization:
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    skipped = _skipped(config)
    attention, shared = not _skips_attention(skipped), not _skips(skipped, "shared_expert")
    if method == "mxfp4":
        return CheckpointQuantization("mxfp4", 4, 32, attention=False, experts_only=True)
    if method == "fp8":
        block = config.get("weight_block_size")
        sides = [b for b in block if isinstance(b, int) and 0 < b <= 65536] if isinstance(block, list) else []
        group = sides[0] * sides[1] if len(sides) == 2 else 0
        return CheckpointQuantization("fp8", 8, group, attention, shared_experts=shared)
    if method in (
        "awq",
        "gptq",
        "auto_round",
        "auto-round",
        "autoround",
        "awq_marlin",
        "gptq_marlin",
        "intel/auto-round",
    ):
        bits = _int(config, 4, "bits", "w_bit", "weight_bits")
        name = "awq" if "awq" in method else "gptq"
        return CheckpointQuantization(
            name, bits, _int(config, 128, "group_size", "q_group_size"), attention, shared_experts=shared
        )
    if method == "bitsandbytes":
        return CheckpointQuantization(
            "bitsandbytes", 8 if config.get("load_in_8bit") is True else 4, 64, attention
        )
    if method.startswith("modelopt") or "quant_algo" in config or "producer" in config:
        algo = str(config.get("quant_algo") or config.get("quantization", {})).upper()
        if "FP4" in algo:
            return CheckpointQuantization("nvfp4", 4, 16, attention, shared_experts=shared)
        return CheckpointQuantization("fp8", 8, 0, attention, shared_experts=shared)
    if method in ("compressed-tensors", "compressed_tensors", "sparseml") or "config_groups" in config:
        return _compressed(config, attention, shared)
    if method == "gguf":
        return CheckpointQuantization("gguf", gguf_bits(str(config.get("type", ""))), 32, head=True)
    return quantization_named(method) or CheckpointQuantization("int8", 8, 0, attention)


def _compressed(config: Mapping[str, Any], attention: bool, shared: bool) -> CheckpointQuantization:
    """compressed-tensors: the first config group's weights; `targets` may name experts only."""
    groups = config.get("config_groups")
    first: Any = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    weights = first.get("weights") if isinstance(first, Mapping) else None
    weights = weights if isinstance(weights, Mapping) else {}
    bits = _int(weights, 8, "num_bits")
    is_float = str(weights.get("type", "int")).startswith("float")
    group = _int(weights, 0, "group_size")
    targets = str(first.get("targets", "")) if isinstance(first, Mapping) else ""
    only = "expert" in targets and "Linear" not in targets
    name = ("nvfp4" if bits == 4 else "fp8") if is_float else ("gptq" if bits == 4 else "int8")
    if str(config.get("format", "")).startswith("mxfp4"):
        name, group = "mxfp4", 32
    if bits == 4 and not group:
        group = 16 if is_float else 128
    return CheckpointQuantization(name, bits, max(group, 0), attention and not only, only, shared)


def _skipped(config: Mapping[str, Any]) -> list[str]:
    for key in (
        "ignore",
        "modules_to_not_convert",
        "exclude_modules",
        "ignored_layers",
        "llm_int8_skip_modules",
    ):
        value = config.get(key)
        if isinstance(value, list):
            return [str(v) for v in value[:20000]]
    return []


def _skips(skipped: list[str], word: str) -> bool:
    return any(word in s for s in skipped)


def _skips_attention(skipped: list[str]) -> bool:
    """More than half of the layers keep their attention projections in 16 bit, or a pattern says all do."""
    hits = [s for s in skipped if "attn" in s or "attention" in s]
    return any(s.startswith("re:") or "*" in s for s in hits) or len(hits) >= 12


def _int(config: Mapping[str, Any], default: int, *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return default
