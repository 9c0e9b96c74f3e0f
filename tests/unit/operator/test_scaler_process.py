"""Every decision is said three ways: a line that can be replayed, two numbers, and an event where the count changes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from seawall.decide.scale import DemandSeen
from seawall.decide.scale.record import DecisionRecord, read
from seawall.drivers.kube import Kube
from seawall.errors import InputError
from seawall.operator.scaler_process import Teller, run_scaler
from seawall.operator.status import look
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import KubeApi


def record(replicas: int) -> DecisionRecord:
    seen = DemandSeen(replicas=2, ready=2, running=40.0)
    reason = "20 requests per replica, target 10: 4 wanted"
    return DecisionRecord(decision="llm/chat", at_s=15.0, seen=seen, replicas=replicas, reason=reason)


async def test_a_change_is_a_line_a_number_and_an_event(
    kube: Kube, api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    teller = Teller(kube, JumpClock(), registry)
    with caplog.at_level(logging.INFO, "seawall.scaler"):
        teller(record(2), 2)
        teller(record(4), 2)
    await teller.told()
    assert [r.replicas for r in read(caplog.messages)] == [2, 4]
    text = generate_latest(registry).decode()
    assert 'seawall_scale_decided_replicas{fleet="chat",namespace="llm"} 4.0' in text
    assert 'seawall_scale_decisions_total{fleet="chat",namespace="llm"} 2.0' in text
    (event,) = api.objects("v1", "events").values()
    assert event["reason"] == "ScaleDecided"
    assert event["message"] == "2 -> 4 replicas: 20 requests per replica, target 10: 4 wanted"


async def test_status_tells_the_last_decision_and_its_reason(kube: Kube, api: KubeApi) -> None:
    clock = JumpClock()
    teller = Teller(kube, clock, CollectorRegistry())
    labels = {"seawall.dev/fleet": "chat"}
    meta = {"name": "chat-spot", "namespace": "llm", "labels": labels}
    api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": 4}})
    for before, after in ((2, 3), (3, 4)):
        clock.t += 60
        teller(replace(record(after), target="chat-spot"), before)
        await teller.told()
    (view,) = await look(kube, "llm")
    assert view.scaler == (
        "decided at 2026-09-21T14:15:20Z: 3 -> 4 replicas: 20 requests per replica, target 10: 4 wanted"
    )
    assert {e["involvedObject"]["name"] for e in api.objects("v1", "events").values()} == {"chat-spot"}
    api.faults.forbid.add("GET events")
    (view,) = await look(kube, "llm")
    assert view.scaler == ""


async def test_an_address_without_a_port_is_refused(kube: Kube, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--metrics 'nowhere' is no ADDRESS:PORT"):
        await run_scaler(kube, "127.0.0.1:0", "nowhere", None)
