"""One validation: the same documents sent to our reader and to an API server with our definition get one answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.config.load import parse_document
from seawall.config.yaml import Document
from seawall.drivers.kube import Kube
from seawall.drivers.kube_refusal import Refused
from seawall.operator.crd import fleet_crd
from seawall.testing.kube_api import SERVED, KubeApi
from seawall.testing.kube_schema import violations, without_nulls

SCHEMA = fleet_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def document(spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "one", "namespace": "llm"}
    whole = {"model": {"source": "hf://org/name"}} | spec
    return {"apiVersion": "seawall.dev/v1alpha1", "kind": "Fleet", "metadata": meta, "spec": whole}


def reader_takes(doc: dict[str, Any]) -> bool:
    fleet, problems = parse_document(Document(doc, 1, {}))
    return fleet is not None and not problems


def schema_takes(doc: dict[str, Any]) -> bool:
    bare = {k: v for k, v in doc.items() if k != "metadata"}
    return not violations(SCHEMA, without_nulls(SCHEMA, bare))


BOTH_TAKE: list[dict[str, Any]] = [
    {},
    {"hardware": {"cpu": "1"}},
    {"hardware": {"cpu": "0.5"}},
    {"hardware": {"cpu": 2.5}},
    {"hardware": {"gpusPerReplica": "2"}},
    {"scaling": {"min": "2", "max": "10"}},
    {"scaling": {"min": 2.0, "max": 3}},
    {"scaling": {"target": "12.5"}},
    {"traffic": {"rate": "2.5", "maxContext": "16k", "slo": {"ttft": 2, "tpot": "60ms"}}},
    {"traffic": {"maxContext": 16000}},
    {"model": {"source": "hf://org/name", "quantization": None, "revision": None, "adapterSlots": None}},
    {"hardware": {"tolerations": [{"key": "a", "operator": "Exists", "effect": None}]}},
    {"hardware": {"spot": None, "gpusPerReplica": None, "memory": None}},
    {"rollout": {"canary": None}},
    {"pool": None},
    {"gateway": {"tenants": [{"name": "a"}, {"name": "b", "weight": "2"}], "hedgeAfter": None}},
    {"gateway": {"maxBody": "8Mi", "promptPrice": "0.5"}},
]
BOTH_REFUSE: list[dict[str, Any]] = [
    {"surprise": 1},
    {"model": {"source": "org/name"}},
    {"model": None},
    {"model": {}},
    {"model": {"source": "hf://a/b", "quantization": "int3"}},
    {"hardware": {"gpusPerReplica": 0}},
    {"hardware": {"gpusPerReplica": 1.5}},
    {"hardware": {"gpusPerReplica": "two"}},
    {"hardware": {"gpusPerReplica": True}},
    {"scaling": {"min": "10", "max": "9"}},
    {"scaling": {"min": 3}},
    {"scaling": {"min": -1}},
    {"engine": {"prefixCaching": "yes"}},
    {"engine": {"prefixCaching": 1}},
    {"engine": {"env": {"A": 1}}},
    {"engine": {"extraArgs": "--x"}},
    {"engine": {"extraArgs": [None]}},
    {"engine": {"version": 0.32}},
    {"gateway": {"tenants": [{"name": "a"}, {"name": "a"}]}},
    {"gateway": {"tenants": [{"weight": 1}]}},
    {"gateway": {"resume": "perhaps"}},
    {"scaling": {"max": "+2"}},
    {"engine": {"maxNumSeqs": "1_000"}},
    {"rollout": {"canary": {"steps": [{"weight": " 5"}]}}},
    {"gateway": {"tenants": [{"name": "a", "priority": "1_"}]}},
]


@pytest.mark.parametrize("spec", BOTH_TAKE, ids=str)
def test_what_the_reader_takes_the_server_takes(spec: dict[str, Any]) -> None:
    doc = document(spec)
    assert reader_takes(doc)
    assert schema_takes(doc)


@pytest.mark.parametrize("spec", BOTH_REFUSE, ids=str)
def test_what_the_server_refuses_the_reader_refuses(spec: dict[str, Any]) -> None:
    doc = document(spec)
    assert not schema_takes(doc)
    assert not reader_takes(doc)


VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    2,
    -1,
    0.5,
    1.0,
    "1",
    "0.5",
    "2.0",
    "16k",
    "2s",
    "text",
    [],
    {},
    [1],
)


def fields(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in (schema.get("properties") or {}).items():
        yield (*path, name)
        yield from fields(inner, (*path, name))


def at(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    made: dict[str, Any] = value
    return made


def merged(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    out = dict(a)
    for key, value in b.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


NEEDED = {
    "pool": {"name": "p"},
    "rollout": {"canary": {"steps": [{"weight": 5}]}},
}
"""What a part needs to be whole, so that the field at hand is what is judged."""


def test_no_field_of_any_value_is_refused_by_the_server_and_taken_by_the_reader() -> None:
    stricter = []
    for path in fields(SCHEMA["properties"]["spec"]):
        needed = {path[0]: NEEDED[path[0]]} if path[0] in NEEDED and len(path) > 1 else {}
        for value in VALUES:
            doc = document(merged({"model": {"source": "hf://org/name"}, **needed}, at(path, value)))
            if reader_takes(doc) and not schema_takes(doc):
                stricter.append((".".join(path), value))
    assert not stricter


ITEMS: dict[str, dict[str, Any]] = {
    "gateway.tenants": {"name": "a"},
    "model.adapters": {"name": "a", "source": "hf://a/b"},
    "scaling.schedule": {"start": "0 8 * * *", "end": "0 18 * * *"},
    "rollout.canary.steps": {"weight": 5},
    "hardware.tolerations": {"key": "k"},
}
"""Lists of mappings, each with a whole entry."""


def lists(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    for name, inner in (schema.get("properties") or {}).items():
        if keys := (inner.get("items") or {}).get("properties"):
            yield (*path, name), list(keys)
        yield from lists(inner, (*path, name))


def test_nor_is_any_entry_of_a_list() -> None:
    found = {".".join(path): (path, keys) for path, keys in lists(SCHEMA["properties"]["spec"])}
    assert found.keys() == ITEMS.keys(), "a new list needs a whole entry above"
    stricter = []
    for name, (path, keys) in found.items():
        entries = [[{**ITEMS[name], key: value}] for key in keys for value in VALUES]
        for value in (*entries, [None], [1], {}, [[]], [ITEMS[name], ITEMS[name]]):
            doc = document(merged({"model": {"source": "hf://org/name"}}, at(path, value)))
            if reader_takes(doc) and not schema_takes(doc):
                stricter.append((name, value))
    assert not stricter


def test_kubectl_explain_has_a_sentence_for_every_field() -> None:
    def silent(schema: dict[str, Any], path: str) -> Iterator[str]:
        for name, inner in [
            *schema.get("properties", {}).items(), *schema.get("items", {}).get("properties", {}).items()
        ]:  # fmt: skip
            if len(str(inner.get("description") or "")) < 12:
                yield f"{path}.{name}"
            yield from silent(inner, f"{path}.{name}")

    server_s = {"fleet.apiVersion", "fleet.kind", "fleet.metadata"}
    assert set(silent(SCHEMA, "fleet")) == server_s, "which the API server describes itself"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm"}})
        double.put(fleet_crd())
        yield double


async def test_the_double_is_as_strict_as_the_definition(api: KubeApi, kube: Kube) -> None:
    taken = document({"hardware": {"cpu": "1", "spot": None}, "scaling": {"min": "2", "max": 3}})
    stored = await kube.apply(taken)
    assert "spot" not in stored["spec"]["hardware"], "a null is dropped before anything is looked at"
    with pytest.raises(Refused, match=r"\.spec\.surprise: field not declared in schema"):
        await kube.apply(document({"surprise": 1}))
    for spec, said in (
        ({"scaling": {"min": 3, "max": 1}}, "max must not be less than min"),
        ({"gateway": {"tenants": [{"name": "a"}, {"name": "a"}]}}, "Duplicate value"),
        ({"model": {"source": "hf://a/b", "quantization": "int3"}}, "Unsupported value"),
    ):
        with pytest.raises(Refused, match=said) as e:
            await kube.apply(document(spec))
        assert e.value.code == 422


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
async def test_every_example_is_a_fleet_object(api: KubeApi, kube: Kube, example: Path) -> None:
    for doc in yaml.safe_load_all(example.read_text("utf-8")):
        home = doc["metadata"].setdefault("namespace", "default")
        await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
        await kube.apply(doc)
