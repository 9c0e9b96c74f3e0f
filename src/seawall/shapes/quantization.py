"""Quantized checkpoints as they are published -> which weights have how many bits, and which KV cache they ask for.

The facts stand in `quantization_config` (or `compression_config`) of config.json, or in the file
`hf_quant_config.json` beside it, which vLLM reads only when config.json says nothing. Only translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seawall.domain.model import PARTS, CheckpointQuantization, Format, experts_only
from seawall.shapes.modules import ModuleRules, compact

Config = Mapping[str, Any]


def quantization_of(
    raw: Config, text: Config, count: int, architecture: str, beside: Config | None = None
) -> tuple[CheckpointQuantization | None, str]:
    """(the checkpoint's own quantization or None for plain weights, the KV cache's dtype or `auto`).

    `count` is the number of layers, `beside` the decoded hf_quant_config.json.
    """
    config = _found(raw, text, beside)
    if config is None:
        return None, "auto"
    cache = cache_of(config)
    if text.get("kv_lora_rank") and "compressed" in str(config.get("quant_method")):
        cache = (
            "auto"  # vLLM follows such a scheme in its usual attention only (layers/attention/attention.py)
        )
    if str(config.get("quant_method")).lower() == "gguf":
        bits = gguf_bits(str(config.get("type", "")))
        return CheckpointQuantization("gguf", bits, 32, kept=frozenset()), cache
    rules = _rules(config)
    if rules is None:
        return quantization_named(str(config.get("quant_method") or "")), cache
    small = str(text.get("expert_dtype") or raw.get("expert_dtype") or "").lower() in ("fp4", "mxfp4")
    if small and rules.base is not None and not any("experts" in name for name, _ in rules.named):
        rules.named.append(("re:.*(mlp|ffn).experts.*", Format("mxfp4", 4, 32)))
    main, kept, others, odd = compact(rules.of_layers(count, architecture), rules.of_model())
    if main.method == "none":
        return None, cache
    return CheckpointQuantization(main.method, main.bits, main.group, kept, others, layers=odd), cache


def _found(raw: Config, text: Config, beside: Config | None) -> Config | None:
    for source in (raw, text):
        for key in ("quantization_config", "compression_config"):
            config = source.get(key)
            if isinstance(config, Mapping) and config:
                return config
    inner = beside.get("quantization") if isinstance(beside, Mapping) else None
    return {"quant_method": "modelopt", **inner} if isinstance(inner, Mapping) and inner else None


def cache_of(config: Config) -> str:
    """The KV cache that a checkpoint was calibrated for: `kv_cache_scheme` or `kv_cache_quant_algo`."""
    inner = config.get("quantization")
    for source in (config, inner if isinstance(inner, Mapping) else {}):
        scheme = source.get("kv_cache_scheme") or source.get("kv_cache_quant_algo")
        if isinstance(scheme, Mapping):
            bits, kind = _int(scheme, 16, "num_bits"), str(scheme.get("type", "float"))
            return "fp8" if bits == 8 and kind == "float" else "nvfp4" if bits == 4 else "auto"
        if isinstance(scheme, str) and scheme:
            name = scheme.upper()
            return "nvfp4" if "FP4" in name else "fp8" if "FP8" in name else "auto"
    return "auto"


def _rules(config: Config) -> ModuleRules | None:
    """The lists of one checkpoint; None for a method that says no more than its name."""
    method = str(config.get("quant_method") or "").lower()
    inner = config.get("quantization")
    if isinstance(inner, Mapping) and "quant_algo" not in config:  # hf_quant_config.json inlined
        config = {**config, **inner}
    kept = _kept(config)
    if method == "mxfp4":
        return ModuleRules(None, kept, [("re:.*experts.*", Format("mxfp4", 4, 32))])
    if method in ("compressed-tensors", "compressed_tensors", "sparseml"):
        return _groups(config, kept)
    if method == "quark":
        return _quark(config, kept)
    if method == "torchao":
        base = _torchao(config)
        return None if base is None else ModuleRules(base, kept)
    if method.startswith("modelopt") or "quant_algo" in config or "producer" in config:
        return _modelopt(config, method, kept)
    if "config_groups" in config:
        return _groups(config, kept)
    if method in ("fp8", "fbgemm_fp8", "fp_quant", "deepseek_v4_fp8", "finegrained_fp8"):
        return ModuleRules(_fp8(config), kept)
    if "awq" in method or "gptq" in method or method in _AUTO_ROUND:
        name = "awq" if "awq" in method else "gptq"
        bits = _int(config, 4, "bits", "w_bit", "weight_bits")
        base = Format(name, bits, max(0, _int(config, 128, "group_size", "q_group_size")))
        return ModuleRules(base, kept, _exceptions(config, base))
    if method == "bitsandbytes":
        return ModuleRules(Format("bitsandbytes", 8 if config.get("load_in_8bit") is True else 4, 64), kept)
    return None


_AUTO_ROUND = ("auto_round", "auto-round", "autoround", "intel/auto-round", "inc")


def _fp8(config: Config) -> Format:
    block = config.get("weight_block_size")
    sides = [b for b in block if isinstance(b, int) and 0 < b <= 65536] if isinstance(block, list) else []
    return Format("fp8", 8, sides[0] * sides[1] if len(sides) == 2 else 0)


def _modelopt(config: Config, method: str, kept: list[str]) -> ModuleRules:
    """One algorithm for all but what is excluded, or MIXED_PRECISION: only what `quantized_layers` names."""
    algo = str(config.get("quant_algo") or "").upper()
    group = _int(config, 0, "group_size")
    mixed = config.get("quantized_layers")
    if isinstance(mixed, Mapping) and mixed:
        named = [
            (str(name), f)
            for name, own in mixed.items()
            if isinstance(own, Mapping)
            and (f := _algorithm(str(own.get("quant_algo") or ""), _int(own, 0, "group_size"))) is not None
        ]
        # What is not named is plain, but where the file is an fp8 checkpoint with some layers redone.
        base = _fp8(config) if method == "fp8" else None
        return ModuleRules(base, [k for k in kept if base is None], named)
    return ModuleRules(_algorithm(algo, group), kept)


def _algorithm(algo: str, group: int) -> Format | None:
    """A ModelOpt algorithm's name -> how its weights are stored."""
    name = algo.upper()
    if "MXFP4" in name:
        return Format("mxfp4", 4, 32)
    if "MXFP8" in name:
        return Format("mxfp8", 8, 32)
    if "FP4" in name:
        return Format("nvfp4", 4, group or 16)
    if name.startswith(("W4", "INT4")):
        return Format("awq", 4, group or 128)
    if "FP8" in name:
        return Format("fp8", 8, 128 * 128 if "PB" in name else 0)
    return Format("int8", 8, 0) if name else None


