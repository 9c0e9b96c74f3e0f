"""A model's name -> a Fleet, as text with comments: what `seawall up MODEL` serves and `seawall init` writes.

The text is for people: it goes through the same reader as every other spec, so nothing is true of it that is not
written in it. Forbidden here: the network, and looking at the machine; who calls says what it has.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from seawall.domain.units import parse_tokens
from seawall.errors import InputError

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SCHEMES = ("hf", "file", "pypi", "s3", "gs", "https", "http", "oci", "model")
NO_CONTEXT = (
    "  # traffic: {maxContext: 16k, slo: {ttft: 2s, tpot: 60ms}}   # default: the model's own context"
)
"""The line of a Fleet whose context nobody has chosen."""
_GGUF_HELP = (
    "Name a hub model (Qwen/Qwen3-0.6B), a folder with config.json, or hf://, pypi://, s3://, file://."
)


@dataclass(frozen=True, kw_only=True)
class FleetWish:
    """What a person says of a fleet besides its model; None: left out, so that it is planned or defaulted."""

    name: str | None = None
    namespace: str | None = None
    gpu: str = "auto"
    gpus: int | None = None
    cloud: str | None = None
    context: str | None = None
    replicas: int = 1
    most: int | None = None
    dtype: str | None = None
    keys_file: str | None = None
    per_node: int | None = None
    resource: str | None = None
    taints: tuple[tuple[str, str, str], ...] = ()
    """(key, value, effect) that the nodes it is for carry."""
    why: str = ""
    """What its GPU was chosen by, for the comment beside it."""


def is_spec(word: str) -> bool:
    """The word names a Fleet file and not a model: `fleet.yaml`, `-`, what a shell makes of `<(...)`."""
    path = Path(word)
    there = bool(word) and "\0" not in word and path.exists() and not path.is_dir() and path.suffix != ".gguf"
    return word == "-" or word.endswith((".yaml", ".yml")) or there


def source_of(model: str) -> str:
    """A model as people type it -> `spec.model.source`. InputError says what may be typed."""
    if "://" in model:
        scheme = model.partition("://")[0]
        if scheme not in _SCHEMES:
            raise InputError(f"{model!r:.120}: {scheme}:// is not a source of models.", _GGUF_HELP)
        return model
    if not model.strip():
        raise InputError("an empty word is neither a model nor a Fleet file.", _GGUF_HELP)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: this folder holds no config.json.", "Name the folder of one model.")
        return f"file://{path.absolute()}"
    if path.is_file():
        if path.suffix == ".gguf":
            return f"file://{path.absolute()}"
        raise InputError(f"{path}: is neither a Fleet's YAML file nor a .gguf.", _GGUF_HELP)
    if model.startswith((".", "/", "~")) or model.endswith(".gguf"):
        raise InputError(f"{path}: there is no such file or folder.", _GGUF_HELP)
    if _HUB.fullmatch(model.partition("@")[0]):
        return f"hf://{model}"
    raise InputError(f"{model!r:.120} is neither a model nor a Fleet file.", _GGUF_HELP)


def label_of(source: str) -> str:
    """A fleet's name out of its model's: `hf://Qwen/Qwen3-0.6B@main` -> `qwen3-0-6b`."""
    body = re.split(r"[@?]", source.split("://", 1)[-1])[0].rstrip("/")
    tail = body.rsplit("/", 1)[-1].removesuffix(".gguf").removesuffix(".safetensors")
    text = re.sub(r"[^a-z0-9]+", "-", tail.lower()).strip("-")[:40].strip("-")
    return text or "model"


def fleet_text(model: str, wish: FleetWish) -> str:
    """A commented Fleet. InputError for what cannot be one; the rest is judged by the reader of specs."""
    source, revision = source_of(model), ""
    if source.startswith("hf://"):
        source, _, revision = source.partition("@")
    name = wish.name or label_of(source)
    served = [name]
    if source.startswith("hf://"):
        served.append(source.removeprefix("hf://"))
    if wish.context is not None:
        try:
            parse_tokens(wish.context)
        except ValueError as e:
            raise InputError(f"--context {wish.context!r:.40}: {e}.", "For example: --context 8k") from None
    namespace = f", namespace: {wish.namespace}" if wish.namespace else ""
    most = max(wish.most or 0, wish.replicas, 1)
    lines = [
        "# A Fleet: one model, its hardware, how it scales. `seawall explain spec.scaling` tells what a field does,",
        "# `seawall plan` on this file what was chosen for all that is left out.",
        "apiVersion: seawall.dev/v1alpha1",
        "kind: Fleet",
        f"metadata: {{name: {name}{namespace}}}",
        "spec:",
        "  model:",
        f"    source: {_quoted(source)}",
        f'    servedNames: [{", ".join(map(_quoted, served))}]   # what clients may write as "model"',
    ]
    lines += _model_lines(source, revision, wish)
    lines += ["  hardware:", f"    gpu: {_quoted(wish.gpu)}{_gpu_comment(wish)}"]
    if wish.cloud:
        lines.append(f"    cloud: {wish.cloud}")
    lines.append(
        f"    gpusPerReplica: {wish.gpus}" if wish.gpus else "    # gpusPerReplica: 2   # default: planned"
    )
    lines += _node_lines(wish)
    if wish.gpu == "cpu":
        lines += ["  engine:", "    enforceEager: true   # compiling for a CPU takes minutes at every start"]
    lines.append(f"  traffic: {{maxContext: {wish.context}}}" if wish.context else NO_CONTEXT)
    lines += [
        "  scaling:",
        f"    min: {wish.replicas}",
        f"    max: {most}   # above min: replicas follow the load",
    ]
    if wish.keys_file:
        lines += ["  gateway:", f"    keysFile: {_quoted(wish.keys_file)}"]
    else:
        lines += [
            "  # gateway: {keysFile: keys.json}   # ask for API keys: seawall keys add TENANT --file keys.json"
        ]
    return "\n".join(lines) + "\n"


def _model_lines(source: str, revision: str, wish: FleetWish) -> list[str]:
    lines = []
    if revision:
        lines.append(f"    revision: {_quoted(revision)}")
    elif source.startswith("hf://"):
        lines.append("    # revision: COMMIT   # pins the weights; or: seawall pull THIS_FILE --lock-only")
    lines.append(
        f"    dtype: {wish.dtype}" if wish.dtype else "    # dtype: bfloat16   # default: the checkpoint's"
    )
    return lines


def _node_lines(wish: FleetWish) -> list[str]:
    lines = [f"    gpusPerNode: {wish.per_node}"] if wish.per_node else []
    if wish.resource and wish.resource != "nvidia.com/gpu":
        lines.append(f"    resource: {wish.resource}")
    if wish.taints:
        lines.append("    tolerations:   # taints that those nodes carry")
    for key, value, effect in wish.taints:
        told = f"operator: Equal, value: {_text(value)}" if value else "operator: Exists"
        lines.append(f"      - {{key: {_text(key)}, {told}, effect: {effect}}}")
    return lines


def _text(value: str) -> str:
    """A YAML string, whatever it looks like: a taint's value may be "true" or "1"."""
    return json.dumps(value)


def _gpu_comment(wish: FleetWish) -> str:
    if wish.why:
        return f"   # {wish.why}"
    return "   # or the name of one: seawall plan MODEL --gpus any" if wish.gpu == "auto" else ""


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9][\w./:@=-]*", text) and "#" not in text else f'"{text}"'
