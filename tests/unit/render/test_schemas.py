"""Our own schemas say of a field what the full definition says of it, and all witnesses refuse what is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.unit.render import custom_resources
from tests.unit.render.custom_resources import OWN, Kind

from seawall.render.everything import render
from seawall.render.inputs import Group, Object

LIMITS = ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
          "minProperties", "maxProperties", "required", "x-kubernetes-int-or-string")  # fmt: skip


def disagreements(own: Any, full: Any, path: str) -> Iterator[str]:
    """A line for each limit of a field that one of two schemas has and the other has not, and each unknown field."""
    if "$ref" in own:
        return
    for limit in LIMITS:
        if own.get(limit) != full.get(limit):
            yield f"{path}: {limit} is {own.get(limit)} here, {full.get(limit)} there"
    for name, part in own.get("properties", {}).items():
        if name not in full.get("properties", {}):
            yield f"{path}.{name}: not there"
        else:
            yield from disagreements(part, full["properties"][name], f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(own.get(key), dict):
            yield from disagreements(own[key], full.get(key, {}), f"{path}.{key}")


KINDS = sorted(custom_resources.read(OWN))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
@pytest.mark.skipif(custom_resources.full_folder() is None, reason="SEAWALL_CRDS names no full definitions")
def test_our_schema_says_what_the_full_definition_says(kind: Kind) -> None:
    full = custom_resources.definitions()[kind]
    assert list(disagreements(custom_resources.read(OWN)[kind], full, "self")) == []


def test_a_schema_that_says_something_else_is_found() -> None:
    own = custom_resources.read(OWN)["keda.sh/v1alpha1", "ScaledObject"]
    other = copy.deepcopy(own)
    del other["properties"]["spec"]["properties"]["pollingInterval"]
    other["properties"]["spec"]["properties"]["maxReplicaCount"]["minimum"] = 0
    assert list(disagreements(own, other, "self")) == [
        "self.spec.pollingInterval: not there",
        "self.spec.maxReplicaCount: minimum is 1 here, 0 there",
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every object that has named fields; free-form maps (labels, metadata of triggers) are none."""
    if isinstance(value, list):
        for n, item in enumerate(value):
            yield from places(item, (*path, n))
    if isinstance(value, dict) and path[-1:] not in [("metadata",), ("matchLabels",), ("labels",), ("set",)]:
        yield path
        for name, item in value.items():
            yield from places(item, (*path, name))


def test_a_field_that_nobody_knows_is_refused_wherever_it_stands(
    group: Callable[..., Group], llama: str, valid: Callable[..., None]
) -> None:
    text = f"{llama}  gateway: {{route: istio, parentGateway: infra/web, hosts: [llm.example.com]}}\n"
    objects = [o for o in render(group(text)).objects if (o["apiVersion"], o["kind"]) in KINDS]
    assert {"ScaledObject", "VirtualService", "DestinationRule", "PodMonitor"} <= {o["kind"] for o in objects}
    for obj in objects:
        for path in places(obj.get("spec", {}), ("spec",)):
            if path[-1] != "annotations":
                with pytest.raises(AssertionError, match="seawallKnowsBetter"):
                    valid(with_field(obj, path))


def with_field(obj: Object, path: tuple[Any, ...]) -> Object:
    changed = copy.deepcopy(obj)
    place: Any = changed
    for step in path:
        place = place[step]
    place["seawallKnowsBetter"] = "yes"
    return changed


def test_a_kind_that_others_publish_is_held_against_their_model_too(
    group: Callable[..., Group], llama: str
) -> None:
    (scaled,) = [o for o in render(group(llama)).objects if o["kind"] == "ScaledObject"]
    del scaled["spec"]["triggers"][0]["type"]
    said = list(custom_resources.faults(scaled))
    assert [line.partition(":")[0] for line in said] == ["definition", "published model"]
