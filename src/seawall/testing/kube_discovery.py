"""Discovery and OpenAPI of the API double, as kubectl asks for them: what is served, and what its fields mean.

Groups are listed in both forms (plain, and aggregated where the client accepts it). A group may be stale (its server
does not answer: 503 for its own page, `Stale` in the list) or lost (served, but not listed), as behind a real
aggregation layer. Schemas are those of the definitions that are there; built-in kinds have none here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

Object = dict[str, Any]
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
AGGREGATED = "as=APIGroupDiscoveryList"
"""What a client says in its Accept header that reads the aggregated form."""
AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ServedKinds = Mapping[str, Iterable[tuple[str, str, bool]]]
"""API version -> (plural, kind, whether it has namespaces)."""


def groups(served: ServedKinds, path: str) -> Object | None:
    """The plain answer at /api and /apis; None for every other path."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path != "/apis":
        return None
    found: dict[str, list[Object]] = {}
    for version in served:
        group, _, short = version.rpartition("/")
        if group:
            found.setdefault(group, []).append({"groupVersion": version, "version": short})
    listed = [{"name": g, "versions": v, "preferredVersion": v[0]} for g, v in found.items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def aggregated(served: ServedKinds, path: str, stale: set[str]) -> Object | None:
    """The aggregated answer at /api and /apis, with all resources in it. `stale`: API versions whose server is away."""
    if path not in ("/api", "/apis"):
        return None
    found: dict[str, list[Object]] = {}
    for version, resources in served.items():
        group, _, short = version.rpartition("/")
        if bool(group) != (path == "/apis"):
            continue
        fresh = "Stale" if version in stale else "Current"
        listed = [] if version in stale else [_resource(group, short, *r) for r in resources]
        found.setdefault(group, []).append({"version": short, "resources": listed, "freshness": fresh})
    items = [{"metadata": {"name": g} if g else {}, "versions": v} for g, v in found.items()]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _resource(group: str, version: str, plural: str, kind: str, namespaced: bool) -> Object:
    return {
        "resource": plural,
        "responseKind": {"group": group, "version": version, "kind": kind},
        "scope": "Namespaced" if namespaced else "Cluster",
        "singularResource": kind.lower(),
        "verbs": VERBS,
    }


def openapi(definitions: Iterable[Object], path: str) -> Object | None:
    """The answer below /openapi/v3: the list of documents, or a group version's own; None where there is none."""
    documents: dict[str, Object] = {}
    for made in definitions:
        spec = made["spec"]
        for version in spec["versions"]:
            name = f"apis/{spec['group']}/{version['name']}"
            whole = documents.setdefault(name, _document())
            _add(whole, spec, version)
    if path == "/openapi/v3":
        return {"paths": {n: {"serverRelativeURL": f"/openapi/v3/{n}?hash=1"} for n in documents}}
    return documents.get(path.removeprefix("/openapi/v3/"))


def _document() -> Object:
    info = {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}
    return {"openapi": "3.0.0", "info": info, "paths": {}, "components": {"schemas": {}}}


def _add(document: Object, spec: Object, version: Object) -> None:
    group, kind, short = spec["group"], spec["names"]["kind"], version["name"]
    gvk = {"group": group, "version": short, "kind": kind}
    name = ".".join([*reversed(group.split(".")), short, kind])
    schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
    schema["x-kubernetes-group-version-kind"] = [gvk]
    document["components"]["schemas"][name] = schema
    base = f"/apis/{group}/{short}"
    if spec.get("scope", "Namespaced") == "Namespaced":
        base += "/namespaces/{namespace}"
    asked = {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": gvk, "responses": {}}
    checked = {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": gvk,
        "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
        "responses": {},
    }
    plural = spec["names"]["plural"]
    document["paths"][f"{base}/{plural}"] = {"get": asked}
    document["paths"][f"{base}/{plural}/{{name}}"] = {"patch": checked}
