"""The registry on disk: a folder of `Model` documents beside the specs that refer to them by `model://name`.

The folder is `models/` beside the spec, or what SEAWALL_MODELS names. Nothing is fetched here.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from seawall.config import hints
from seawall.config.yaml import documents, read_text
from seawall.domain.registry import ModelDocument
from seawall.domain.spec import API_VERSION, Fleet
from seawall.errors import InputError

SCHEME = "model://"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


@functools.cache
def _adapter() -> TypeAdapter[ModelDocument]:
    return TypeAdapter(ModelDocument)


def folder_for(spec: Path) -> Path:
    """Where the registry of this spec lies."""
    return Path(os.environ["SEAWALL_MODELS"]) if os.environ.get("SEAWALL_MODELS") else spec.parent / "models"


def read_models(folder: Path) -> dict[str, ModelDocument]:
    """Every Model in the folder's YAML files, by name. An empty mapping when there is no folder."""
    found: dict[str, ModelDocument] = {}
    for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
        for doc in documents(read_text(path), str(path)):
            if not isinstance(doc.data, dict) or doc.data.get("kind") != "Model":
                raise InputError(
                    f"{path}:{doc.line}: is not a Model.", f"A registry holds {API_VERSION} Models only."
                )
            try:
                model = _adapter().validate_python(doc.data)
            except ValidationError as e:
                first = e.errors(include_url=False)[0]
                where = ".".join(str(p) for p in first["loc"])
                raise InputError(
                    f"{path}:{doc.line}: {where}: {_said(first)}.", "See docs/how-to/models.md."
                ) from None
            if model.name in found:
                raise InputError(f"{path}:{doc.line}: there is another Model {model.name}.", "Rename one.")
            found[model.name] = model
    return found


def _said(err: Any) -> str:
    if err["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return "unknown key"
    if err["type"].startswith("missing"):
        return "is required; add it"
    return f"{hints.shown(err.get('input'))} is not right; {hints.of_value(err)}"


def with_model(fleet: Fleet, folder: Path) -> Fleet:
    """The fleet with its `model://name` replaced by what the registry pins. Others are returned as they are."""
    source = fleet.spec.model.source
    if not source.startswith(SCHEME):
        return fleet
    models, name = read_models(folder), source.removeprefix(SCHEME)
    if name not in models:
        near = difflib.get_close_matches(name, models, 1)
        hint = f"Did you mean {SCHEME}{near[0]}?" if near else f"Known: {', '.join(models) or 'none'}."
        raise InputError(
            f"spec.model.source: {folder} has no model {name!r}.", f"{hint} `seawall models add` makes one."
        )
    facts, own = models[name].spec, fleet.spec.model
    model = replace(
        own,
        source=facts.source,
        revision=own.revision or facts.revision,
        quantization=own.quantization or facts.quantization,
        licence=own.licence or facts.licence,
        adapters=own.adapters or facts.adapters,
        config=own.config or facts.config,
    )
    return replace(fleet, spec=replace(fleet.spec, model=model))


def users(models: Iterable[str], specs: Iterable[Path]) -> dict[str, list[str]]:
    """Model name -> fleets that refer to it, over spec files. Files that hold no Fleet are passed over."""
    used: dict[str, list[str]] = {name: [] for name in models}
    for path in specs:
        try:
            docs = documents(read_text(path), str(path))
        except InputError:
            continue
        for doc in docs:
            data = doc.data if isinstance(doc.data, dict) and doc.data.get("kind") == "Fleet" else {}
            source = str(((data.get("spec") or {}).get("model") or {}).get("source", ""))
            name = source.removeprefix(SCHEME)
            if source.startswith(SCHEME) and name in used:
                used[name].append(str((data.get("metadata") or {}).get("name")))
    return used


def check_name(name: str) -> None:
    """InputError for a name that is no file's."""
    if not _LABEL.fullmatch(name):
        raise InputError(f"{name!r:.80} cannot name a model.", "Use a-z, 0-9, '-' and '.'.")


def write_model(folder: Path, model: ModelDocument) -> Path:
    """Writes one Model to its own file, atomically. InputError for a name that is no file name."""
    import yaml

    check_name(model.name)
    body: dict[str, Any] = _adapter().dump_python(model, by_alias=True, exclude_defaults=True, mode="json")
    text = yaml.safe_dump({"apiVersion": API_VERSION, "kind": "Model", **body}, sort_keys=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.name}.yaml"
    partial = folder / f".{model.name}.{os.getpid()}"
    partial.write_text(text, "utf-8")
    partial.replace(path)
    return path
