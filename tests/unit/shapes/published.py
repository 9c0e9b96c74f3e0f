"""Configs that model authors published, and defaults of transformers' classes, without the fields that say nothing
of size, and their long lists folded.

`published_configs.jsonl` holds one model per line. `{"runs": [[value, count], ...]}` is a list in which values
repeat; `{"fold": {"model.layers.{n}.mlp.gate": "0-61"}}` is a list of names, one for each layer (and, after a slash,
each expert); `{"fold_by": [[value, fold], ...]}` is a mapping from such names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("published_configs.jsonl")
_COUNTED = Path(__file__).with_name("counted_configs.jsonl")
_CARDED = Path(__file__).with_name("carded_configs.jsonl")


def published() -> dict[str, tuple[dict[str, Any], dict[str, Any] | None]]:
    """Model name -> (config.json, hf_quant_config.json or None), as the hub serves them."""
    rows = [json.loads(line) for line in _FILE.read_text("utf-8").splitlines()]
    return {
        row["model"]: (
            _whole(row["config"]),
            _whole(row["hf_quant_config"]) if "hf_quant_config" in row else None,
        )
        for row in rows
    }


def counted() -> dict[str, tuple[dict[str, Any], int, int]]:
    """Type of model -> (config, parameters, those of them that one token passes through).

    The configs are the defaults of transformers' own classes (5.19); the numbers were counted over the tensors that
    the class makes from the config, without memory for them (torch's `meta` device). Experts count as many times as
    a token visits them; encoders, embeddings that are no head, and small embeddings per layer are not active.
    """
    rows = [json.loads(line) for line in _COUNTED.read_text("utf-8").splitlines()]
    return {row["model_type"]: (_whole(row["config"]), row["parameters"], row["active"]) for row in rows}


def carded() -> dict[str, tuple[dict[str, Any], float, float]]:
    """Model -> (the part of its config that says its size, billions of parameters, active ones; 0: not said), as its
    authors state them, or for what they round generously as its class counts them."""
    rows = [json.loads(line) for line in _CARDED.read_text("utf-8").splitlines()]
    return {row["model"]: (_whole(row["config"]), row["billions"], row["active"]) for row in rows}


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "runs" in value:
        return [item for item, count in value["runs"] for _ in range(count)]
    if "fold" in value:
        return _names(value["fold"])
    if "fold_by" in value:
        return {name: stored for stored, fold in value["fold_by"] for name in _names(fold)}
    return {k: _whole(v) for k, v in value.items()}


def _names(fold: dict[str, str]) -> list[str]:
    out = []
    for template, which in fold.items():
        layers, _, experts = which.partition("/")
        for n in _numbers(layers):
            for e in _numbers(experts):
                out.append(template.replace("{n}", n).replace("{e}", e))
    return out


def _numbers(ranges: str) -> list[str]:
    out = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        out += [str(i) for i in range(int(first), int(last or first) + 1)] if first else [""]
    return out
