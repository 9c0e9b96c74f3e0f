"""Ready as a person means it: what the gateways use now, of what is wanted, of the present spec."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.test_apply import LOADING, READY, deployment, engine_pod, obj

from seawall.drivers.kube import Kube
from seawall.errors import CheckFailed
from seawall.operator.reconcile import Desired, status_of
from seawall.operator.show import status_text
from seawall.operator.status import FleetView, look
from seawall.operator.wait import FleetWait, judge
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import KubeApi

NS = "llm"


def served(api: KubeApi, wanted: int = 3, **status: int) -> None:
    """A Deployment whose Pods are all ready."""
    made = deployment()
    made["spec"]["replicas"] = wanted
    full = {
        "readyReplicas": wanted,
        "updatedReplicas": wanted,
        "availableReplicas": wanted,
        "replicas": wanted,
    }
    made["status"] = {"observedGeneration": 99, **full, **status}
    api.put(made)
    for n in range(wanted):
        api.put(engine_pod(f"p{n}", **READY))


def gateway(api: KubeApi, name: str = "g", **states: str) -> None:
    """A gateway that runs, and how it uses which replica."""
    made = obj("Pod", name, status={"phase": "Running"})
    made["metadata"]["labels"] = {"app.kubernetes.io/name": "seawall-gateway"}
    api.put(made)
    replicas = {
        n: {"fleet": "llama", "state": s, "reason": "" if s == "ready" else "connection refused"}
        for n, s in states.items()
    }
    api.proxies[f"{NS}/{name}:9090"] = {"fleets": {"llama": {"queued": 2}}, "replicas": replicas}


async def view_of(kube: Kube) -> FleetView:
    (view,) = await look(kube, NS)
    return view


async def test_replicas_that_no_gateway_reaches_are_not_serving(api: KubeApi, kube: Kube) -> None:
    served(api)
    gateway(api, p0="evicted", p1="evicted", p2="evicted")
    text = status_text([await view_of(kube)], NS)
    assert "0 of 3 used by the gateways, 3 ready: p0 is evicted: connection refused" in text
    assert "Next: seawall diagnose llama" in text
    gateway(api, p0="ready", p1="ready", p2="ready")
    assert "3 of 3 used by the gateways" in status_text([await view_of(kube)], NS)
    gateway(api, "h", p0="ready", p1="evicted", p2="ready")
    assert "2 of 3 used by the gateways, 3 ready: p1 is evicted" in status_text([await view_of(kube)], NS), (
        "a client may come to either gateway"
    )


async def test_a_gateway_that_cannot_be_asked_is_said_and_no_verdict(api: KubeApi, kube: Kube) -> None:
    served(api)
    gateway(api, p0="ready", p1="ready", p2="ready")
    del api.proxies[f"{NS}/g:9090"]
    text = status_text([await view_of(kube)], NS)
    assert "3 of 3 ready (the gateways could not be asked: g: " in text
    api.proxies[f"{NS}/g:9090"] = {"fleets": {"llama": {"queued": "many"}}}
    assert "/debug/state cannot be read" in status_text([await view_of(kube)], NS)


async def test_without_a_gateway_nobody_is_served(api: KubeApi, kube: Kube) -> None:
    served(api)
    assert "0 of 3 used by the gateways, 3 ready: no gateway of this namespace serves it" in status_text(
        [await view_of(kube)], NS
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"updatedReplicas": 1, "replicas": 4}, "1 of 3 replicas are new"),
        ({"replicas": 4}, "all 3 new replicas are made, 1 old ones still run"),
        ({"observedGeneration": 0}, "0 of 3 replicas are new"),
    ],
)
async def test_a_rollout_that_is_not_over_is_said(
    api: KubeApi, kube: Kube, status: dict[str, int], said: str
) -> None:
    served(api, **status)
    gateway(api, p0="ready", p1="ready", p2="ready")
    view = await view_of(kube)
    assert said in view.rollout
    (made,) = api.objects("apps/v1", "deployments").values()
    assert not judge([made], [], []).done, "apply goes on waiting"
    now = status_of({"metadata": {"generation": 1}}, Desired(), "", view, "now")
    told = {c["type"]: c for c in now["conditions"]}
    assert (told["Ready"]["status"], told["UpToDate"]["status"], now["phase"]) == (
        "True",
        "False",
        "Progressing",
    )
    assert said in now["reason"]


QUOTA = 'pods "llama-7d-" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 8, limited: 8'
VETO = 'admission webhook "images.corp.example" denied the request: image is not signed'
ACCOUNT = 'pods "llama-7d-" is forbidden: error looking up service account llm/llama-engine: serviceaccount not found'


@pytest.mark.parametrize("why", [QUOTA, VETO, ACCOUNT])
async def test_pods_that_the_api_server_refuses_are_said_with_its_words(
    api: KubeApi, kube: Kube, why: str
) -> None:
    """A quota, a webhook, an account that is missing: no Pod is there that could tell."""
    served(api, updatedReplicas=0, readyReplicas=0, availableReplicas=0, replicas=0)
    for n in range(3):
        api.remove("v1", "pods", f"p{n}", NS)
    (made,) = api.objects("apps/v1", "deployments").values()
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why}
    api.put({**made, "status": {**made["status"], "conditions": [failure]}})
    view = await view_of(kube)
    text = status_text([view], NS)
    assert f"no Pod can be made: {why}" in text and "Next: seawall diagnose llama" in text
    told = status_of({"metadata": {"generation": 1}}, Desired(), "", view, "now")
    assert why in told["reason"] and told["phase"] == "Progressing"
    clock, lines = JumpClock(), list[str]()
    with pytest.raises(CheckFailed) as e:
        await FleetWait(kube, NS, lines.append, clock).until_served("llama", 3600)
    assert why in e.value.message and "seawall diagnose" in e.value.cure
    assert 20 < clock.now() < 60, "what ends now may give its quota back; an hour is not waited"


async def test_a_deployment_that_somebody_paused_is_said_with_the_command_that_resumes_it(
    api: KubeApi, kube: Kube
) -> None:
    served(api, updatedReplicas=0)
    (made,) = api.objects("apps/v1", "deployments").values()
    api.put({**made, "spec": {**made["spec"], "paused": True}})
    gateway(api, p0="ready", p1="ready", p2="ready")
    resume = "kubectl rollout resume deployment/llama -n llm"
    view = await view_of(kube)
    assert resume in status_text([view], NS)
    told = status_of({"metadata": {"generation": 1}}, Desired(), "", view, "now")
    assert resume in told["reason"]
    with pytest.raises(CheckFailed, match=resume):
        await FleetWait(kube, NS, lambda line: None, JumpClock()).until_served("llama", 3600)
    served(api)
    (made,) = api.objects("apps/v1", "deployments").values()
    api.put({**made, "spec": {**made["spec"], "paused": True}})
    assert not (await view_of(kube)).rollout, "nothing waits for it"
    await FleetWait(kube, NS, lambda line: None, JumpClock()).until_served("llama", 60)


async def test_at_zero_it_is_ready_and_says_why_nothing_runs(api: KubeApi, kube: Kube) -> None:
    served(api, wanted=0)
    gateway(api)
    scaled = obj("ScaledObject", "llama", "keda.sh/v1alpha1", spec={})
    scaled["metadata"]["labels"] = {"seawall.dev/fleet": "llama"}
    api.put({**scaled, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    view = await view_of(kube)
    assert "scaled to zero: the first request starts a replica" in status_text([view], NS)
    now = status_of({"metadata": {"generation": 1}}, Desired(), "", view, "now")
    assert now["phase"] == "Ready"
    ready = next(c for c in now["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Resting")
    assert "first request" in ready["message"]


async def test_replicas_that_span_nodes_are_counted_by_their_leaders(api: KubeApi, kube: Kube) -> None:
    api.put(engine_pod("p0", **READY))
    api.put(engine_pod("p1", **LOADING))
    gateway(api, p0="ready")
    view = await view_of(kube)
    assert (view.ready, view.desired, view.usable) == (1, 2, 1)
    assert "1 of 2 used by the gateways" in status_text([view], NS)
    ready = {
        c["type"]: c["status"] for c in status_of({"metadata": {}}, Desired(), "", view, "now")["conditions"]
    }
    assert ready["Ready"] == "False"


async def test_a_scaler_that_nobody_has_looked_at_is_said(api: KubeApi, kube: Kube) -> None:
    served(api)
    gateway(api, p0="ready", p1="ready", p2="ready")
    scaled = obj("ScaledObject", "llama", "keda.sh/v1alpha1", spec={})
    scaled["metadata"]["labels"] = {"seawall.dev/fleet": "llama"}
    api.put(scaled)
    assert "nothing scales it: KEDA has not looked at its ScaledObject" in status_text(
        [await view_of(kube)], NS
    )
    told: list[str] = []
    await FleetWait(kube, NS, told.append, JumpClock()).until_used("llama", 60)
    assert "nothing scales it" in told[-1]
    api.put({**scaled, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert "nothing scales" not in status_text([await view_of(kube)], NS)


async def test_apply_ends_when_the_gateways_use_what_is_wanted_and_not_before(
    api: KubeApi, kube: Kube
) -> None:
    served(api)
    gateway(api, p0="probing", p1="ready", p2="ready")
    acts = [lambda: None, lambda: gateway(api, p0="ready", p1="ready", p2="ready")]
    told: list[str] = []
    clock = JumpClock(lambda: acts.pop(0)())
    await FleetWait(kube, NS, told.append, clock).until_used("llama", 60)
    assert "2 of 3 used by the gateways, 3 ready: p0 is probing" in told[0]
    assert "3 of 3 used" in told[-1]
    gateway(api, p0="evicted", p1="evicted", p2="evicted")
    with pytest.raises(CheckFailed, match="0 of 3 used by the gateways") as e:
        await FleetWait(kube, NS, told.append, JumpClock()).until_used("llama", 60)
    assert "seawall diagnose llama" in e.value.cure


async def test_an_api_server_that_restarts_is_waited_for(api: KubeApi, kube: Kube) -> None:
    served(api)
    api.put(engine_pod("p0", **LOADING))
    (made,) = api.objects("apps/v1", "deployments").values()
    api.put({**made, "status": {**made["status"], "availableReplicas": 2}})
    told: list[str] = []

    def back() -> None:
        api.faults.down = False
        api.put(made)

    acts = [lambda: setattr(api.faults, "down", True), lambda: None, back]
    clock = JumpClock(lambda: acts.pop(0)())
    await FleetWait(kube, NS, told.append, clock).until_served("llama", 600)
    assert [t for t in told if "does not answer" in t], told
    assert "generated a token" in told[-1]
    api.faults.forbid = {"GET deployments"}
    with pytest.raises(Exception, match="cannot patch"):  # no right is no passing cloud
        await FleetWait(kube, NS, told.append, JumpClock()).until_served("llama", 600)


def test_status_w_goes_on_after_an_api_server_that_restarts(api: KubeApi, capsys: Any) -> None:
    from seawall.cli import status
    from seawall.drivers.kube_refusal import Away, Refused

    answers: list[Any] = [Away("the Kubernetes API does not answer.", ""), "all is well", KeyboardInterrupt()]

    def show() -> str:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    with pytest.raises(KeyboardInterrupt):
        status.redraw(show, lambda seconds: None)
    said = capsys.readouterr().out
    assert "does not answer. Looking again." in said
    assert "all is well" in said
    answers = [Refused(403, "Forbidden", "cannot list")]
    with pytest.raises(Refused):
        status.redraw(show, lambda seconds: None)
