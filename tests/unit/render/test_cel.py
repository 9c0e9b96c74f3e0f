"""The CEL rules inside CRDs (`x-kubernetes-validations`), evaluated as an API server does on create.

Schemas say what a field may hold; these rules say what fields may hold together. They are evaluated by a real CEL
implementation on every custom resource of every example in every packaging.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import cel
import pytest

from seawall.render.everything import render
from seawall.render.inputs import Group, Object

Crds = dict[tuple[str, str], Any]


@functools.cache
def compiled(rule: str) -> Any:
    return cel.compile(rule)


def defaulted(schema: Any, value: Any) -> Any:
    """`value` with the schema's defaults filled in, which happens before the rules are asked."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    out, parts = dict(value), schema.get("properties", {})
    for name, part in parts.items():
        if name not in out and "default" in part:
            out[name] = part["default"]
    others = schema.get("additionalProperties")
    rest = others if isinstance(others, dict) else {}
    return {name: defaulted(parts.get(name, rest), item) for name, item in out.items()}


def broken_rules(schema: Any, value: Any, path: str = "self") -> Iterator[str]:
    """A line for each rule that does not hold; transition rules (`oldSelf`) are not asked on create."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and compiled(rule["rule"]).execute({"self": value}) is not True:
            yield f"{path}: {rule.get('message') or rule['rule']}"
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        rest = others if isinstance(others, dict) else {}
        for name, item in value.items():
            yield from broken_rules(schema.get("properties", {}).get(name, rest), item, f"{path}.{name}")
    if isinstance(value, list):
        for n, item in enumerate(value):
            yield from broken_rules(schema.get("items", {}), item, f"{path}[{n}]")


def refused(crds: Crds, obj: Object) -> list[str]:
    schema = crds.get((obj["apiVersion"], obj["kind"]))
    return [] if schema is None else list(broken_rules(schema, defaulted(schema, obj)))


def test_no_cel_rule_refuses_an_example_in_any_packaging(forms: dict[str, list[Object]], crds: Crds) -> None:
    for form, objects in forms.items():
        for obj in objects:
            assert refused(crds, obj) == [], f"{form} {obj['kind']}/{obj['metadata']['name']}"


ROUTES = {
    "gateway-api": "{route: gateway-api, parentGateway: infra/web, hosts: [llm.example.com]}",
    "istio": "{route: istio, parentGateway: infra/web, hosts: [llm.example.com]}",
    "inference-pool": "{route: inference-pool, parentGateway: infra/web}",
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("canary", ["", "  rollout: {canary: {candidate: {version: 0.31.0}}}\n"])
def test_no_cel_rule_refuses_a_route(
    route: str, canary: str, group: Callable[..., Group], llama: str, crds: Crds
) -> None:
    objects = render(group(f"{llama}{canary}  gateway: {ROUTES[route]}\n")).objects
    assert any((o["apiVersion"], o["kind"]) in crds for o in objects)
    assert [line for o in objects for line in refused(crds, o)] == []


def test_the_rules_are_really_asked(crds: Crds) -> None:
    """Objects that their schemas accept and their rules refuse."""
    two_filters = [{"type": "URLRewrite", "urlRewrite": {"hostname": "a.example.com"}}] * 2
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
        "spec": {"rules": [{"filters": two_filters}]},
    }
    assert any(line.startswith("self.spec.rules[0].filters: ") for line in refused(crds, route))
    flux = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": "g"},
        "spec": {"interval": "1m", "url": "https://git.example.com/x", "serviceAccountName": "x"},
    }
    assert refused(crds, flux) != []
