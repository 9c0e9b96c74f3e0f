"""The CustomResourceDefinition of a Fleet, made from the one spec: structural schema, CEL rules, columns, status.

Kubernetes' schemas are narrower than JSON Schema: no $ref, no `type` inside anyOf, boolean exclusive bounds.
`structural` translates. Our reader judges what a Fleet may say, here as on the command line: the schema refuses nothing
that the reader takes (numbers as text, explicit nulls), and what it can say exactly it refuses at once.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from seawall.config.explain import explained
from seawall.config.load import json_schema
from seawall.domain.spec import API_VERSION
from seawall.render.names import KEPT

Schema = dict[str, Any]
GROUP, VERSION = API_VERSION.split("/")

RULES: dict[str, list[tuple[str, str]]] = {
    "scaling": [
        (
            "(has(self.max) ? double(self.max) : 1.0) >= (has(self.min) ? double(self.min) : 1.0)",
            "max must not be less than min",
        )
    ],
    "model": [("self.source.contains('://')", "source needs a scheme, such as hf://org/name")],
}
"""spec.<field> -> (CEL rule, message): what no single field can know."""
KEYED = {"gateway.tenants": "name"}
"""List below spec -> the key by which its entries are told apart: none stands twice."""
WHOLE = r"^[0-9]+(\.0+)?$"
"""A whole number that is written as text."""

_COLUMNS = [
    ("Model", "string", ".spec.model.source", 0),
    ("GPU", "string", ".status.gpu", 0),
    ("Ready", "integer", ".status.ready", 0),
    ("Desired", "integer", ".status.desired", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Why", "string", ".status.reason", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
]


def fleet_crd() -> Schema:
    """The object that `kubectl apply` takes. Whoever deletes it deletes every Fleet, and all that runs."""
    found: Schema = copy.deepcopy(_fleet_crd())
    return found


@functools.cache
def _fleet_crd() -> Schema:
    whole = json_schema()
    spec = structural(whole["properties"]["spec"], whole["$defs"])
    _describe(spec, ["spec"])
    for path, key in KEYED.items():
        at = spec
        for part in path.split("."):
            at = at["properties"][part]
        at |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    for name, rules in RULES.items():
        spec["properties"][name]["x-kubernetes-validations"] = [{"rule": r, "message": m} for r, m in rules]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "One model served by N replicas of vLLM behind a gateway.",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec,
                    "status": _status(),
                },
            }
        },
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": n, "type": t, "jsonPath": p, "priority": k} for n, t, p, k in _COLUMNS
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"fleets.{GROUP}", "annotations": dict(KEPT)},
        "spec": {
            "group": GROUP,
            "names": {"kind": "Fleet", "listKind": "FleetList", "plural": "fleets", "singular": "fleet"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _describe(schema: Schema, path: list[str]) -> None:
    """Gives every field its sentence, for `kubectl explain`: that of `seawall explain` where it has none of its own."""
    schema.setdefault("description", explained(".".join(path)).meaning)
    for name, inner in schema.get("properties", {}).items():
        _describe(inner, [*path, name])
    for name, inner in schema.get("items", {}).get("properties", {}).items():
        _describe(inner, [*path, name])


def structural(schema: Schema, defs: dict[str, Schema]) -> Schema:
    """JSON Schema (as pydantic writes it) -> structural schema of apiextensions.k8s.io/v1."""
    if "$ref" in schema:
        target = dict(defs[schema["$ref"].rsplit("/", 1)[-1]])
        kept = {k: v for k, v in schema.items() if k == "description"}
        return structural({**target, **kept}, defs)
    if "allOf" in schema and len(schema["allOf"]) == 1:
        return structural({**schema["allOf"][0], **{k: v for k, v in schema.items() if k != "allOf"}}, defs)
    if "anyOf" in schema:
        return _choice(schema, defs)
    out: Schema = {}
    for key in (
        "type",
        "description",
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
    ):
        if key in schema:
            out[key] = schema[key]
    if "const" in schema:
        out["enum"], out["type"] = [schema["const"]], "string"
    for bound, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in schema:
            out[plain], out[bound] = schema[bound], True
    if schema.get("type") == "integer":
        del out["type"]
        out |= {"x-kubernetes-int-or-string": True, "pattern": WHOLE}
    if schema.get("type") == "number":
        # A number, or the same as text: structural schemas have no such type, so the gate is our own reader.
        out = {"x-kubernetes-preserve-unknown-fields": True} | {
            k: out[k] for k in ("description",) if k in out
        }
    if "properties" in schema:
        out["properties"] = {k: structural(v, defs) for k, v in schema["properties"].items()}
        if schema.get("required"):
            out["required"] = list(schema["required"])
    elif schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        if isinstance(inner, dict) and inner:
            out["additionalProperties"] = structural(inner, defs)
        else:
            out["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in schema:
        out["items"] = structural(schema["items"], defs)
    return out


def _choice(schema: Schema, defs: dict[str, Schema]) -> Schema:
    # Not `nullable`: the server drops a null where a field is not, which means what leaving it out means; and where it
    # is kept, no enum takes it.
    options = [o for o in schema["anyOf"] if o.get("type") != "null"]
    flat = [inner for o in options for inner in (o.get("anyOf", [o]))]
    kinds = {o.get("type") for o in flat}
    described = {k: v for k, v in schema.items() if k == "description"}
    if len(flat) == 1:
        return structural({**flat[0], **described}, defs)
    if kinds == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True, **described}
    return {"x-kubernetes-preserve-unknown-fields": True, **described}  # `2.5`, `2500ms`: as for numbers


_TEXTS = {
    "phase": "Ready, Progressing, Refused (by the API server) or Invalid (it cannot work).",
    "reason": "Why the phase is what it is, in a sentence.",
    "gpu": "How many of which GPU each replica has.",
    "plan": "What the planner found: what fits, and what bounds it.",
    "scaler": "The last word of what scales the fleet, and why.",
    "applied": "Fingerprint of the objects that were last applied whole.",
    "rollout": "Where a canary stands, and its share of the requests.",
}
_NUMBERS = {
    "ready": "Replicas that clients get answers from now.",
    "desired": "Replicas that are wanted now.",
    "queued": "Requests that wait in the gateways for a replica.",
    "inFlight": "Requests that replicas work on.",
}
_POOL_TEXTS = {
    "move": "What the pool does with the fleet's replicas now.",
    "reason": "Why a move has to wait; empty where none does.",
    "memory": "What the operator remembers of the pool, for the next leader: not to be edited.",
}
_POOL_NUMBERS = {
    "awake": "Replicas that may hold GPUs of the pool now.",
    "asleep": "Replicas that may stay asleep, beside them, without their GPUs.",
    "wanted": "Replicas that the fleet's demand asks for.",
    "replicas": "Replicas that its Deployment is to have, awake or asleep.",
}
_CONDITION = {
    "type": "Planned, Applied, Ready, UpToDate or Adapters.",
    "status": "True or False.",
    "reason": "Why, in one word for programs.",
    "message": "Why, in a sentence for people.",
}
_REF = {
    "apiVersion": "The API version of one object.",
    "kind": "The kind of the object.",
    "name": "Its name, in the Fleet's own namespace.",
}
_GENERATION = "The version of the spec (metadata.generation) that this speaks of."


def _each(kind: str, told: dict[str, str]) -> dict[str, Schema]:
    return {name: {"type": kind, "description": meaning} for name, meaning in told.items()}


def _status() -> Schema:
    generation = {"type": "integer", "format": "int64", "description": _GENERATION}
    condition = {
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            **_each("string", _CONDITION),
            "lastTransitionTime": {
                "type": "string",
                "format": "date-time",
                "description": "Since when the status is what it is.",
            },
            "observedGeneration": generation,
        },
    }
    return {
        "type": "object",
        "description": "What the operator has made of the Fleet; nobody else writes it.",
        "properties": {
            **_each("string", _TEXTS),
            **_each("integer", _NUMBERS),
            "observedGeneration": generation,
            "pool": {
                "type": "object",
                "description": "Where the fleet stands among those with which it shares GPUs.",
                "properties": {**_each("string", _POOL_TEXTS), **_each("integer", _POOL_NUMBERS)},
            },
            "objects": {
                "type": "array",
                "description": "What the Fleet owns, or is about to.",
                "items": {"type": "object", "properties": _each("string", _REF)},
                "x-kubernetes-list-type": "atomic",
            },
            "conditions": {
                "type": "array",
                "description": "What holds and what does not, each by itself and since when.",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    }
