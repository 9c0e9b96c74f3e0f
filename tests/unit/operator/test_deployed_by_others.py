"""Objects that another tool deploys: nobody writes beside it, nobody deletes what is its, and it is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import FLEETS, phase, plain
from tests.unit.operator.test_cluster_changes import applied
from tests.unit.operator.test_each_refusal import changed
from tests.unit.operator.test_pools import Cluster
from tests.unit.operator.verbs import Person

from seawall.cli.fleets import group_of
from seawall.drivers.kube import Kube
from seawall.drivers.kube_deployers import deployer_of
from seawall.operator.crd import fleet_crd
from seawall.render.everything import render
from seawall.testing.kube_api import SERVED, KubeApi

NS = "llm"
Object = dict[str, Any]


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield double


@pytest.fixture
def person(api: KubeApi, tmp_path: Path) -> Person:
    return Person(api, tmp_path)


def _argo(obj: Object) -> Object:
    group = obj["apiVersion"].rpartition("/")[0]
    name = f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
    return {"annotations": {"argocd.argoproj.io/tracking-id": f"llm:{group}/{obj['kind']}:{name}"}}


def _argo_label(obj: Object) -> Object:
    return {"labels": {"argocd.argoproj.io/instance": "llm"}}


def _flux(obj: Object) -> Object:
    name = "kustomize.toolkit.fluxcd.io"
    return {"labels": {f"{name}/name": "llm", f"{name}/namespace": "flux-system"}}


def _flux_chart(obj: Object) -> Object:
    return {**_helm(obj), "labels": {"helm.toolkit.fluxcd.io/name": "llm"}}


def _helm(obj: Object) -> Object:
    return {"annotations": {"meta.helm.sh/release-name": "llm", "meta.helm.sh/release-namespace": NS}}


def _unmarked(obj: Object) -> Object:
    return {}


TOOLS = {
    "Argo CD (application llm)": ("argocd-controller", _argo),
    "Argo CD (application llm) by label": ("argocd-controller", _argo_label),
    "Argo CD": ("argocd-controller", _unmarked),
    "Flux (Kustomization llm)": ("kustomize-controller", _flux),
    "Flux (HelmRelease llm)": ("helm-controller", _flux_chart),
    "Helm (release llm)": ("helm", _helm),
    "Helm": ("helm", _unmarked),
}


async def deploys(kube: Kube, tool: str, objects: list[Object], namespace: bool = True) -> None:
    """As that tool does it: by an apply of its own, with its marks on each object."""
    manager, marks = TOOLS[tool]
    for obj in objects:
        if not namespace and obj["kind"] == "Namespace":
            continue
        meta = dict(obj["metadata"])
        for part, more in marks(obj).items():
            meta[part] = {**meta.get(part, {}), **more}
        await kube.apply({**obj, "metadata": meta}, manager=manager, force=True)


def rendered(person: Person, fleet: Object) -> tuple[str, list[Object]]:
    file = person.writes(fleet)
    return file, list(render(group_of((file,))).objects)


@pytest.mark.parametrize("tool", TOOLS)
async def test_apply_writes_nothing_beside_it_and_names_it(
    tool: str, api: KubeApi, kube: Kube, person: Person
) -> None:
    """Neither with the same bytes, which would be two owners of one thing, nor with others."""
    file, objects = rendered(person, plain("one"))
    await deploys(kube, tool, objects)
    named = tool.partition(" by ")[0]
    more = plain("one")
    more["spec"]["scaling"]["min"] = more["spec"]["scaling"]["max"] = 3
    for asked in (file, person.writes(more, name="more.yaml")):
        since = len(api.requests)
        said = await person.types("apply", asked, "--yes", "--no-wait")
        assert said.code != 0 and not changed(api, since), said.text
        assert f"Deployment/one: {named}" in said.text, said.text
        assert "seawall render --format" in said.text and "nothing was changed" in said.text
        assert not [n for _, n in api.objects("v1", "configmaps") if n.endswith("-inventory")]
    said = await person.types("diff", str(person.folder / "more.yaml"))
    assert said.code == 1 and "+  replicas: 3" in said.text, "a diff still says what would change"
    assert f"Deployment/one: {named}" in said.text


@pytest.mark.parametrize(
    "tool", ["Argo CD (application llm)", "Flux (Kustomization llm)", "Helm (release llm)"]
)
async def test_what_a_tool_has_taken_over_since_is_not_deleted_nor_pruned(
    tool: str, api: KubeApi, kube: Kube, person: Person
) -> None:
    file, objects = rendered(person, plain("one"))
    assert (await person.types("apply", file, "--yes", "--no-wait")).code == 0
    await deploys(kube, tool, [o for o in objects if o["kind"] in ("Deployment", "Service")])
    said = await person.types("delete", file, "--yes", "--no-wait")
    assert said.code == 0, said.text
    assert f"left as it is ({tool} keeps it now) Deployment/one" in " ".join(said.text.split())
    assert (NS, "one") in api.objects("apps/v1", "deployments")
    assert (NS, "one") in api.objects("v1", "services")
    assert not api.objects("policy/v1", "poddisruptionbudgets"), "the rest is gone"


async def test_force_writes_all_the_same_and_a_namespace_of_somebody_else_is_no_reason(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    file, objects = rendered(person, plain("one"))
    home = [o for o in objects if o["kind"] == "Namespace"]
    await deploys(kube, "Argo CD (application llm)", home)
    assert (await person.types("apply", file, "--yes", "--no-wait")).code == 0
    await deploys(kube, "Helm (release llm)", [o for o in objects if o["kind"] == "Deployment"])
    assert (await person.types("apply", file, "--yes", "--no-wait")).code != 0
    said = await person.types("apply", file, "--yes", "--no-wait", "--force-conflicts")
    assert said.code == 0, said.text


async def test_a_fleet_object_that_a_tool_deploys_is_changed_there(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    api.put(fleet_crd())
    await deploys(kube, "Argo CD (application llm)", [plain("one")])
    wanted = plain("one")
    wanted["spec"]["scaling"] = {"min": 2, "max": 2, "by": "none"}
    since = len(api.requests)
    said = await person.types("apply", person.writes(wanted), "--yes", "--no-wait")
    assert said.code != 0 and not changed(api, since)
    assert "Fleet/one: Argo CD (application llm)" in said.text


def test_a_copy_of_an_object_is_not_what_its_tracking_id_says() -> None:
    notes = {"argocd.argoproj.io/tracking-id": "llm:apps/Deployment:llm/one"}
    obj = {"kind": "Deployment", "metadata": {"name": "two", "annotations": notes}}
    assert deployer_of(obj) == ""
    assert (
        deployer_of({**obj, "metadata": {"name": "one", "annotations": notes}}) == "Argo CD (application llm)"
    )
    written = [{"manager": "argocd-controller", "operation": "Update", "subresource": "status"}]
    assert deployer_of({"kind": "Fleet", "metadata": {"name": "x", "managedFields": written}}) == ""


HELD = {
    "Helm (release llm) deploys it": {"annotations": {"meta.helm.sh/release-name": "llm"}},
    "it was there before, and Seawall has not made it": {"labels": {"team": "search"}},
    "it belongs to Fleet two": {
        "labels": {"app.kubernetes.io/managed-by": "seawall"},
        "ownerReferences": [{"apiVersion": "seawall.dev/v1alpha1", "kind": "Fleet", "name": "two"}],
    },
}


@pytest.mark.parametrize(("why", "marks"), HELD.items(), ids=HELD)
async def test_the_operator_takes_nothing_that_is_somebody_elses(
    why: str, marks: Object, api: KubeApi, kube: Kube
) -> None:
    """With its owner reference on it, the object would be deleted with the Fleet."""
    two = api.put({**plain("two"), "spec": None})["metadata"]["uid"]
    owners = [{**o, "uid": two} for o in marks.get("ownerReferences", [])]
    meta = {"name": "one", "namespace": NS, **marks, **({"ownerReferences": owners} if owners else {})}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 5432}]}}
    api.put(theirs)
    api.put(plain("one"))
    async with Cluster(api, kube) as c:
        await c.until(lambda: phase(api, "one") == "Refused")
        assert f"Service/one: {why}" in c.status("one")["reason"]
        await c.until(lambda: (NS, "one") in api.objects("apps/v1", "deployments"))
    kept = api.objects("v1", "services")[NS, "one"]
    assert kept["spec"]["ports"] == [{"port": 5432}]
    assert kept["metadata"].get("ownerReferences", []) == owners
    api.rights = None
    await kube.request("DELETE", f"/apis/seawall.dev/v1alpha1/namespaces/{NS}/fleets/one")
    assert not api.objects("apps/v1", "deployments") and (NS, "one") in api.objects("v1", "services")


async def test_a_fleet_that_is_deleted_and_made_again_takes_up_what_still_runs(
    api: KubeApi, kube: Kube
) -> None:
    """The garbage collector has not come yet: nothing is stopped that the new Fleet wants."""
    old = api.put(plain("one"))["metadata"]["uid"]
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        made = api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]["uid"]
        api.faults.collect_late = True
        api.remove(*FLEETS, "one", NS)
        new = api.put(plain("one"))["metadata"]["uid"]
        assert new != old

        def owners() -> list[str]:
            deployment = api.objects("apps/v1", "deployments").get((NS, "one"), {"metadata": {}})
            return [o["uid"] for o in deployment["metadata"].get("ownerReferences", [])]

        await c.until(lambda: owners() == [new])
        api.collect()
        assert api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]["uid"] == made
        await c.until(lambda: applied(api, "one"))


async def test_a_fleet_that_is_deleted_without_what_it_owns_leaves_it_running_and_ours_to_take_up(
    api: KubeApi, kube: Kube
) -> None:
    """`kubectl delete fleet --cascade=orphan`, as whoever moves Fleets to another place does it."""
    api.put(plain("one"))
    path = f"/apis/seawall.dev/v1alpha1/namespaces/{NS}/fleets/one"
    async with Cluster(api, kube) as c:
        await c.until(lambda: applied(api, "one"))
        made = api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]["uid"]
        api.rights = None
        await kube.request("DELETE", path, {"propagationPolicy": "Orphan"})
        assert not api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]["ownerReferences"]
        new = api.put(plain("one"))["metadata"]["uid"]
        await c.until(lambda: applied(api, "one"))
        deployment = api.objects("apps/v1", "deployments")[NS, "one"]["metadata"]
        assert deployment["uid"] == made and [o["uid"] for o in deployment["ownerReferences"]] == [new]