def _quark(config: Config, kept: list[str]) -> ModuleRules:
    """AMD's Quark: one way for all, other ways for modules that patterns name, a list of what is left alone."""
    base = _quark_format(config.get("global_quant_config"))
    own = config.get("layer_quant_config")
    named, plain = [], []
    for name, how in own.items() if isinstance(own, Mapping) else ():
        stored = _quark_format(how)
        if stored is None:
            plain.append(str(name))
        else:
            named.append((str(name), stored))
    return ModuleRules(base, kept + plain, named)


def _quark_format(how: Any) -> Format | None:
    weight = how.get("weight") if isinstance(how, Mapping) else None
    weight = weight[0] if isinstance(weight, list) and weight else weight
    if not isinstance(weight, Mapping):
        return None
    dtype, group = str(weight.get("dtype") or "").lower(), max(0, _int(weight, 0, "group_size"))
    if "fp4" in dtype or "mxfp4" in dtype:
        return Format("mxfp4", 4, group or 32)
    if dtype.startswith(("fp8", "float8")):
        return Format("fp8", 8, group)
    if "int4" in dtype:
        return Format("awq", 4, group or 128)
    if "fp6" in dtype:
        return Format("mxfp8", 6, group or 32)
    return Format("int8", 8, group) if "int8" in dtype else None


def _torchao(config: Config) -> Format | None:
    """The name of torchao's configuration class says what it does; None: one that we cannot read."""
    kind = config.get("quant_type")
    inner = kind.get("default") if isinstance(kind, Mapping) else {"_type": kind}
    name = str(inner.get("_type") if isinstance(inner, Mapping) else "").lower()
    data = inner.get("_data") if isinstance(inner, Mapping) else None
    group = max(0, _int(data, 0, "group_size")) if isinstance(data, Mapping) else 0
    if "float8" in name and "int4" not in name:
        return Format("fp8", 8, 0)
    if "int4" in name or "uintx" in name:
        return Format("awq", 4, group or 128)
    return Format("int8", 8, group) if "int8" in name else None


def _groups(config: Config, kept: list[str]) -> ModuleRules:
    """compressed-tensors: every group names the modules (or `Linear`: all) that it is for."""
    groups = config.get("config_groups")
    base: Format | None = None
    named: list[tuple[str, Format]] = []
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if not isinstance(group, Mapping):
            continue
        stored = _group(group, config)
        targets = group.get("targets")
        targets = [str(t) for t in targets] if isinstance(targets, list) else ["Linear"]
        for target in targets:
            if target in ("Linear", "LinearBase", "ColumnParallelLinear", "RowParallelLinear"):
                base = base or stored
            elif target in ("FusedMoE", "MoE"):
                named.append(("re:.*experts.*", stored))
            else:
                named.append((target, stored))
    return ModuleRules(base or (None if named else Format("int8", 8, 0)), kept, named)


