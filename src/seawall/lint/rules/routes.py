"""Rules about the way of a request to the engine: Ingresses, Routes, their time-outs, and who scrapes which path."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.rules.probes import PROBES, listens_alone
from seawall.lint.rules.schema import open_text
from seawall.lint.world import Manifests

_ENOUGH_S = 120.0
"""A time-out below this cuts answers that are nothing unusual: 2,000 tokens at 20 a second, a minute in the queue."""
_NGINX, _ALB = "nginx.ingress.kubernetes.io/", "alb.ingress.kubernetes.io/"
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _seconds(text: str) -> float | None:
    """`1m30s`, `300s`, `300`: seconds; None for anything else."""
    if re.fullmatch(r"\d+", text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+)(ms|h|m|s)", text))


def _backends(obj: Obj) -> Iterator[tuple[YamlNode, YamlNode, str]]:
    """(the Service's name, its port's node, namespace) of every backend of an Ingress or an HTTPRoute."""
    if obj.kind == "Ingress":
        paths = [p for r in obj.spec["rules"] for p in r.at("http", "paths")]
        for service in [p.at("backend", "service") for p in paths] + [
            obj.spec.at("defaultBackend", "service")
        ]:
            yield service["name"], service.at("port", "number"), obj.namespace
        return
    for ref in (b for r in obj.spec["rules"] for b in r["backendRefs"]):
        if ref["kind"].text("Service") == "Service":
            yield ref["name"], ref["port"], ref["namespace"].text(obj.namespace)


def _leads_to_vllm(world: Manifests, obj: Obj) -> bool:
    served = {(s.namespace, s.name) for w in world.servers for s in world.selecting(w, "Service")}
    return any((space, name.text()) in served for name, _, space in _backends(obj))


@rule(
    "network/backend-missing",
    "error",
    "A backend that is not here",
    story="""An Ingress or an HTTPRoute names a Service by its name and a port that the Service has (`port`, not
    `targetPort`). With another name the Ingress answers 503, and the HTTPRoute has ResolvedRefs False
    (`BackendNotFound`) and answers 500. Reported when the namespace's Services are in sight, and a name only
    where it is nearly one of them.""",
    cure="Write the Service's name and one of its ports.",
)
def backend_missing(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds("Ingress", "HTTPRoute", "GRPCRoute"):
        for name, port, space in _backends(obj):
            here = {o.name: o for o in world.kinds("Service") if o.namespace == space}
            if not name.text() or open_text(name) or not here:
                continue
            service = here.get(name.text())
            near = [n for n in here if n.startswith(name.text()) or name.text().startswith(n)]
            if service is None and near:
                text = f"there is no Service {name.text()} here: nothing behind it is reached."
                yield say(obj, name, text, f"There is {near[0]}.")
            elif (
                service is not None
                and obj.kind != "Ingress"
                and port.text().isdigit()
                and service.spec["ports"]
            ):
                has = [p["port"].text() for p in service.spec["ports"]]
                if port.text() not in has:
                    text = f"{service.shown} has no port {port.text()}: the route answers 500."
                    yield say(obj, port, text, f"Use {has[0]}.")


@rule(
    "network/short-timeout",
    "warning",
    "A time-out shorter than an answer",
    story="""Proxies give up on an answer that does not go on: nginx 60 s after the last byte (proxy-read-
    timeout), an ALB after 60 s of silence, GKE's load balancer 30 s after the request (BackendConfig
    timeoutSec: the whole answer, streams too), Envoy and Istio at the route's `timeout`, of the whole answer
    too. A request that waits in vLLM's queue, a long prompt, an answer that is not streamed take longer:
    clients get 504, and the engine goes on computing. Reported for routes that lead to vLLM.""",
    cure="Set it to the longest answer that you allow: 600 s or more.",
)
def short_timeout(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds("Ingress"):
        if _leads_to_vllm(world, obj):
            yield from _of_ingress(obj, say)
    for obj in world.kinds("HTTPRoute"):
        for rule_ in obj.spec["rules"] if _leads_to_vllm(world, obj) or _to_pool(obj) else ():
            for key in ("request", "backendRequest"):
                yield from _short(obj, rule_["timeouts"][key], f"timeouts.{key}", say)
    for obj in world.kinds("VirtualService"):
        names = {s.name for w in world.servers for s in world.selecting(w, "Service")}
        for http in obj.spec["http"]:
            hosts = [r.at("destination", "host").text().split(".")[0] for r in http["route"]]
            if names & set(hosts):
                yield from _short(obj, http["timeout"], "timeout", say)
    for obj in world.kinds("BackendConfig", "GCPBackendPolicy"):
        node = obj.spec["timeoutSec"] or obj.spec.at("default", "timeoutSec")
        if world.servers and node:
            yield from _short(obj, node, "timeoutSec", say)


def _to_pool(obj: Obj) -> bool:
    return any(b["kind"].text() == "InferencePool" for r in obj.spec["rules"] for b in r["backendRefs"])


def _short(obj: Obj, node: YamlNode, name: str, say: Say) -> Iterator[Finding]:
    seconds = _seconds(node.text())
    if node and not open_text(node) and seconds is not None and 0 < seconds < _ENOUGH_S:
        yield say(obj, node, f"{name} is {node.text()}: longer answers end in 504, streams in the middle.")


def _of_ingress(obj: Obj, say: Say) -> Iterator[Finding]:
    notes = obj.node.at("metadata", "annotations")
    name = obj.spec["ingressClassName"].text() or notes["kubernetes.io/ingress.class"].text()
    if name == "nginx" or any(k.startswith(_NGINX) for k, _ in notes.items()):
        node = notes[_NGINX + "proxy-read-timeout"]
        if node and not node.text().isdigit() and not open_text(node):
            text = f"proxy-read-timeout {node.text()} is no number of seconds: nginx keeps its 60 s."
            yield say(obj, node, text, 'Write "600".')
        elif node:
            yield from _short(obj, node, "proxy-read-timeout", say)
        else:
            text = (
                "nginx waits 60 s for the next byte "
                "(proxy-read-timeout): a request that queues longer ends in 504."
            )
            yield say(obj, notes or obj.node.at("metadata", "name"), text)
    if name == "alb" or any(k.startswith(_ALB) for k, _ in notes.items()):
        found = re.search(
            r"idle_timeout\.timeout_seconds=(\d+)", notes[_ALB + "load-balancer-attributes"].text()
        )
        if found is None or int(found[1]) < _ENOUGH_S:
            text = (
                f"the ALB closes connections that are silent for "
                f"{found[1] if found else 60} s (idle_timeout.timeout_seconds): 504."
            )
            yield say(obj, notes or obj.node.at("metadata", "name"), text)


@rule(
    "network/path-lost",
    "error",
    "A route that changes the path",
    story="""ingress-nginx's `rewrite-target: /` makes `/` of every path below the one that it stands at: a
    request to /v1/chat/completions reaches vLLM as `/`, which is 404. With a regular expression and `/$2` only
    the beginning goes. A Gateway's timeouts are written with their unit (`600s`): the API server refuses `600`.""",
    cure="Leave rewrite-target out, or write path: /llm(/|$)(.*) with rewrite-target: /$2.",
)
def path_lost(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds("Ingress"):
        node = obj.node.at("metadata", "annotations", _NGINX + "rewrite-target")
        paths = [p["path"].text() for r in obj.spec["rules"] for p in r.at("http", "paths")]
        whole = [p for p in paths if not re.search(r"[(\[*]", p)]
        if node.text() == "/" and whole and _leads_to_vllm(world, obj):
            yield say(obj, node, "every path below becomes `/`: vLLM answers 404 to /v1/chat/completions.")
    for obj in world.kinds("HTTPRoute"):
        for rule_ in obj.spec["rules"]:
            for key, node in rule_["timeouts"].items():
                if not open_text(node) and not _DURATION.fullmatch(node.text()):
                    yield say(obj, node, f"timeouts.{key} {node.text()} has no unit: the API server refuses the route.",
                              f"Write {node.text()}s." if node.text().isdigit() else None)  # fmt: skip


@rule(
    "network/metrics-elsewhere",
    "error",
    "Scraped where vLLM has no metrics",
    story="""vLLM tells its metrics at /metrics, on the port that it serves on. With another path or port
    Prometheus gets 404 or no connection, the target is down, and what scales by those metrics sees nothing.""",
    cure="Leave the path out (it is /metrics), and name vLLM's port.",
)
def metrics_elsewhere(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        engine = workload.engine
        if not listens_alone(workload, engine) or engine.command.option("--root-path"):
            continue
        for monitor in world.selecting(workload, "PodMonitor"):
            for endpoint in monitor.spec["podMetricsEndpoints"]:
                path = endpoint["path"]
                if path and path.text().rstrip("/") != "/metrics" and not open_text(path):
                    yield say(monitor, path, f"{path.text()} is asked, vLLM's metrics are at /metrics: 404.")
        notes = workload.obj.node.at("spec", "template", "metadata", "annotations")
        path, port = notes["prometheus.io/path"], notes["prometheus.io/port"]
        listens = engine.command.value("--port") or "8000"
        if notes["prometheus.io/scrape"].text() != "true":
            continue
        if path and path.text() != "/metrics" and not open_text(path):
            yield say(workload.obj, path, f"{path.text()} is asked, vLLM's metrics are at /metrics: 404.")
        if port and listens.isdigit() and port.text() != listens and not open_text(port):
            yield say(
                workload.obj,
                port,
                f"port {port.text()} is asked, vLLM listens on {listens}: nothing is scraped.",
            )


@rule(
    "probes/other-scheme",
    "error",
    "A probe that speaks HTTP where vLLM speaks TLS",
    story="""With --ssl-certfile vLLM speaks TLS only: a probe without `scheme: HTTPS` fails for ever, and so
    does one with it where vLLM speaks plain HTTP. The kubelet does not look at the certificate.""",
    cure="Write scheme: HTTPS beside the probe's port, or leave it out where there is no certificate.",
)
def other_scheme(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        engine = workload.engine
        if not listens_alone(workload, engine):
            continue
        tls = engine.command.option("--ssl-certfile") or engine.command.option("--ssl-keyfile")
        for name in PROBES:
            ask = engine.node.at(name, "httpGet")
            if (
                ask
                and (ask["scheme"].text("HTTP").upper() == "HTTPS") != bool(tls)
                and not open_text(ask["scheme"])
            ):
                speaks = "TLS" if tls else "plain HTTP"
                yield say(
                    workload.obj, ask, f"{name} does not speak {speaks}, and vLLM does: it always fails."
                )
