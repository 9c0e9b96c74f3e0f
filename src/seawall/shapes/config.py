"""The shape of a fleet's model, from the spec, a file, the catalogue, the cache, and last the hub.

The order is the point: planning never needs the network for a popular model or one that is on disk.
Nothing here plans, and only `drivers.hub` speaks to the hub.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seawall.decide.plan.flags import read_flags
from seawall.domain.catalog.models import find_config
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet
from seawall.drivers import cache
from seawall.errors import InputError, SourceError, in_words
from seawall.shapes.architecture import parse_config
from seawall.shapes.mistral import from_params, is_params
from seawall.shapes.quantization import quantization_named, quantized_experts
from seawall.shapes.summary import from_summary, is_summary

_MAX_CONFIG = 8 * 2**20
_MAX_INDEX = 256 * 2**20


def resolve(fleet: Fleet, *, offline: bool = False) -> ModelConfig:
    """The shape of a fleet's model.

    Looks at `spec.model.config`, then a `file://` directory, the built-in catalogue, the local cache, and
    with `offline` False the hub. Raises InputError when there is nothing to plan from, SourceError when
    the hub failed.
    """
    model = fleet.spec.model
    if model.config is not None:
        found = parse(model.config, name_of(model.source))
    else:
        found = _find(model.source, model.revision, offline)
    if model.quantization == "none":
        return replace(found, quantization=None, checkpoint_bytes=None)
    if model.dtype != "auto" and model.dtype != found.dtype:
        found = replace(found, dtype=model.dtype)
    return with_draft(found, fleet.spec.engine.extra_args)


def with_draft(found: ModelConfig, args: Sequence[str]) -> ModelConfig:
    """The model with the shape of the draft model that `--speculative-config` names, when it is known without a hub."""
    draft = read_flags(args).draft
    if draft is None or not draft.model or draft.built_in:
        return found
    path = Path(draft.model)
    if path.is_dir() and (path / "config.json").is_file():
        return replace(found, draft=read_config(path))
    cached = _cached(f"hf://{draft.model}", None)
    if cached is not None:
        return replace(found, draft=read_config(cached))
    entry = find_config(draft.model)
    return found if entry is None else replace(found, draft=parse(entry[1], draft.model))


def parse(
    config: Mapping[str, Any],
    name: str = "",
    checkpoint_bytes: int | None = None,
    beside: Mapping[str, Any] | None = None,
) -> ModelConfig:
    """A decoded config.json -> ModelConfig. Also takes Mistral's params.json and an architecture summary.

    `beside` is the decoded hf_quant_config.json of the same checkpoint.
    """
    if is_summary(config):
        config, parameters = from_summary(config)
        return parse_config(config, name, checkpoint_bytes, parameters)
    if is_params(config):
        config = from_params(config)
    return parse_config(config, name, checkpoint_bytes, beside=beside)


def read_config(path: Path) -> ModelConfig:
    """`config.json` (or the directory that holds it), with exact sizes from a safetensors index beside it."""
    if path.is_dir():
        native = path / "params.json"
        path = native if native.is_file() and not (path / "config.json").is_file() else path / "config.json"
    data = _json(path, _MAX_CONFIG)
    if not isinstance(data, dict):
        raise InputError(f"{path}: is not a JSON object.", "Pass the model's config.json.")
    name = str(data.get("_name_or_path") or "") or (
        path.parent.name if path.name in ("config.json", "params.json") else path.stem
    )
    whole = path.name in ("config.json", "params.json")
    try:
        return parse(
            data, name, _exact_bytes(path.parent) if whole else None, _beside(path.parent) if whole else None
        )
    except InputError as e:
        raise InputError(f"{path}: {e.message.removeprefix('config.json: ')}", e.cure) from e


def name_of(source: str) -> str:
    """`hf://org/name@rev` -> `org/name`; the last part of any other source."""
    body = source.split("://", 1)[-1].split("@")[0]
    if source.startswith("pypi://"):
        return body.split("#")[-1].rsplit("/", 1)[-1]
    return body if source.startswith("hf://") else body.rstrip("/").rsplit("/", 1)[-1]


def _find(source: str, revision: str | None, offline: bool) -> ModelConfig:
    scheme, _, body = source.partition("://")
    if scheme == "file":
        return read_config(Path(body))
    cached = _cached(source, revision)
    if cached is not None:
        return read_config(cached)
    name = name_of(source)
    entry = find_config(name)
    if entry is not None:
        return parse(entry[1], name)
    if scheme == "hf":
        if offline:
            raise InputError(
                f"spec.model.source: the shape of {name} is not in the catalogue nor in the local cache.",
                "Put its config.json under spec.model.config, or plan with a network.",
            )
        return _from_hub(body, revision)
    raise InputError(
        f"spec.model.source: {source} cannot be looked into for planning.",
        "Put the model's config.json under spec.model.config (or pass --model-config config.json).",
    )


def cache_root() -> Path:
    return cache.root()


def _kept(repo: str, revision: str | None) -> Path:
    """Where the shape of a repository's revision is kept once the hub has told it."""
    return cache_root() / "models" / (repo.replace("/", "--") + (f"@{revision}" if revision else ""))