def _group(group: Config, config: Config) -> Format:
    weights = group.get("weights")
    weights = weights if isinstance(weights, Mapping) else {}
    bits, size = _int(weights, 8, "num_bits"), max(0, _int(weights, 0, "group_size"))
    block = weights.get("block_structure")
    if isinstance(block, list) and len(block) == 2 and all(isinstance(b, int) and b > 0 for b in block):
        size = block[0] * block[1]
    form = str(group.get("format") or config.get("format") or "")
    if form.startswith("mxfp4"):
        return Format("mxfp4", 4, 32)
    if str(weights.get("type", "int")).startswith("float"):
        return Format("nvfp4", 4, size or 16) if bits == 4 else Format("fp8", 8, size)
    name = "int8" if bits == 8 else "gptq" if weights.get("symmetric", True) is not False else "awq"
    return Format(name, bits, size or (0 if bits == 8 else 128))


def _exceptions(config: Config, base: Format) -> list[tuple[str, Format]]:
    """AutoRound's `extra_config`: modules with bits of their own (those with 16 are in `_kept`)."""
    extra = config.get("extra_config")
    out = []
    for name, own in extra.items() if isinstance(extra, Mapping) else ():
        bits = _int(own, 16, "bits") if isinstance(own, Mapping) else 16
        if bits < 16:
            out.append((str(name), Format(base.method, bits, max(0, _int(own, base.group, "group_size")))))
    if config.get("lm_head") is True:
        out.append(("lm_head", base))
    return out


def _kept(config: Config) -> list[str]:
    """Names and patterns of what stays in 16 bit, under the keys of all quantizers."""
    out: list[str] = []
    keys = (
        "ignore",
        "modules_to_not_convert",
        "exclude_modules",
        "exclude",
        "ignored_layers",
        "llm_int8_skip_modules",
    )
    for key in keys:
        value = config.get(key)
        if isinstance(value, list):
            out += [str(v) for v in value[:200_000]]
    dynamic = config.get("dynamic")  # GPTQ: `-:regex` leaves modules out
    if isinstance(dynamic, Mapping):
        out += ["re:" + str(k)[2:] for k in dynamic if str(k).startswith("-:")]
    extra = config.get("extra_config")  # AutoRound: 16 bits written out
    if isinstance(extra, Mapping):
        for name, own in extra.items():
            if isinstance(own, Mapping) and _int(own, 0, "bits") >= 16:
                out.append(str(name))
    return out


def quantization_named(text: str) -> CheckpointQuantization | None:
    """A method's name as people and logs write it (`awq_marlin`, `modelopt_fp4 (nvfp4)`, `gguf Q8_0`)."""
    t = text.lower().replace("-", "_")
    if not t or t in ("none", "null"):
        return None
    if "mxfp4" in t:
        return experts_only("mxfp4", 4, 32)
    if "fp4" in t:
        return CheckpointQuantization("nvfp4", 4, 16)
    if "gguf" in t:
        return CheckpointQuantization("gguf", gguf_bits(t), 32, kept=frozenset())
    if "bitsandbytes" in t or "bnb" in t:
        return CheckpointQuantization("bitsandbytes", 8 if "8" in t else 4, 64)
    for method in ("awq", "gptq"):
        if method in t:
            return CheckpointQuantization(method, 8 if "8bit" in t or "8_bit" in t else 4, 128)
    if any(word in t for word in ("int4", "4_bit", "4bit", "w4a", "wna16", "autoround", "auto_round", "hqq")):
        return CheckpointQuantization("gptq", 4, 128)
    if "fp8" in t:
        return CheckpointQuantization("fp8", 8, 0)
    plain = any(word in t for word in ("int8", "w8a", "8bit", "8_bit", "compressed", "smooth"))
    return CheckpointQuantization("int8", 8, 0, guessed="" if plain else text[:40])


def quantized_experts(q: CheckpointQuantization) -> CheckpointQuantization:
    """The same format on routed experts only, as published NVFP4 checkpoints of mixtures have it."""
    return experts_only(q.method, q.bits, q.group) if q.kept != PARTS - {"experts"} else q


def gguf_bits(name: str) -> float:
    """Bits per weight of a GGUF type, scales included (ggml's block sizes)."""
    table = {
        "q8_0": 8.5, "q6_k": 6.5625, "q5_k": 5.5, "q5_1": 6.0, "q5_0": 5.5, "q4_k": 4.83, "q4_1": 5.0, "q4_0": 4.5,
        "q3_k": 3.9, "q2_k": 3.0, "iq4": 4.4, "iq3": 3.4, "f16": 16.0, "bf16": 16.0,
    }  # fmt: skip
    return next((bits for key, bits in table.items() if key in name.lower()), 4.83)


def _int(config: Config, default: int, *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return default
