"""Apply, diff, prune, delete, wait and status against the API double."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.drivers.kube import Kube
from seawall.errors import CheckFailed, ClusterError
from seawall.operator.apply import apply, changes, delete, inventory
from seawall.operator.ledger import Ref
from seawall.operator.status import look
from seawall.operator.wait import FleetWait, judge
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import KubeApi

NS = "llm"


def obj(kind: str, name: str, version: str = "v1", **body: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": NS} if kind != "Namespace" else {"name": name}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **body}


def deployment(name: str = "llama", image: str = "vllm:1") -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"name": "vllm", "image": image}]}}}
    made = obj("Deployment", name, "apps/v1", spec=spec)
    made["metadata"]["labels"] = {"seawall.dev/fleet": "llama"}
    return made


FIRST = [
    obj("Namespace", NS),
    obj("ConfigMap", "a", data={"x": "1"}),
    obj("Service", "s", spec={"ports": []}),
    deployment(),
]


async def test_apply_creates_changes_prunes_and_touches_nothing_else(api: KubeApi, kube: Kube) -> None:
    api.put(obj("ConfigMap", "somebody-elses", data={}))
    told: list[tuple[str, str]] = []
    await apply(kube, FIRST, "gw", NS, tell=lambda ref, verb: told.append((str(ref), verb)))
    assert told[0] == ("Namespace/llm", "created")
    assert all(v == "created" for _, v in told)
    again: list[str] = []
    await apply(kube, FIRST, "gw", NS, tell=lambda ref, verb: again.append(verb))
    assert set(again) == {"unchanged"}

    second = [FIRST[0], obj("ConfigMap", "a", data={"x": "2"}), deployment(image="vllm:2")]
    found = {str(c.ref): c for c in await changes(kube, second, "gw", NS)}
    assert {k: c.verb for k, c in found.items()} == {
        "Namespace/llm": "keep",
        "ConfigMap/a": "change",
        "Deployment/llama": "change",
        "Service/s": "prune",
    }
    assert "+      - image: vllm:2" in found["Deployment/llama"].diff
    assert api.objects("v1", "configmaps")[NS, "a"]["data"] == {"x": "1"}, "a diff writes nothing"
    await apply(kube, second, "gw", NS)
    assert (NS, "s") not in api.objects("v1", "services")
    assert (NS, "somebody-elses") in api.objects("v1", "configmaps")
    kept = await delete(kube, "gw", NS, False, lambda ref, verb: None)
    assert [r.kind for r in kept] == ["Namespace"]
    assert set(api.objects("v1", "configmaps")) == {(NS, "somebody-elses")}
    assert api.objects("v1", "namespaces"), "others may live there"


async def test_volumes_with_weights_go_only_when_asked_for(api: KubeApi, kube: Kube) -> None:
    await apply(kube, [*FIRST, obj("PersistentVolumeClaim", "weights", spec={})], "gw", NS)
    await apply(kube, FIRST, "gw", NS)
    assert api.objects("v1", "persistentvolumeclaims"), "not pruned"
    kept = await delete(kube, "gw", NS, False, lambda ref, verb: None)
    assert sorted(r.kind for r in kept) == ["Namespace", "PersistentVolumeClaim"]
    await delete(kube, "gw", NS, True, lambda ref, verb: None)
    assert not api.objects("v1", "persistentvolumeclaims")
    assert not api.objects("v1", "configmaps")


async def test_an_apply_that_is_cut_off_is_mended_by_the_next(api: KubeApi, kube: Kube) -> None:
    def cut(ref: Ref, verb: str) -> None:
        if ref.kind == "ConfigMap":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await apply(kube, FIRST, "gw", NS, tell=cut)
    assert set(await inventory(kube, "gw", NS)) == {Ref.of(o, NS) for o in FIRST}
    await apply(kube, FIRST[:1], "gw", NS)
    assert set(api.objects("v1", "configmaps")) == {(NS, "gw-seawall-inventory")}


async def test_fields_of_another_manager_are_refused_by_name(api: KubeApi, kube: Kube) -> None:
    await apply(kube, FIRST, "gw", NS)
    stored = api.objects("v1", "configmaps")[NS, "a"]
    stored["data"]["x"] = "9"
    stored["metadata"]["managedFields"] = [{"manager": "argocd", "fieldsV1": {"paths": ["data\x1fx"]}}]
    api.put(stored)
    with pytest.raises(ClusterError, match="argocd") as e:
        await apply(kube, FIRST, "gw", NS)
    assert "--force-conflicts" in e.value.cure
    await apply(kube, FIRST, "gw", NS, force=True)
    assert api.objects("v1", "configmaps")[NS, "a"]["data"]["x"] == "1"


async def test_secrets_show_no_value_in_a_diff(kube: Kube) -> None:
    (change,) = await changes(kube, [obj("Secret", "k", stringData={"token": "hunter2"})], "gw", NS)
    assert "hunter2" not in change.diff
    assert "(hidden)" in change.diff


def engine_pod(name: str, **status: Any) -> dict[str, Any]:
    made = obj("Pod", name, spec={"nodeName": "n1"}, status=status)
    made["metadata"]["labels"] = {"seawall.dev/fleet": "llama", "seawall.dev/role": "engine"}
    return made


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
LOADING = {
    "phase": "Running",
    "containerStatuses": [{"name": "vllm", "state": {"running": {}}, "started": False}],
}
CRASHED = {
    "containerStatuses": [
        {
            "name": "vllm",
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
        }
    ]
}
UNSCHEDULED = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }
    ],
}


async def test_wait_tells_each_step_once_and_ends_with_a_token(api: KubeApi, kube: Kube) -> None:
    await apply(kube, [deployment()], "gw", NS)
    job = obj("Job", "load", "batch/v1", status={})
    job["metadata"]["labels"] = {"seawall.dev/fleet": "llama"}
    ready = api.objects("apps/v1", "deployments")[NS, "llama"]
    ready["status"] = {"observedGeneration": 99, "updatedReplicas": 1, "availableReplicas": 1}
    acts = [
        lambda: api.put(job),
        lambda: api.put({**job, "status": {"succeeded": 1}}),
        lambda: api.put(engine_pod("p", **UNSCHEDULED)),
        lambda: api.put(engine_pod("p", **LOADING)),
        lambda: (api.put(engine_pod("p", **READY)), api.put(ready)),
    ]
    told: list[str] = []
    clock = JumpClock(lambda: acts.pop(0)() if acts else None)
    await FleetWait(kube, NS, told.append, clock).until_served("llama", 600)
    text = "\n".join(told)
    for step in (
        "Job load is loading",
        "Insufficient nvidia.com/gpu",
        "loads the model",
        "generated a token",
    ):
        assert text.count(step) == 1, text


async def test_wait_gives_up_on_a_crash_loop_with_the_reason(api: KubeApi, kube: Kube) -> None:
    await apply(kube, [deployment()], "gw", NS)
    api.put(engine_pod("p", **CRASHED))

    with pytest.raises(CheckFailed, match=r"OOMKilled \(exit 137\)") as e:
        await FleetWait(kube, NS, lambda t: None, JumpClock()).until_served("llama", 600)
    assert "seawall diagnose llama" in e.value.cure


def test_the_crash_loop_of_an_older_revision_does_not_end_the_wait_that_mends_it() -> None:
    def of(revision: str, made: str, status: dict[str, Any]) -> dict[str, Any]:
        found = engine_pod(f"llama-{revision}-x", **status)
        found["metadata"]["labels"]["pod-template-hash"] = revision
        found["metadata"] |= {"creationTimestamp": made, "ownerReferences": [{"name": f"llama-{revision}"}]}
        return found

    old = of("6c", "2026-11-26T10:00:00Z", CRASHED)
    assert judge([deployment()], [], [old]).failed
    step = judge([deployment()], [], [old, of("7d", "2026-11-26T10:05:00Z", LOADING)])
    assert not step.failed
    assert "loads the model" in step.step
    assert judge([deployment()], [], [old, of("7d", "2026-11-26T10:05:00Z", CRASHED)]).failed


def test_pods_without_a_deployment_speak_for_themselves() -> None:
    """A replica that spans nodes belongs to a LeaderWorkerSet."""
    pods = [engine_pod("a", **READY), engine_pod("b", **LOADING)]
    assert not judge([], [], []).done
    assert judge([], [], pods).step == "1 of 2 Pods are ready"
    assert judge([], [], pods[:1]).done


def test_a_failed_weights_job_ends_the_wait() -> None:
    job = obj(
        "Job",
        "load",
        "batch/v1",
        status={"conditions": [{"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}]},
    )
    assert judge([deployment()], [job], []).failed


async def test_status_counts_phases_and_says_why(api: KubeApi, kube: Kube) -> None:
    made = deployment()
    made["spec"]["replicas"] = 4
    made["status"] = {"readyReplicas": 1, "updatedReplicas": 2}
    api.put(made)
    for name, state in [("a", READY), ("b", LOADING), ("c", CRASHED), ("d", UNSCHEDULED)]:
        api.put(engine_pod(name, **state))
    hpa = obj(
        "HorizontalPodAutoscaler", "h", "autoscaling/v2", status={"currentReplicas": 2, "desiredReplicas": 4}
    )
    hpa["metadata"]["labels"] = {"seawall.dev/fleet": "llama"}
    api.put(hpa)
    (view,) = await look(kube, NS)
    assert (view.desired, view.ready) == (4, 1)
    assert dict(view.phases) == {"ready": 1, "loading": 1, "failed": 1, "pending": 1}
    assert view.replicas[-1].phase == "ready", "what needs attention comes first"
    assert "2 of 4 replicas are new" in view.rollout
    assert view.scaler == "2 -> 4 replicas"
    assert any("Insufficient nvidia.com/gpu" in r.reason for r in view.replicas)


@pytest.mark.slow
async def test_status_of_ten_thousand_pods_is_a_page_per_500(api: KubeApi, kube: Kube) -> None:
    for n in range(10_000):
        api.put(engine_pod(f"p{n}", **READY))
    (view,) = await look(kube, NS)
    assert view.phases["ready"] == 10_000
    assert len(view.replicas) == 50
    assert kube.requests <= 20 + 5
