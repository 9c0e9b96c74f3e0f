"""The storage format of each part of each layer, from the name lists that quantizers write. Only translation.

A checkpoint names modules (`model.layers.3.self_attn.q_proj`, `re:.*shared_experts.*`, `*.mlp.gate`) that it
leaves in 16 bit or stores in another format. Here the names become the parts of `domain.model.PARTS`, layer by
layer. Forbidden here: knowing the files and keys the names come from (`quantization.py`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from seawall.domain.model import PARTS, Format

_ATTENTIONS = ("self_attn", "attn", "mixer", "attention", "self_attention", "linear_attn")
_MLPS = ("mlp", "ffn", "mixer", "feed_forward", "block_sparse_moe", "moe")
_LEAVES = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3")


def _spelled(rooms: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{room}.{name}" for name in names for room in rooms)


_NAMES: dict[str, tuple[str, ...]] = {
    "q": _spelled(_ATTENTIONS, "q_proj", "qkv_proj", "query_key_value", "W_pack", "c_attn"),
    "kv": _spelled(_ATTENTIONS, "k_proj", "qkv_proj", "query_key_value", "W_pack", "c_attn"),
    "o": _spelled(_ATTENTIONS, "o_proj", "out_proj", "wo_b", "dense"),
    "q_a": _spelled(_ATTENTIONS, "q_a_proj", "wq_a", "fused_wqa_wkv", "fused_qkv_a_proj"),
    "q_b": _spelled(_ATTENTIONS, "q_b_proj", "wq_b"),
    "kv_a": _spelled(_ATTENTIONS, "kv_a_proj_with_mqa", "wkv", "fused_wqa_wkv", "fused_qkv_a_proj"),
    "kv_b": _spelled(_ATTENTIONS, "kv_b_proj"),
    "o_a": _spelled(_ATTENTIONS, "wo_a"),
    "gate": _spelled(_ATTENTIONS, "g_proj", "gate_proj"),
    "indexer": _spelled(_ATTENTIONS, "indexer.wq_b", "index_q_proj"),
    "state": (
        *_spelled(("linear_attn",), "in_proj_qkv", "in_proj_qkvz", "q_proj"),
        *_spelled(("mixer", "mamba", "conv", "short_conv"), "in_proj"),
    ),
    "mlp": _spelled(_MLPS, *_LEAVES),
    "experts": _spelled(_MLPS, *(f"experts.0.{leaf}" for leaf in _LEAVES)),
    "shared": _spelled(
        _MLPS, *(f"{name}.{leaf}" for name in ("shared_experts", "shared_expert") for leaf in _LEAVES)
    ),
    "latent": ("mixer.fc1_latent_proj", "block_sparse_moe.routed_expert_down_proj"),
}
"""How checkpoints spell each part behind `layers.N.`; one that is named at all decides for the part."""
_GEMMA4 = {"experts": ("experts.0.gate_proj", "moe.experts.0.gate_proj", "moe.gate_up_proj")}
"""Gemma 4's mixtures have a dense `mlp` beside `experts`: what is said of one is not said of the other."""
_PREFIX = re.compile(r"^(?:model\.|language_model\.|backbone\.|transformer\.|decoder\.)+")
_LAYER = re.compile(r"^layers\.(\d+)(?:\.|$)")
_HEAD = ("lm_head", "output", "head")
_EMBED = ("embed_tokens", "embeddings", "embed")
_MOST_RULES = 200_000
_SPELLINGS = ("{}", "model.{}", "model.language_model.{}", "language_model.model.{}", "backbone.{}")


@dataclass
class ModuleRules:
    """The lists of one checkpoint. `base` is what a module that is not named is stored in; None: plain 16 bit."""

    base: Format | None
    kept: list[str] = field(default_factory=list)
    named: list[tuple[str, Format]] = field(default_factory=list)

    def of_layers(self, count: int, architecture: str) -> list[dict[str, Format | None]]:
        """The format of every part, for every layer."""
        names = {**_NAMES, **(_GEMMA4 if architecture.startswith("gemma4") else {})}
        kept = _Index((p, None) for p in self.kept[:_MOST_RULES])
        named = _Index(self.named[:_MOST_RULES])
        return [
            {part: self._of(i, spelled, kept, named) for part, spelled in names.items()} for i in range(count)
        ]

    def of_model(self) -> dict[str, Format | None]:
        """Head and embedding: 16 bit unless they are named, which few checkpoints do."""
        named = {_plain(p): f for p, f in self.named}
        out: dict[str, Format | None] = {}
        for part, spelled in (("head", _HEAD), ("embed", _EMBED)):
            out[part] = next((named[n] for n in spelled if n in named), None)
        return out

    def _of(self, layer: int, spelled: tuple[str, ...], kept: _Index, named: _Index) -> Format | None:
        if any(kept.find(layer, name) for name in spelled):
            return None
        for name in spelled:
            if found := named.find(layer, name):
                return found[0]
        return self.base


