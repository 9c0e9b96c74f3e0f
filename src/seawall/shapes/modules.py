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

_NAMES: dict[str, tuple[str, ...]] = {
    "q": ("self_attn.q_proj", "mixer.q_proj", "attention.q_proj", "attn.q_proj"),
    "kv": ("self_attn.k_proj", "mixer.k_proj", "attention.k_proj", "attn.k_proj"),
    "o": ("self_attn.o_proj", "mixer.o_proj", "attention.o_proj", "attn.wo_b"),
    "q_a": ("self_attn.q_a_proj", "attn.wq_a"),
    "q_b": ("self_attn.q_b_proj", "attn.wq_b"),
    "kv_a": ("self_attn.kv_a_proj_with_mqa", "attn.wkv"),
    "kv_b": ("self_attn.kv_b_proj",),
    "o_a": ("attn.wo_a",),
    "gate": ("self_attn.g_proj",),
    "indexer": ("self_attn.indexer.wq_b", "self_attn.index_q_proj", "attn.indexer.wq_b"),
    "state": ("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz", "mixer.in_proj", "mamba.in_proj"),
    "mlp": ("mlp.gate_proj", "mlp.up_proj", "mixer.up_proj", "feed_forward.gate_proj"),
    "experts": (
        "mlp.experts.0.gate_proj",
        "mlp.experts.0.gate_up_proj",
        "block_sparse_moe.experts.0.w1",
        "mixer.experts.0.up_proj",
        "ffn.experts.0.w1",
        "feed_forward.experts.0.gate_proj",
    ),
    "shared": (
        "mlp.shared_experts.gate_proj",
        "mlp.shared_expert.gate_proj",
        "block_sparse_moe.shared_experts.gate_proj",
        "mixer.shared_experts.up_proj",
        "ffn.shared_experts.w1",
        "feed_forward.shared_expert.gate_proj",
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
        for rules in (self.by_layer.get(layer, {}), self.general):
            for pattern, value in rules.items():
                if _means(pattern, full):
                    return (value,)
        return None


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