def _cached(source: str, revision: str | None) -> Path | None:
    """A config.json that is on this machine already: ours, or in the hub client's own cache."""
    if not source.startswith("hf://"):
        return None
    repo = name_of(source)
    revision = revision or source.partition("@")[2].split("/")[0] or None
    for name in ("config.json", "params.json"):
        ours = _kept(repo, revision) / name
        if ours.is_file():
            return ours
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    folder = home / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots"
    named = f"{revision or '*'}/config.json"
    found = sorted(folder.glob(named), key=lambda p: p.stat().st_mtime) if folder.is_dir() else []
    return found[-1] if found else None


def _from_hub(body: str, revision: str | None) -> ModelConfig:
    """The hub's config.json, kept in the cache beside the index that says the exact size, where there is one."""
    from seawall.drivers import hub

    repo, _, at = body.partition("@")
    env, wanted = dict(os.environ), revision or at.split("/")[0] or None
    try:
        config = hub.small_file(repo, "config.json", wanted, env, _MAX_CONFIG)
        native = None if config else hub.small_file(repo, "params.json", wanted, env, _MAX_CONFIG)
        index = hub.small_file(repo, "model.safetensors.index.json", wanted, env, _MAX_INDEX)
        stored = hub.small_file(repo, "hf_quant_config.json", wanted, env, _MAX_CONFIG)
    except SourceError as e:
        raise SourceError(e.message, f"Or put its config.json under spec.model.config. {e.cure}") from None
    if config is None and native is None:
        raise InputError(f"{repo}: no config.json there.", "Check the name, or inline spec.model.config.")
    files = {
        "model.safetensors.index.json": index,
        "hf_quant_config.json": stored,
        "config.json": config,
        "params.json": native,
    }
    try:
        folder = _write(_kept(repo, wanted), files)
    except (OSError, InputError):  # a plan needs no cache that can be written
        with tempfile.TemporaryDirectory() as scratch:
            return replace(read_config(_write(Path(scratch), files)), name=repo)
    return replace(read_config(folder), name=repo)


def _write(folder: Path, files: Mapping[str, bytes | None]) -> Path:
    cache.make_dir(folder)
    for name, data in files.items():
        if data is not None:
            cache.write_atomic(folder / name, data.decode("utf-8", "replace"))
    return folder


def _beside(folder: Path) -> Mapping[str, Any] | None:
    """hf_quant_config.json: where ModelOpt says how weights are stored when config.json does not."""
    path = folder / "hf_quant_config.json"
    data = _json(path, _MAX_CONFIG) if path.is_file() else None
    return data if isinstance(data, Mapping) else None


def _exact_bytes(folder: Path) -> int | None:
    """Size of all weights: the safetensors index's total_size, or the size of a single file."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        data = _json(index, _MAX_INDEX)
        total = data.get("metadata", {}).get("total_size") if isinstance(data, dict) else None
        if isinstance(total, (int, float)) and 0 < total < 1e14:
            return int(total)
    single = folder / "model.safetensors"
    return single.stat().st_size if single.is_file() and single.stat().st_size > 2**20 else None


def _json(path: Path, limit: int) -> Any:
    try:
        if path.stat().st_size > limit:
            raise InputError(f"{path}: is larger than {limit >> 20} MiB.", "This is not a config.json.")
        return json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}.", "Pass a model's config.json or its directory.") from e
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: is not JSON: {in_words(e)}.", "Pass the model's config.json.") from e


def quantization_override(config: ModelConfig, name: str) -> ModelConfig:
    """The quantization for a method named by `--quantization`; where the checkpoint says more, its details are kept."""
    named = quantization_named(name)
    if named is None:
        return replace(config, quantization=None)
    own = config.quantization
    if own is not None and (
        own.method == named.method or round(own.bits) == round(named.bits) or "compressed" in name
    ):
        return config
    if config.experts is not None and named.bits == 4:
        # Published 4 bit checkpoints of mixtures quantize the experts, and leave most of the rest in 16 bit.
        named = quantized_experts(named)
    return replace(config, quantization=named, checkpoint_bytes=None, assumed_format=True)