class _Index:
    """Patterns by the layer that they name, so that 40,000 of them do not cost 40,000 comparisons per module."""

    def __init__(self, rules: Iterable[tuple[str, Format | None]]) -> None:
        self.by_layer: dict[int, dict[str, Format | None]] = {}
        self.general: dict[str, Format | None] = {}
        self.apart: dict[str, bool] = {}
        self.alike: dict[tuple[str, str], bool] = {}
        for pattern, value in rules:
            plain = pattern if pattern.startswith("re:") else _plain(pattern)
            layer = None if plain.startswith("re:") else _LAYER.match(plain)
            if layer is None or "*" in plain[: layer.end()]:
                self.general.setdefault(plain, value)
            else:
                self.by_layer.setdefault(int(layer[1]), {}).setdefault(plain, value)

    def find(self, layer: int, name: str) -> tuple[Format | None] | None:
        """The value of the first pattern that means `layers.<layer>.<name>`, in a tuple; None: no pattern does."""
        full = f"layers.{layer}.{name}"
        for pattern, value in self.by_layer.get(layer, {}).items():
            if _means(pattern, full):
                return (value,)
        for pattern, value in self.general.items():
            if self._means_anywhere(pattern, name, full):
                return (value,)
        return None

    def _means_anywhere(self, pattern: str, name: str, full: str) -> bool:
        """Whether a pattern means a module; asked once for all layers where it has no digit to tell them apart."""
        if pattern not in self.apart:
            self.apart[pattern] = re.search(r"\d", pattern.replace("experts.0", "")) is not None
        if self.apart[pattern]:
            return _means(pattern, full)
        key = (pattern, name)
        if key not in self.alike:
            self.alike[key] = _means(pattern, full)
        return self.alike[key]


def _plain(name: str) -> str:
    """`model.language_model.layers.3.mlp.experts.17.w1` -> `layers.3.mlp.experts.0.w1`."""
    return re.sub(r"experts\.\d+", "experts.0", _PREFIX.sub("", name[:400]))


def _means(pattern: str, full: str) -> bool:
    """True when a quantizer's pattern names this module or one that it is a part of."""
    if pattern.startswith("re:"):
        return _matches(pattern[3:], full)
    if "*" in pattern or "?" in pattern:
        return fnmatch.fnmatchcase(full, pattern) or fnmatch.fnmatchcase(full + ".weight", pattern)
    return f".{pattern.strip('.')}." in f".{full}."


def _matches(expression: str, full: str) -> bool:
    if len(expression) > 300 or re.search(r"[)\]][*+{].*[*+{]", expression):
        return False  # could take longer to match than anybody waits, and no quantizer writes such
    try:
        return any(re.match(expression, s.format(full)) for s in _SPELLINGS)
    except re.error:
        return False


def compact(
    per_layer: list[dict[str, Format | None]], of_model: Mapping[str, Format | None]
) -> tuple[Format, frozenset[str], dict[str, Format], dict[int, dict[str, Format | None]]]:
    """(main format, parts kept in 16 bit, parts in other formats, layers that differ from the rest).

    The main format is the routed experts' where they are quantized, else the MLP's: most of the bytes.
    """
    common = {part: _most([layer.get(part) for layer in per_layer]) for part in PARTS - {"head", "embed"}}
    common |= {part: of_model.get(part) for part in ("head", "embed")}
    formats = [f for f in common.values() if f is not None]
    main = common.get("experts") or common.get("mlp") or (formats[0] if formats else Format("none", 16))
    kept = frozenset(part for part, f in common.items() if f is None)
    others = {part: f for part, f in common.items() if f is not None and f != main}
    odd = {}
    for i, layer in enumerate(per_layer):
        if different := {part: f for part, f in layer.items() if f != common[part]}:
            odd[i] = different
    return main, kept, others, odd


def _most(values: list[Format | None]) -> Format | None:
    return max(dict.fromkeys(values), key=values.count) if values else None
