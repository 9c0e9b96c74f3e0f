"""Schemas of custom resources, read out of published models into JSON files that tests hold our objects against.

`cloudcoil`'s packages hold each project's published definitions as pydantic models. They are needed for this one
moment, not in the environment that tests run in: scripts/test_tools.sh unpacks them, runs this and drops them.

    python scripts/export_schemas.py FOLDER
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

KINDS = {
    "fluxcd.kustomize.v1": ("Kustomization",),
    "fluxcd.source.v1": ("GitRepository",),
    "istio.networking.v1": ("DestinationRule", "VirtualService"),
    "keda.v1alpha1": ("ScaledObject", "TriggerAuthentication"),
    "prometheus_operator.v1": ("PodMonitor", "PrometheusRule", "ServiceMonitor"),
}


def strict(schema: Any) -> Any:
    """`schema` without the nulls that an API server drops, refusing fields that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {name: strict(part) for name, part in schema.items() if name not in ("default", "title")}
    if isinstance(schema.get("properties"), dict):
        out["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        if out["properties"]:
            out.setdefault("additionalProperties", False)
    if "anyOf" in out:
        out["anyOf"] = [part for part in out["anyOf"] if part != {"type": "null"}]
    return out


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for module, kinds in KINDS.items():
        models = importlib.import_module(f"cloudcoil.models.{module}")
        for kind in kinds:
            schema = strict(getattr(models, kind).model_json_schema(by_alias=True))
            schema["properties"]["metadata"] = {"type": "object"}
            api = getattr(models, kind).model_fields["api_version"].default
            name = f"{api.replace('/', '_')}_{kind}.json"
            (folder / name).write_text(json.dumps({"apiVersion": api, "kind": kind, "schema": schema}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
