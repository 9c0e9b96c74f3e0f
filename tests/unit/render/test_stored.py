"""What is rendered is what is stored: nothing that the API server drops or writes in another way, so that whoever
applies the same bytes is in conflict with nobody, and a diff shows what apply will do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.render.test_objects import VARIANTS

from seawall.cli.fleets import group_of
from seawall.drivers.kube import Kube
from seawall.operator.apply import changes
from seawall.operator.manifests import operator_manifests
from seawall.render.everything import render
from seawall.render.inputs import Group
from seawall.render.packaging.gitops import Repository
from seawall.render.packaging.package import package
from seawall.testing.kube_api import SERVED, KubeApi
from seawall.testing.kube_strict import rewritten

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"egress": []}, [".spec.egress: []"]),
        ({"egress": [{}]}, []),
        ({"globalDefault": False}, [".spec.globalDefault: False"]),
        ({"podSelector": {}}, []),
        ({"nodeSelector": {}}, [".spec.nodeSelector: {}"]),
        ({"minReadySeconds": 0}, [".spec.minReadySeconds: 0"]),
        ({"containers": [{"env": [{"name": "A", "value": ""}]}]}, [".spec.containers[0].env[0].value: ''"]),
        ({"limits": {"cpu": "1000m"}}, [".spec.limits.cpu: '1000m' becomes '1'"]),
        ({"limits": {"cpu": "2e3"}}, []),
        ({"limits": {"cpu": "2000"}}, [".spec.limits.cpu: '2000' becomes '2k'"]),
        ({"limits": {"memory": "0.1Gi"}}, [".spec.limits.memory: '0.1Gi' becomes '107374182400m'"]),
        ({"limits": {"memory": "0.5Ki"}}, [".spec.limits.memory: '0.5Ki' becomes '512'"]),
        ({"averageValue": "30000"}, [".spec.averageValue: '30000' becomes '30k'"]),
        ({"automountServiceAccountToken": False, "maxUnavailable": 0}, []),
        ({"volumes": [{"name": "v", "emptyDir": {}}]}, []),
    ],
    ids=str,
)
def test_what_the_server_drops_or_rewrites(spec: dict[str, Any], path: list[str]) -> None:
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    assert rewritten(obj) == path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_no_example_holds_what_the_server_drops_or_rewrites(example: Path) -> None:
    _as_stored(group_of((str(example),)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_does(variant: str, group: Callable[..., Group], llama: str) -> None:
    _as_stored(group(llama + VARIANTS[variant]))


WISHES = {
    "sizes in whole TiB": ["cache.size=1024Gi", "hardware.memory=2048Gi"],
    "sizes in no whole unit": ["cache.size=1.5Ti", "hardware.memory=1234567890", "gateway.memory=700M"],
    "cores": ["hardware.cpu=0.5", "gateway.memory=2048Mi"],
    "thousands of cores": ["hardware.cpu=2000"],
    "an empty variable": ['engine.env={"VLLM_LOGGING_PREFIX": "", "A": "0"}'],
    "an empty taint": ['hardware.tolerations=[{"key": "team", "operator": "Equal", "value": ""}]'],
    "a managed store": ["gateway.store=managed"],
    "a lane": ['gateway.batch={"volume": "1024Gi"}'],
    "an HPA of thousands": ["scaling.by=hpa", "scaling.target=30000"],
    "an HPA of parts": ["scaling.by=hpa", "scaling.target=12.3456"],
}  # fmt: skip
"""What people write -> the fields of a Fleet; the server writes it in its own way."""


@pytest.mark.parametrize("wish", WISHES)
def test_however_it_is_written_it_is_rendered_as_it_is_stored(
    wish: str, group: Callable[..., Group], llama: str
) -> None:
    doc = yaml.safe_load(llama)
    for path, value in (text.split("=", 1) for text in WISHES[wish]):
        *parents, last = path.split(".")
        node = doc["spec"]
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = yaml.safe_load(value)
    _as_stored(group(yaml.safe_dump(doc)))


def _as_stored(group: Group) -> None:
    found = {
        f"{o['kind']}/{o['metadata']['name']}": paths
        for o in render(group).objects
        if (paths := rewritten(o))
    }
    assert not found


def test_no_packaging_does(forms: dict[str, list[dict[str, Any]]]) -> None:
    """Overlays and GitOps objects, too, as they reach a cluster."""
    found = {
        f"{form}: {o['kind']}/{o['metadata']['name']}": paths
        for form, objects in forms.items()
        for o in objects
        if (paths := rewritten(o))
    }
    assert len(forms) >= 5 and not found


@pytest.mark.parametrize(
    "sets",
    [
        "networkPolicies.enabled=false,monitoring.enabled=false",
        "fleets.llama-70b.autoscaling.enabled=false,fleets.llama-70b.replicas=0",
        "fleets.llama-70b.resources.cpu=2500m,fleets.llama-70b.resources.memory=1Ti,createNamespace=true",
        "gateway.min=2,gateway.max=2,fleets.llama-70b.image=mirror/vllm:v1",
    ],
)
def test_no_knob_of_the_chart_does(
    sets: str, group: Callable[..., Group], llama: str, tmp_path: Path, run: Callable[..., str]
) -> None:
    chart = package(render(group(llama)), "helm", Repository(url="https://git.example.com/llm"))
    for name, text in chart.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = run("helm", "template", "x", str(tmp_path), "--set", sets)
    objects = [d for d in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if d]
    found = {f"{o['kind']}/{o['metadata']['name']}": p for o in objects if (p := rewritten(o))}
    assert len(objects) > 10 and not found


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_operators_own_objects_do_not(everywhere: bool) -> None:
    objects = operator_manifests("seawall", everywhere=everywhere, nodes=True)
    assert not {o["kind"]: paths for o in objects if (paths := rewritten(o))}


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
        yield double


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
async def test_two_managers_that_apply_the_same_bytes_agree(api: KubeApi, kube: Kube, example: Path) -> None:
    group = group_of((str(example),))
    objects = list(render(group).objects)
    for obj in objects:
        await kube.apply(obj, manager="argocd")
    found = await changes(kube, objects, group.gateway, group.namespace)
    assert {(str(c.ref), c.verb, str(c.refusal)) for c in found} == {
        (str(c.ref), "keep", "None") for c in found
    }
    for obj in objects:
        await kube.apply(obj)
