"""Which nodes a Pod's demands leave, whose taints it bears, what phase it is in: small facts that causes rest on."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.diagnose.facts import Facts
from seawall.diagnose.fitting import fits_selector, gpus_asked, untolerated
from seawall.diagnose.phase import phase_of
from seawall.diagnose.run import diagnose

from .test_catalogue import Object, event, scaled

H100 = {
    "metadata": {
        "labels": {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "nvidia.com/gpu.count": "8",
            "zone": "a",
        }
    }
}


def wanting(*terms: list[Object]) -> Object:
    required = {"nodeSelectorTerms": [{"matchExpressions": t} for t in terms]}
    return {
        "spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    }


def e(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("pod", "lacking"),
    [
        ({"spec": {}}, ""),
        ({"spec": {"nodeSelector": {"zone": "a"}}}, ""),
        ({"spec": {"nodeSelector": {"zone": "b"}}}, "zone=b"),
        ({"spec": {"nodeSelector": {"gpu": "on"}}}, "gpu=on"),
        (wanting([e("zone", "In", "a", "b")]), ""),
        (wanting([e("zone", "In", "b", "c")]), "zone In b, c"),
        (wanting([e("zone", "NotIn", "a")]), "zone NotIn a"),
        (wanting([e("nvidia.com/gpu.count", "Gt", "4")]), ""),
        (wanting([e("nvidia.com/gpu.count", "Gt", "8")]), "nvidia.com/gpu.count Gt 8"),
        (wanting([e("nvidia.com/gpu.count", "Lt", "16")]), ""),
        (wanting([e("nvidia.com/gpu.count", "Lt", "many")]), "nvidia.com/gpu.count Lt many"),
        (wanting([e("missing", "Gt", "1")]), "missing Gt 1"),
        (wanting([e("zone", "Exists")]), ""),
        (wanting([e("spot", "Exists")]), "spot Exists"),
        (wanting([e("spot", "DoesNotExist")]), ""),
        (wanting([e("zone", "DoesNotExist")]), "zone DoesNotExist"),
        (wanting([e("zone", "In", "b")], [e("zone", "In", "a")]), ""),
        (wanting([e("zone", "In", "a"), e("spot", "Exists")]), "spot Exists"),
    ],
)
def test_what_a_node_lacks(pod: Object, lacking: str) -> None:
    assert fits_selector(pod, H100) == (not lacking, lacking)


TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("tolerations", "borne"),
    [
        ([], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "nvidia.com/gpu", "operator": "Exists"}], True),
        ([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}], False),
        ([{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}], True),
        ([{"key": "nvidia.com/gpu", "operator": "Equal", "value": "true"}], False),
        ([{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}], True),
        ([{"key": "amd.com/gpu", "operator": "Exists"}], False),
    ],
)
def test_whose_taints_a_pod_bears(tolerations: list[Object], borne: bool) -> None:
    node = {"spec": {"taints": [{"key": "soft", "effect": "PreferNoSchedule"}, TAINT]}}
    assert untolerated({"spec": {"tolerations": tolerations}}, node) == (None if borne else TAINT)


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ([{"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": 1}], ("nvidia.com/gpu", 5)),
        ([{"nvidia.com/mig-3g.40gb": "1"}], ("nvidia.com/mig-3g.40gb", 1)),
        ([{"amd.com/gpu": "8", "cpu": "16"}], ("amd.com/gpu", 8)),
        ([{"habana.ai/gaudi": "2"}], ("habana.ai/gaudi", 2)),
        ([{"cpu": "16"}], ("nvidia.com/gpu", 0)),
        ([{"nvidia.com/gpu": "{{ gpus }}"}], ("nvidia.com/gpu", 0)),
    ],
)
def test_the_gpus_that_a_pod_asks_for(limits: list[Object], asked: tuple[str, int]) -> None:
    assert gpus_asked({"spec": {"containers": [{"resources": {"limits": x}} for x in limits]}}) == asked


def status(**fields: Any) -> Object:
    return {"metadata": {}, "status": fields}


UP: Object = {"name": "vllm", "state": {"running": {}}, "started": True, "restartCount": 0}


@pytest.mark.parametrize(
    ("pod", "phase", "words"),
    [
        ({"metadata": {"deletionTimestamp": "x"}}, "draining", "finishes its streams"),
        (status(phase="Succeeded"), "done", ""),
        (status(phase="Failed", reason="Evicted"), "failed", "Evicted"),
        (status(phase="Failed"), "failed", "the Pod failed"),
        (
            status(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]),
            "pending",
            "0/3 nodes",
        ),
        (
            status(
                containerStatuses=[{"name": "vllm", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
            ),
            "failed",
            "vllm: ImagePullBackOff",
        ),
        (
            status(
                containerStatuses=[
                    {
                        "name": "vllm",
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    }
                ]
            ),
            "failed",
            "died with OOMKilled (exit 137)",
        ),
        (status(conditions=[{"type": "Ready", "status": "True"}], containerStatuses=[UP]), "ready", ""),
        (status(containerStatuses=[UP]), "starting", "serves HTTP, not ready yet"),
        (status(containerStatuses=[{**UP, "started": False}]), "loading", "loads the model"),
        (
            status(containerStatuses=[{**UP, "started": False, "restartCount": 3}]),
            "loading",
            "restarted 3 times",
        ),
    ],
)
def test_the_phase_of_a_pod(pod: Object, phase: str, words: str) -> None:
    found, reason = phase_of(pod)
    assert found == phase
    assert words in reason


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("prometheus query sum(x) returned multiple elements", "more than one series"),
        ('Get "http://p:9090/api/v1/query": dial tcp: lookup p: no such host', "cannot be reached"),
        ("context deadline exceeded", "cannot be reached"),
        (
            'prometheus query api returned error. status: 400 response: {"errorType":"bad_data"}',
            "refuses the query",
        ),
        ("prometheus query api returned error. status: 401 response: Unauthorized", "wants a login"),
        ("prometheus metrics 'prometheus' target may be lost, the result is empty", "returns nothing"),
        ("something that nobody has seen", "something that nobody has seen"),
    ],
)
def test_why_a_trigger_fails(message: str, words: str) -> None:
    keda = scaled([{"type": "Ready", "status": "True"}])
    facts = Facts(scaledobjects=[keda], events=[event("KEDAScalerFailed", message, "chat", "ScaledObject")])
    (cause,) = (c for c in diagnose(facts) if c.id == "scale/trigger-fails")
    assert words in cause.what
