"""Gateways are restarted by what they cannot read again while they run, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seawall.render.everything import render
from seawall.render.inputs import Group, Object


def template(group: Group) -> Object:
    (found,) = [
        o
        for o in render(group).objects
        if o["kind"] == "Deployment" and o["metadata"]["name"] == group.gateway
    ]
    made: Object = found["spec"]["template"]
    return made


def files(group: Group) -> Object:
    (found,) = [
        o
        for o in render(group).objects
        if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("-fleets")
    ]
    made: Object = found["data"]
    return made


@pytest.mark.parametrize(
    "change",
    [
        "  monitoring: {enabled: false}\n",
        "  gateway: {maxQueued: 7, retries: 1, stallTimeout: 30s}\n",
        "  gateway: {aliases: {gpt: llama-70b}, allowedOrigins: ['https://chat.example.org'], maxBody: 1Mi}\n",
        "  traffic: {maxContext: 8k}\n",
        "  engine: {maxNumSeqs: 9}\n",
        "  rollout: {canary: {candidate: {extraArgs: ['--seed', '7'], weight: 10}}}\n",
    ],
)
def test_what_a_gateway_reads_again_restarts_none(
    group: Callable[..., Group], llama: str, change: str
) -> None:
    before, after = group(llama), group(llama + change)
    assert files(before) != files(after), "the change is one that the gateways are told"
    assert template(before) == template(after)


@pytest.mark.parametrize(
    "change",
    [
        "  gateway: {image: 'registry.example/seawall:2'}\n",
        "  gateway: {tenants: [{name: a}], keysSecret: keys}\n",
        "  rollout: {drain: 300}\n",
    ],
)
def test_what_it_cannot_restarts_them(group: Callable[..., Group], llama: str, change: str) -> None:
    assert template(group(llama)) != template(group(llama + change))


def test_no_step_of_a_canary_restarts_a_gateway(group: Callable[..., Group], llama: str) -> None:
    shares = [
        template(
            group(
                f"{llama}  rollout: {{canary: {{candidate: {{extraArgs: ['--seed', '7'], weight: {w}}}}}}}\n"
            )
        )
        for w in (1, 10, 50)
    ]
    assert shares[0] == shares[1] == shares[2]


def test_a_keeper_outlives_the_gateways_container(group: Callable[..., Group], llama: str) -> None:
    pod = template(group(llama))["spec"]
    (keeper,), (gateway,) = pod["initContainers"], pod["containers"]
    assert keeper["restartPolicy"] == "Always", "a native sidecar, which does not end before the gateway does"
    socket = gateway["args"][gateway["args"].index("--keeper") + 1]
    assert keeper["command"][-1] == socket
    shared = [m for m in keeper["volumeMounts"] if m in gateway["volumeMounts"]]
    assert [socket.startswith(m["mountPath"] + "/") for m in shared] == [True]
    assert {"name": shared[0]["name"], "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}} in pod["volumes"]


def test_without_a_keeper_there_is_none(group: Callable[..., Group], llama: str) -> None:
    pod = template(group(llama + "  gateway: {keeper: false}\n"))["spec"]
    assert "initContainers" not in pod and "--keeper" not in pod["containers"][0]["args"]
    assert "keeper" not in [v["name"] for v in pod["volumes"]]
