"""Schemas of custom resources: what an API server would refuse about those that we render.

Up to three witnesses per kind, and an object must please all that know it: the folder `schemas` beside this file (ours,
every kind, its rules included), or in its place the full definitions in the folder that SEAWALL_CRDS names; and the
models that others publish (scripts/test_tools.sh), for the kinds that they know. Nothing here asks the network.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

Kind = tuple[str, str]
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
OWN = Path(__file__).parent / "schemas"
PUBLISHED = Path(__file__).resolve().parents[3] / ".cache" / "tools" / "schemas"
# Fields that are younger than the published models; the other witness knows them.
YOUNGER = {("keda.sh/v1alpha1", "ScaledObject"): ("spec", "fallback", "behavior")}


def full_folder() -> Path | None:
    """The folder of full definitions that the user has named."""
    named = os.environ.get("SEAWALL_CRDS")
    return Path(named) if named else None


def definitions() -> dict[Kind, Any]:
    """(apiVersion, kind) -> OpenAPI schema, rules and defaults in it."""
    return read(full_folder() or OWN)


@functools.cache
def read(folder: Path) -> dict[Kind, Any]:
    """The schemas of every CustomResourceDefinition in a folder's YAML files."""
    assert folder.is_dir(), f"{folder} is no folder: SEAWALL_CRDS names one that holds CRDs, or is not set"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    out: dict[Kind, Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        for doc in yaml.load_all(path.read_text(), Loader=loader):
            if doc and doc.get("kind") == "CustomResourceDefinition":
                for version in doc["spec"]["versions"]:
                    key = f"{doc['spec']['group']}/{version['name']}", doc["spec"]["names"]["kind"]
                    out[key] = version["schema"]["openAPIV3Schema"]
    return out


@functools.cache
def published() -> dict[Kind, Any]:
    """(apiVersion, kind) -> JSON Schema from the published models."""
    paths = sorted(PUBLISHED.glob("*.json"))
    assert paths, f"{PUBLISHED} has no schemas: run scripts/test_tools.sh"
    docs = [json.loads(path.read_text()) for path in paths]
    return {(doc["apiVersion"], doc["kind"]): doc["schema"] for doc in docs}


@functools.cache
def core_definitions(version: str) -> Registry[Any]:
    """Kubernetes' own definitions, which its kinds and a LeaderWorkerSet's Pods refer to."""
    resource = Resource.from_contents(json.loads((core_folder(version) / "_definitions.json").read_text()))
    return resource @ Registry()


def core_folder(version: str) -> Path:
    """The JSON Schemas of Kubernetes' own kinds."""
    package = Path(kubernetes_validate.__file__).parent
    return package / "kubernetes-json-schema" / f"v{version}.0-local-strict"


def faults(obj: Any) -> Iterator[str]:
    """A line for each thing that a witness does not take."""
    kind = obj["apiVersion"], obj["kind"]
    for who, validator, seen in _witnesses(kind, obj):
        for error in validator.iter_errors(seen):
            yield f"{who}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"


def _witnesses(kind: Kind, obj: Any) -> Iterator[tuple[str, Any, Any]]:
    yield "definition", _by_definition(full_folder() or OWN, kind), obj
    if kind in published():
        yield "published model", _by_model(kind), without(obj, YOUNGER.get(kind, ()))


@functools.cache
def _by_definition(folder: Path, kind: Kind) -> Any:
    known = read(folder)
    assert kind in known, f"{kind[0]} {kind[1]} is no kind that {folder} knows"
    return jsonschema.Draft202012Validator(
        strict(known[kind], top=True), registry=core_definitions(VERSIONS[-1])
    )


@functools.cache
def _by_model(kind: Kind) -> Any:
    return jsonschema.Draft202012Validator(published()[kind])


def without(value: Any, path: tuple[str, ...]) -> Any:
    """`value` less the field at `path`."""
    if not path or path[0] not in value:
        return value
    rest = {name: item for name, item in value.items() if name != path[0]}
    return rest if len(path) == 1 else {**rest, path[0]: without(value[path[0]], path[1:])}


def strict(schema: Any, top: bool = False) -> Any:
    """An OpenAPI v3 structural schema as JSON Schema that refuses unknown fields."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {k: v for k, v in schema.items() if not k.startswith("x-") and k not in ("description", "format")}
    if "properties" in out:
        out["properties"] = {name: strict(part) for name, part in out["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties", "not"):
        if key in out:
            out[key] = strict(out[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in out:
            # The parts restrict values; the fields themselves are declared outside.
            out[key] = [_open(part) for part in out[key]]
    if top:
        text = {"type": "string"}
        out["properties"].update(metadata={"type": "object"}, apiVersion=text, kind=text)
    return out


def _open(schema: Any) -> Any:
    return {k: v for k, v in schema.items() if not k.startswith("x-")} if isinstance(schema, dict) else schema
