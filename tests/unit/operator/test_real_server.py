"""Apply and delete against what a real API server does to objects: defaults, fields that never change, definitions
that take a moment, namespaces that are not there, finalizers, rights that are missing, warnings, secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.diagnose.facts import parse_facts
from seawall.drivers.kube import CONFIG_MAP, DEPLOYMENT, Kube
from seawall.errors import ClusterError
from seawall.operator.apply import apply, changes, delete, insist, unserved, wait_until_gone
from seawall.operator.difference import diff_of
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.kube_strict import canonical

ROOT = Path(__file__).parents[3]
SPEC = str(ROOT / "examples" / "llama-70b-4xh100.yaml")
NS = "llm"


def obj(kind: str, name: str, version: str = "v1", **body: Any) -> dict[str, Any]:
    meta = (
        {"name": name}
        if kind in ("Namespace", "CustomResourceDefinition")
        else {"name": name, "namespace": NS}
    )
    return {"apiVersion": version, "kind": kind, "metadata": meta, **body}


def definition(group: str, version: str, plural: str, kind: str) -> dict[str, Any]:
    spec = {
        "group": group,
        "names": {"plural": plural, "kind": kind},
        "versions": [{"name": version, "served": True}],
    }
    return obj("CustomResourceDefinition", f"{plural}.{group}", "apiextensions.k8s.io/v1", spec=spec)


def claim(size: str) -> dict[str, Any]:
    return obj("PersistentVolumeClaim", "w", spec={"resources": {"requests": {"storage": size}}})


def job(image: str) -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"name": "pull", "image": image}]}}}
    return obj("Job", "load", "batch/v1", spec=spec)


def deployment(cpu: str = "1000m", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "2048Mi"}}}
    return obj("Deployment", "d", "apps/v1", spec={"template": {"spec": {"containers": [container]}}, **spec})


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        yield double


def install(api: KubeApi) -> None:
    """KEDA and the Prometheus operator."""
    for plural, kind in (
        ("scaledobjects", "ScaledObject"),
        ("triggerauthentications", "TriggerAuthentication"),
    ):
        api.put(definition("keda.sh", "v1alpha1", plural, kind))
    for plural, kind in (("podmonitors", "PodMonitor"), ("prometheusrules", "PrometheusRule")):
        api.put(definition("monitoring.coreos.com", "v1", plural, kind))
    with api.changed:
        assert api.changed.wait_for(
            lambda: {"keda.sh/v1alpha1", "monitoring.coreos.com/v1"} <= api.served.keys(), 30
        )
        both = {"keda.sh/v1alpha1": 2, "monitoring.coreos.com/v1": 2}
        assert api.changed.wait_for(lambda: all(len(api.served[v].split()) == n for v, n in both.items()), 30)


def seawall(api: KubeApi, tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "seawall", *args, "--kubeconfig", api.kubeconfig(tmp_path)]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize(
    "text,short",
    [("1000m", "1"), ("2048Mi", "2Gi"), ("0.5", "500m"), ("1500m", "1500m"), ("158Gi", "158Gi"), ("0", "0")],
)
def test_quantities_have_one_form(text: str, short: str) -> None:
    assert canonical(text) == short


async def test_defaults_and_other_spellings_are_no_change(api: KubeApi, kube: Kube) -> None:
    objects = [
        obj("Namespace", NS),
        claim("2048Mi"),
        deployment(),
        obj("Service", "s", spec={"ports": [{"port": 80}]}),
    ]
    assert {c.verb for c in await changes(kube, objects, "gw", NS)} == {"create"}, (
        "before the namespace is there"
    )
    await apply(kube, objects, "gw", NS)
    assert {c.verb for c in await changes(kube, objects, "gw", NS)} == {"keep"}
    told: list[str] = []
    await apply(kube, objects, "gw", NS, tell=lambda ref, verb: told.append(verb))
    assert set(told) == {"unchanged"}
    stored = api.objects("apps/v1", "deployments")[NS, "d"]
    assert stored["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1"
    assert stored["metadata"]["generation"] == 1


def test_a_cluster_without_keda_is_told_before_anything_is_written(api: KubeApi, tmp_path: Path) -> None:
    told = seawall(api, tmp_path, "apply", SPEC, "--yes", "--no-wait", "--output", "json")
    assert told.returncode == 2
    error = json.loads(told.stdout)["error"]
    assert "ScaledObject (keda.sh/v1alpha1)" in error["message"]
    assert "--skip-missing" in error["cure"]
    assert not [r for r in api.requests if r.startswith(("PATCH", "POST"))]
    told = seawall(api, tmp_path, "diff", SPEC)
    assert "missing" in told.stdout
    told = seawall(api, tmp_path, "apply", SPEC, "--yes", "--no-wait", "--skip-missing")
    assert told.returncode == 0, told.stderr
    assert "nothing scales this fleet" in told.stderr
    assert api.objects("apps/v1", "deployments")
    install(api)
    told = seawall(api, tmp_path, "apply", SPEC, "--yes", "--no-wait")
    assert told.returncode == 0, told.stderr
    assert api.objects("keda.sh/v1alpha1", "scaledobjects")
    told = seawall(api, tmp_path, "diff", SPEC)
    assert told.returncode == 0, told.stdout


async def test_a_definition_is_waited_for_and_its_objects_follow(api: KubeApi, kube: Kube) -> None:
    thing = obj("Thing", "t", "nobody.dev/v1", spec={})
    made = definition("nobody.dev", "v1", "things", "Thing")
    assert not await unserved(kube, [thing, made])
    assert [str(r) for r in await unserved(kube, [thing])] == ["Thing/t"]
    told: list[str] = []
    await apply(
        kube, [obj("Namespace", NS), thing, made], "gw", NS, tell=lambda ref, verb: told.append(str(ref))
    )
    assert told.index("CustomResourceDefinition/things.nobody.dev") < told.index("Thing/t")
    api.served.pop("nobody.dev/v1")
    await apply(kube, [obj("Namespace", NS)], "gw", NS)
    kept = await delete(kube, "gw", NS, False, lambda ref, verb: None)
    assert sorted(map(str, kept)) == ["CustomResourceDefinition/things.nobody.dev", "Namespace/llm"]


async def test_what_cannot_change_is_made_anew_or_refused_with_a_cure(api: KubeApi, kube: Kube) -> None:
    first = [
        obj("Namespace", NS),
        claim("10Gi"),
        job("a:1"),
        deployment(selector={"matchLabels": {"a": "b"}}),
    ]
    await apply(kube, first, "gw", NS)
    assert (await changes(kube, [job("a:2")], "gw", NS))[0].verb == "replace"
    told: list[tuple[str, str]] = []
    await apply(
        kube, [*first[:2], job("a:2")], "gw", NS, tell=lambda ref, verb: told.append((str(ref), verb))
    )
    assert ("Job/load", "made anew") in told
    await apply(kube, first, "gw", NS)
    for wrong, cure in (
        (claim("5Gi"), "only grows"),
        (deployment(selector={"matchLabels": {"a": "c"}}), "selector stays"),
    ):
        with pytest.raises(ClusterError) as e:
            insist(await changes(kube, [wrong], "gw", NS))
        assert cure in e.value.cure
        with pytest.raises(ClusterError):
            await apply(kube, [wrong], "gw", NS)
        assert len(e.value.message) < 300
    assert {c.verb for c in await changes(kube, [claim("20Gi")], "gw", NS)} >= {"change"}


async def test_an_object_that_is_leaving_is_waited_for(api: KubeApi, kube: Kube) -> None:
    await apply(kube, [obj("Namespace", NS), claim("1Gi")], "gw", NS)
    old = api.objects("v1", "persistentvolumeclaims")[NS, "w"]["metadata"]["uid"]
    refs: list[Any] = []
    await delete(kube, "gw", NS, True, lambda ref, verb: refs.append(ref))
    held = await wait_until_gone(kube, refs, 0.0)
    assert held == ["PersistentVolumeClaim/w waits for kubernetes.io/pvc-protection"]

    def release() -> None:
        leaving = api.objects("v1", "persistentvolumeclaims")[NS, "w"]
        leaving["metadata"]["finalizers"] = []
        api.put(leaving)

    threading.Timer(0.5, release).start()
    told: list[str] = []
    await apply(kube, [claim("1Gi")], "gw", NS, tell=lambda ref, verb: told.append(verb))
    assert told == ["leaving; waiting until it is gone", "created"]
    assert api.objects("v1", "persistentvolumeclaims")[NS, "w"]["metadata"]["uid"] != old


async def test_a_hand_that_edited_is_named_and_a_scaler_is_left_alone(api: KubeApi, kube: Kube) -> None:
    await apply(kube, [obj("Namespace", NS), deployment(minReadySeconds=5)], "gw", NS)
    edit = {"spec": {"minReadySeconds": 9}}
    path = DEPLOYMENT.path(NS, "d")
    await kube.request("PATCH", path, {"fieldManager": "kubectl-edit"}, edit, "application/merge-patch+json")
    scale = {"spec": {"replicas": 7}}
    await kube.request(
        "PATCH", path, {"fieldManager": "kube-controller-manager"}, scale, "application/merge-patch+json"
    )
    with pytest.raises(ClusterError, match="kubectl-edit") as e:
        insist(await changes(kube, [deployment(minReadySeconds=5)], "gw", NS))
    assert "--force-conflicts" in e.value.cure
    await apply(kube, [deployment(minReadySeconds=5)], "gw", NS, force=True)
    spec = api.objects("apps/v1", "deployments")[NS, "d"]["spec"]
    assert (spec["minReadySeconds"], spec["replicas"]) == (5, 7)


async def test_a_user_of_one_namespace_needs_no_right_to_the_namespace_itself(
    api: KubeApi, kube: Kube
) -> None:
    api.put(obj("Namespace", NS))
    api.faults.forbid = {"PATCH namespaces"}
    told: list[str] = []
    await apply(
        kube, [obj("Namespace", NS), deployment()], "gw", NS, tell=lambda ref, verb: told.append(verb)
    )
    assert told == ["left as it is (no right to change it)", "created"]
    api.faults.forbid = {"PATCH deployments"}
    with pytest.raises(ClusterError, match="cannot patch") as e:
        await apply(kube, [deployment("2")], "gw", NS)
    assert "role" in e.value.cure


async def test_a_namespace_on_its_way_out_says_to_wait(api: KubeApi, kube: Kube) -> None:
    leaving = obj("Namespace", NS)
    leaving["metadata"] |= {"deletionTimestamp": "2026-11-23T00:00:00Z", "finalizers": ["kubernetes"]}
    api.put(leaving)
    with pytest.raises(ClusterError, match="terminated") as e:
        await apply(kube, [deployment()], "gw", NS)
    assert "until the namespace is gone" in e.value.cure


def test_the_servers_warnings_reach_the_user_once_and_not_stdout(api: KubeApi, tmp_path: Path) -> None:
    install(api)
    api.faults.warn = 'would violate PodSecurity "restricted:latest"'
    told = seawall(api, tmp_path, "apply", SPEC, "--yes", "--no-wait", "--output", "json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["applied"] > 5
    assert told.stderr.count("warning: would violate PodSecurity") == 1


def test_nothing_secret_shows_in_a_difference() -> None:
    def secret(value: str) -> dict[str, Any]:
        made = obj("Secret", "s", data={"token": value})
        note = json.dumps({"data": {"token": value}})
        made["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": note}
        return made

    def engine(key: str, size: str = "1") -> dict[str, Any]:
        env = [{"name": "VLLM_API_KEY", "value": key}, {"name": "SIZE", "value": size}]
        return obj("Deployment", "d", "apps/v1", spec={"containers": [{"name": "c", "env": env}]})

    for old, new in ((secret("hunter2"), secret("hunter3")), (engine("hunter2"), engine("hunter3"))):
        text = diff_of("x", old, new)
        assert "hunter" not in text
        assert "(hidden, changed)" in text
        assert "hunter" not in diff_of("x", None, new)
        assert diff_of("x", old, json.loads(json.dumps(old))) == ""
    assert "(hidden, changed)" not in diff_of("x", engine("hunter2"), engine("hunter2", "2"))


@pytest.mark.parametrize(
    "args,code",
    [
        (["status", "-A"], 3),
        (["apply", SPEC, "--yes"], 3),
        (["diagnose", "-n", NS], 3),
        (["apply", SPEC, "--no-such-flag"], 2),
    ],
    ids=lambda a: "-".join(a)[:24] if isinstance(a, list) else "",
)
def test_json_is_json_also_when_the_server_takes_nobody(
    api: KubeApi, tmp_path: Path, args: list[str], code: int
) -> None:
    api.let_in = set()
    told = seawall(api, tmp_path, *args, "--output", "json")
    assert told.returncode == code, told.stderr
    error = json.loads(told.stdout)["error"]
    assert error["exit_code"] == code
    assert error["message"]
    assert "Traceback" not in told.stderr
    assert "not-a-secret" not in told.stdout + told.stderr, "the kubeconfig's token"


def test_ctrl_c_while_waiting_leaves_what_was_applied_and_says_how_to_go_on(
    api: KubeApi, tmp_path: Path
) -> None:
    install(api)
    config = api.kubeconfig(tmp_path)
    argv = [sys.executable, "-m", "seawall", "apply", SPEC, "--yes", "--kubeconfig", config]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if " s  " in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "stays and goes on by itself" in err
    assert "Traceback" not in err


def versions(api: KubeApi) -> dict[str, str]:
    """Of everything but the list, in which each apply says that it has begun and that it has ended."""
    stored = [o for plural in ("namespaces", "configmaps") for o in api.objects("v1", plural).values()]
    return {
        n: o["metadata"]["resourceVersion"]
        for o in stored
        if not (n := o["metadata"]["name"]).endswith("-inventory")
    }


async def test_an_apply_that_changes_nothing_wakes_nobody(api: KubeApi, kube: Kube) -> None:
    await apply(kube, [obj("Namespace", NS), obj("ConfigMap", "c", data={"a": "1"})], "gw", NS)
    listed, before = api.objects("v1", "configmaps")[NS, "gw-seawall-inventory"]["data"], versions(api)
    await apply(kube, [obj("Namespace", NS), obj("ConfigMap", "c", data={"a": "1"})], "gw", NS)
    assert versions(api) == before
    assert api.objects("v1", "configmaps")[NS, "gw-seawall-inventory"]["data"] == listed, "its mark has gone"
    assert await kube.get(CONFIG_MAP, NS, "c")


async def test_the_wait_ends_with_the_gateway_and_not_before(api: KubeApi, kube: Kube) -> None:
    from seawall.errors import CheckFailed
    from seawall.operator.wait import FleetWait

    labels = {"app.kubernetes.io/name": "seawall-gateway", "app.kubernetes.io/instance": "gw"}
    made = deployment()
    made["metadata"]["labels"] = labels
    await apply(kube, [obj("Namespace", NS), made], "gw", NS)
    waiting = {"name": "gateway", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    bad = obj("Pod", "gw-1", spec={}, status={"phase": "Pending", "containerStatuses": [waiting]})
    bad["metadata"]["labels"] = labels
    api.put(bad)

    with pytest.raises(CheckFailed, match="gateway: ImagePullBackOff"):
        await FleetWait(kube, NS, lambda t: None, JumpClock()).for_gateway("gw", 600)
    api.remove("v1", "pods", "gw-1", NS)
    ready = api.objects("apps/v1", "deployments")[NS, "d"]
    ready["status"] = {"observedGeneration": 99, "updatedReplicas": 1, "availableReplicas": 1}
    api.put(ready)
    told: list[str] = []
    await FleetWait(kube, NS, told.append, JumpClock()).for_gateway("gw", 600)
    assert "d available: its Pods are ready" in told[-1]


def test_a_place_that_is_not_there_is_said_and_not_taken_for_health(api: KubeApi, tmp_path: Path) -> None:
    for args in (["status", "-n", "nowhere"], ["diagnose", "-n", "nowhere"]):
        told = seawall(api, tmp_path, *args)
        assert told.returncode == 2, told.stdout
        assert "there is no namespace 'nowhere'" in told.stderr
    api.put(obj("Namespace", NS))
    api.put(deployment())
    told = seawall(api, tmp_path, "diagnose", "nobody", "-n", NS)
    assert told.returncode == 2
    assert "There are d." in told.stderr


@pytest.mark.parametrize(
    ("status", "previous", "says"),
    [
        ({}, False, ""),  # 400: it is waiting to start
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, False, ""),
        (
            {"containerID": "containerd://0a1b"},
            False,
            "unable to retrieve container logs for containerd://0a1b",
        ),
        ({"containerID": "containerd://0a1b"}, True, ""),  # 400: there was none before
        (
            {"lastState": {"terminated": {"containerID": "containerd://00ff"}}},
            True,
            "unable to retrieve container logs for containerd://00ff",
        ),
    ],
)
async def test_what_the_kubelet_says_instead_of_a_log_is_not_taken_for_one(
    api: KubeApi, kube: Kube, status: dict[str, Any], previous: bool, says: str
) -> None:
    """A log that is gone comes as a 200, and reads as if the engine had written it."""
    api.put(obj("Namespace", NS))
    pod = obj("Pod", "p", spec={"containers": [{"name": "engine", "image": "i"}]})
    pod["status"] = {
        "phase": "Running",
        "containerStatuses": [{"name": "engine", "restartCount": 1, **status}],
    }
    api.put(pod)
    text = await kube.logs(NS, "p", "engine", previous=previous)
    assert text == says
    key = "p/engine" + ("/previous" if previous else "")
    facts = parse_facts(json.dumps({"pods": [pod], "logs": {key: text}}))
    assert facts.log(pod, "engine") == ""
    assert await kube.logs(NS, "p", "sidecar") == "", "400: not a container of this Pod"
    assert await kube.logs(NS, "gone", "engine") == ""
