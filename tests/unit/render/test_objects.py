"""Objects are valid for every supported Kubernetes, and they fit together."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from seawall.gateway.intake.responses import RESPONSES
from seawall.gateway.intake.routes import MODELS, PAGES, ROUTES
from seawall.render.everything import render
from seawall.render.inputs import Group
from seawall.render.yaml import dump_all

VARIANTS = {
    "plain": "",
    "canary": "  rollout: {canary: {candidate: {version: 0.31.0}}}\n"
    "  gateway: {route: gateway-api, parentGateway: infra/web, hosts: [llm.example.com]}\n",
    "istio": "  gateway: {route: istio, parentGateway: infra/web, hosts: [llm.example.com]}\n",
    "pool": "  gateway: {route: inference-pool, parentGateway: infra/web}\n",
    "ingress": "  gateway: {route: ingress, parentGateway: nginx, hosts: [llm.example.com], tlsSecret: tls}\n",
    "tenants": "  gateway: {tenants: [{name: a}], keysSecret: keys}\n",
    "store": "  gateway: {store: managed}\n",
    "host-path": "  cache: {kind: host-path}\n",
    "node-local": "  cache: {kind: node-local, tokenSecret: hub}\n",
    "oci": "  cache: {kind: oci, image: 'models/llama@sha256:0000'}\n",
    "rox": "  cache: {accessMode: ReadOnlyMany, dataSource: snapshot/llama}\n",
    "claim": "  cache: {claim: mine}\n",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_what_the_api_server_takes(
    variant: str, group: Callable[..., Group], llama: str, valid: Callable[..., None]
) -> None:
    for obj in render(group(llama + VARIANTS[variant])).objects:
        valid(obj)


def test_the_same_fleet_gives_the_same_bytes(group: Callable[..., Group], llama: str) -> None:
    assert dump_all(render(group(llama)).objects) == dump_all(render(group(llama)).objects)


@pytest.mark.parametrize(("idle", "most"), [("", 600), ("idleTimeout: 60s, ", 55), ("idleTimeout: 2s, ", 1)])
def test_what_stands_in_front_closes_idle_connections_first_and_takes_bodies_as_large(
    idle: str, most: int, group: Callable[..., Group], llama: str
) -> None:
    def rendered(variant: str, kind: str) -> dict[str, Any]:
        text = llama + VARIANTS[variant].replace("{route", f"{{{idle}maxBody: 48Mi, route")
        return next(o for o in render(group(text)).objects if o["kind"] == kind)

    pool = rendered("istio", "DestinationRule")["spec"]["trafficPolicy"]["connectionPool"]["http"]
    assert 0 < int(pool["idleTimeout"].removesuffix("s")) <= most
    told = rendered("ingress", "Ingress")["metadata"]["annotations"]
    assert told["nginx.ingress.kubernetes.io/proxy-body-size"] == str(48 * 2**20)


def test_a_gateway_of_one_becomes_two_and_that_is_said(group: Callable[..., Group], llama: str) -> None:
    rendering = render(group(llama + "  gateway: {replicas: 1}\n"))
    scaler = next(o for o in rendering.objects if o["kind"] == "HorizontalPodAutoscaler")
    assert scaler["spec"]["minReplicas"] == 2
    assert any("spec.gateway.replicas: 1 is 2 on a cluster" in note for note in rendering.notes)
    assert not any("gateway.replicas" in note for note in render(group(llama)).notes)


def test_the_scaler_is_reached_by_keda_alone_and_may_read_what_it_answers_for(
    group: Callable[..., Group], llama: str
) -> None:
    text = re.sub(r"scaling: \{", "scaling: {by: seawall, policy: slo, ", llama)
    objects = render(group(text)).objects
    mine = {o["kind"]: o for o in objects if o["metadata"]["name"].endswith("-scaler")}
    doors = {
        rule["ports"][0]["port"]: [
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule["from"]
        ]
        for rule in mine["NetworkPolicy"]["spec"]["ingress"]
    }
    assert doors == {9443: ["keda"], 9090: ["monitoring"]}
    rights = {
        (r["resources"][0], v): r.get("resourceNames") for r in mine["Role"]["rules"] for v in r["verbs"]
    }
    target = next(o for o in objects if o["kind"] == "ScaledObject")["spec"]["scaleTargetRef"]["name"]
    assert rights == {
        ("pods", "get"): None,
        ("pods", "list"): None,
        ("deployments", "get"): [target],
        ("events", "create"): None,
    }
    gateway = next(
        o
        for o in objects
        if o["kind"] == "NetworkPolicy" and "seawall-scaler" in str(o["spec"].get("ingress"))
    )
    assert gateway["metadata"]["name"].endswith("-gateway")


OFFICE = (
    "schedule: [{start: 0 8 * * 1-5, end: 0 18 * * 1-5, min: 4}, {start: 0 1 * * *, end: 0 2 * * *, min: 3}]"
)


@pytest.mark.parametrize("by", ["keda-prometheus", "keda-gateway", "seawall"])
def test_a_schedule_becomes_keda_s_own_clock(by: str, group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("scaling: {", f"scaling: {{by: {by}, timezone: Europe/Berlin, {OFFICE}, ")
    scaled = next(o for o in render(group(text)).objects if o["kind"] == "ScaledObject")["spec"]
    crons = [t for t in scaled["triggers"] if t["type"] == "cron"]
    assert [t["metadata"] for t in crons] == [
        {"timezone": "Europe/Berlin", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "4"},
        {"timezone": "Europe/Berlin", "start": "0 1 * * *", "end": "0 2 * * *", "desiredReplicas": "3"},
    ]
    if by == "seawall":
        formula = scaled["advanced"]["scalingModifiers"]["formula"]
        assert formula.startswith("decided ?? max((demand / ")
        assert formula.endswith("), schedule_0, schedule_1)")


def test_what_an_on_demand_floor_has_is_taken_off_the_schedule(
    group: Callable[..., Group], llama: str
) -> None:
    spot = llama.replace("cloud: gke", "cloud: gke, spot: {onDemandFloor: 2}")
    text = spot.replace("scaling: {", f"scaling: {{{OFFICE}, ")
    scaled = next(o for o in render(group(text)).objects if o["kind"] == "ScaledObject")["spec"]
    wanted = [t["metadata"]["desiredReplicas"] for t in scaled["triggers"] if t["type"] == "cron"]
    assert wanted == ["2", "1"]


def passes(route: dict[str, Any], path: str) -> bool:
    """Whether an HTTPRoute, a VirtualService or an Ingress lets a path through, by their own rules."""
    spec = route["spec"]
    below = path == "/v1" or path.startswith("/v1/")
    if route["kind"] == "HTTPRoute":
        found = [m["path"] for rule in spec["rules"] for m in rule["matches"]]
        pairs = [("prefix" if p["type"] == "PathPrefix" else "exact", p["value"]) for p in found]
    elif route["kind"] == "VirtualService":
        pairs = [next(iter(m["uri"].items())) for rule in spec["http"] for m in rule["match"]]
    else:
        pairs = [(p["pathType"].lower(), p["path"]) for rule in spec["rules"] for p in rule["http"]["paths"]]
    return any(path == value if kind == "exact" else value == "/v1" and below for kind, value in pairs)


@pytest.mark.parametrize("kind", ["gateway-api", "istio", "ingress"])
def test_a_route_lets_through_what_the_gateway_serves_and_nothing_else(
    kind: str, group: Callable[..., Group], llama: str
) -> None:
    text = llama + f"  gateway: {{route: {kind}, hosts: [llm.example.com], parentGateway: infra/public}}\n"
    text = text.replace("infra/public", "nginx") if kind == "ingress" else text
    wanted = {"gateway-api": "HTTPRoute", "istio": "VirtualService", "ingress": "Ingress"}[kind]
    route = next(o for o in render(group(text)).objects if o["kind"] == wanted)
    served = [path.decode() for path in (*ROUTES, *PAGES, RESPONSES + b"/resp_1", MODELS + b"/a")]
    assert [path for path in served if not passes(route, path)] == []
    others = ["/", "/metrics", "/invocations", "/sleep", "/docs", "/v2/models", "/health/x", "/shop"]
    assert [path for path in others if passes(route, path)] == []
