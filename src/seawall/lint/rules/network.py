"""Rules about Services, monitors and policies around the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj, Workload
from seawall.lint.patch import Patcher
from seawall.lint.rules.probes import listens_alone
from seawall.lint.world import Manifests

_AROUND = (
    "Service",
    "ScaledObject",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "PersistentVolumeClaim",
    "Ingress",
    "HTTPRoute",
)
_ROUTED = ("InferencePool", "InferenceService", "LLMInferenceService")
_ROUTER = re.compile(r"router|gateway|proxy|envoy", re.I)


def _whole(world: Manifests) -> Iterator[Workload]:
    """Servers with other objects around them in sight: what is missing is probably really missing."""
    if any(world.kinds(*_AROUND)):
        for workload in world.whole_servers:
            if workload.obj.kind in ("Deployment", "StatefulSet"):
                yield workload


def _name(workload: Workload) -> YamlNode:
    return workload.obj.node.at("metadata", "name")


@rule(
    "network/service-links",
    "note",
    "A Service can break the engine through its environment",
    story="""For every Service of the namespace the kubelet injects variables such as NAME_PORT=tcp://...
    into each Pod. A Service named `vllm` becomes VLLM_PORT, which vLLM reads as its own: the workers die
    with `VLLM_PORT 'tcp://...' appears to be a URI` and the Pod crash-loops (seen on Kubernetes 1.36): an error
    where that Service is in sight. It may come later, from somebody else. Headless Services set nothing.""",
    cure="Set enableServiceLinks: false in the Pod's spec.",
    fixable=True,
)
def service_links(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    services = {
        (o.namespace, o.name)
        for o in world.kinds("Service")
        if o.spec["clusterIP"].text() != "None" and o.spec["type"].text() != "ExternalName"
    }
    for workload in world.workloads:
        node = workload.pod["enableServiceLinks"]
        if workload.partial or node.value is False:
            continue
        edits = (
            patch.replace(node, "false")
            if node
            else patch.add_key(workload.pod, ["enableServiceLinks: false"])
        )
        set_by_hand = any(e.env(environment.PORT) for e in workload.engines)
        if set_by_hand:
            continue  # what the container sets itself goes before what a Service brings
        if (workload.obj.namespace, "vllm") in services:
            yield say(
                workload.obj,
                node,
                "the Service vllm sets VLLM_PORT=tcp://... in this Pod: vLLM takes it for its own "
                "port and crash-loops.",
                severity="error",
                edits=edits,
            )
        else:
            yield say(
                workload.obj,
                node,
                "a Service named vllm in this namespace would set VLLM_PORT=tcp://... and crash-loop "
                "this Pod.",
                edits=edits,
            )


@rule(
    "network/no-service",
    "note",
    "Nothing leads to the engine",
    story="""Without a Service (or InferencePool) that selects its Pods no client and no ServiceMonitor
    reaches the engine. Reported when other objects around the workload are in sight, and no router that finds
    its Pods by itself.""",
    cure="Add a Service that selects the Pod's labels and targets the port by name.",
)
def no_service(world: Manifests, say: Say) -> Iterator[Finding]:
    routers = (
        o
        for o in world.kinds("Deployment", "StatefulSet")
        for p, _ in pod_specs(o)
        for c in p["containers"]
        if _ROUTER.search(c["image"].text())
    )
    if any(world.kinds(*_ROUTED)) or any(routers):
        return
    for workload in _whole(world):
        if not world.selecting(workload, "Service"):
            yield say(
                workload.obj,
                _name(workload),
                "no Service selects these Pods: no client reaches them by name.",
            )


@rule(
    "network/no-monitor",
    "warning",
    "Nobody scrapes the metrics",
    story="""Prometheus finds vLLM's /metrics through a PodMonitor, a ServiceMonitor or scrape annotations.
    Without one, queries about this engine return nothing: KEDA reads that as 0, HPA shows <unknown>.""",
    cure="Add a PodMonitor on the port named http, path /metrics.",
)
def no_monitor(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in _whole(world):
        annotated = (
            workload.obj.node.at("spec", "template", "metadata", "annotations", "prometheus.io/scrape").text()
            == "true"
        )
        if annotated or world.selecting(workload, "PodMonitor") or any(world.kinds("ServiceMonitor")):
            continue
        prometheus = any("prometheus" in s.node.plain().__repr__() for s in world.scalers(workload))
        if prometheus:
            yield say(
                workload.obj,
                _name(workload),
                "it is scaled on Prometheus metrics, and nothing here makes Prometheus scrape it: "
                "the query returns nothing.",
            )


@rule(
    "network/unnamed-port",
    "note",
    "A port without a name",
    story="""A PodMonitor chooses the container's port by name (by number only since prometheus-operator 0.75), a
    ServiceMonitor the Service's. Without any name neither finds it, and every probe and Service repeats the number.""",
    cure="Name it: {name: http, containerPort: 8000}.",
    fixable=True,
)
def unnamed_port(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        if workload.obj.kind == "InferenceService":
            continue  # Knative gives port names a meaning of its own
        if _scraped_otherwise(world, workload):
            continue
        for port in workload.engine.node["ports"]:
            if not port["name"] and len(workload.engine.node["ports"].elements or []) == 1:
                yield say(
                    workload.obj,
                    port,
                    "a PodMonitor chooses ports by name, and this one has none.",
                    edits=patch.add_key(port, ["name: http"]),
                )


def _scraped_otherwise(world: Manifests, workload: Workload) -> bool:
    """Whether annotations, or a Service that names its port, lead Prometheus to the engine."""
    annotations = workload.obj.node.at("spec", "template", "metadata", "annotations")
    services = world.selecting(workload, "Service")
    return annotations["prometheus.io/scrape"].text() == "true" or any(
        port["name"] for service in services for port in service.spec["ports"]
    )


@rule(
    "network/port-nowhere",
    "error",
    "A port that leads nowhere",
    story="""A Service's targetPort or a monitor's port names a port that the selected containers do not
    have: connections are refused, the scrape target does not exist. KServe (and Knative under it) asks and
    routes to the first port of a predictor's container, 8080 where it names none; vLLM listens on 8000 unless
    --port says otherwise.""",
    cure="Use the name of the container's port; in an InferenceService name vLLM's port, or set --port=8080.",
)
def port_nowhere(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from _ingress_ports(world, say)
    for workload in world.whole_servers:
        ports = [
            p for c in [*workload.pod["containers"], *workload.pod["initContainers"]] for p in c["ports"]
        ]
        names = {p["name"].text() for p in ports if p["name"]}
        listens = workload.engine.command.value("--port") or "8000"
        sure = listens_alone(workload, workload.engine)
        asked = _kserve_port(workload)
        if sure and listens.isdigit() and asked is not None and asked.text("8080") != listens:
            yield say(
                workload.obj,
                asked,
                f"KServe asks and routes to {asked.text() or '8080, as the container names no port'}; "
                f"vLLM listens on {listens}: the predictor never gets ready.",
            )
        for service in world.selecting(workload, "Service"):
            for port in service.spec["ports"]:
                target = port["targetPort"] or port["port"]
                text = target.text()
                if text and not text.isdigit() and text not in names:
                    yield say(
                        service,
                        target,
                        f"the containers name no port {text!r}: connections to the Service are refused.",
                    )
                elif (
                    text.isdigit()
                    and sure
                    and listens.isdigit()
                    and text != listens
                    and text not in {p["containerPort"].text() for p in ports}
                ):
                    yield say(
                        service,
                        target,
                        f"nothing listens on {text} (vLLM on {listens}): connections to the Service are refused.",
                    )
        for monitor in world.selecting(workload, "PodMonitor"):
            for endpoint in monitor.spec["podMetricsEndpoints"]:
                name = endpoint["port"]
                if name and name.text() not in names:
                    yield say(
                        monitor,
                        name,
                        f"the containers name no port {name.text()!r}: Prometheus gets no target and says nothing.",
                    )


def _ingress_ports(world: Manifests, say: Say) -> Iterator[Finding]:
    """Backends of Ingresses on ports that their Service, which is in sight, does not have."""
    services = {(o.namespace, o.name): o for o in world.kinds("Service")}
    for ingress in world.kinds("Ingress"):
        paths = [path for r in ingress.spec["rules"] for path in r.at("http", "paths")]
        for backend in (p.at("backend", "service") for p in paths):
            service = services.get((ingress.namespace, backend["name"].text()))
            number, name = backend.at("port", "number"), backend.at("port", "name")
            if service is None or not service.spec["ports"]:
                continue
            has = {p[key].text() for p in service.spec["ports"] for key in ("port", "name")}
            for node in (number, name):
                if node and "{" not in node.text() and node.text() not in has:
                    text = f"{service.shown} has no port {node.text()}: the Ingress answers 502 or 503."
                    yield say(ingress, node, text, f"Use {service.spec['ports'][0]['port'].text()}.")


@rule(
    "network/only-localhost",
    "error",
    "vLLM listens to its own Pod only",
    story="""With --host 127.0.0.1 (or localhost) vLLM answers inside its Pod and nowhere else: the kubelet's
    probes ask the Pod's address and are refused, and so is every Service. Not said where another container of
    the Pod may pass requests on.""",
    cure="Remove --host, or write --host=0.0.0.0.",
)
def only_localhost(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        option = workload.engine.command.option("--host")
        if option is None or option.value not in ("127.0.0.1", "localhost", "::1"):
            continue
        if listens_alone(workload, workload.engine):
            text = f"vLLM listens on {option.value}: probes and Services get connection refused."
            yield say(workload.obj, option.value_node, text)


def _kserve_port(workload: Workload) -> YamlNode | None:
    """The port of a predictor's own container that KServe asks; missing where it takes 8080. None: not such a one."""
    if workload.obj.kind != "InferenceService" or not workload.obj.api.startswith("serving.kserve.io/"):
        return None
    return workload.engine.node["ports"][0]["containerPort"]


@rule(
    "network/selects-nothing",
    "error",
    "Selects no Pod",
    story="""A selector with another value than the Pods' label fits nothing: a Service has no endpoints, a
    budget protects nobody, a monitor scrapes nothing, all without an error. Reported when the only vLLM
    workload of the namespace carries the same label key with another value.""",
    cure="Make the selector and the Pod's labels agree.",
)
def selects_nothing(world: Manifests, say: Say) -> Iterator[Finding]:
    yield from _monitors(world, say)
    yield from _other_namespace(world, say)
    for obj in world.kinds("Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
        mates = [w for w in world.workloads if w.obj.namespace == obj.namespace and not w.partial]
        if len(mates) != 1 or any(obj in world.selecting(w, obj.kind) for w in mates) or _others(world, obj):
            continue
        wanted = (
            obj.spec["selector"]
            if obj.kind == "Service"
            else obj.spec["podSelector" if obj.kind == "NetworkPolicy" else "selector"]["matchLabels"]
        )
        for key, node in wanted.items():
            has = mates[0].labels.get(key)
            if has is not None and has != node.text():
                yield say(
                    obj,
                    node,
                    f"{key}={node.text()} selects no Pod here; {mates[0].obj.shown} has {key}={has}.",
                )


def _other_namespace(world: Manifests, say: Say) -> Iterator[Finding]:
    """Services whose labels fit the Pods of another namespace, and none of their own."""
    for service in world.kinds("Service"):
        wanted = {k: v.text() for k, v in service.spec["selector"].items()}
        fit = [w for w in world.workloads if wanted and all(w.labels.get(k) == v for k, v in wanted.items())]
        spaces = {w.obj.namespace for w in fit}
        written = service.node.at("metadata", "namespace")
        both = written and all(w.obj.node.at("metadata", "namespace") for w in fit)
        if len(spaces) == 1 and both and service.namespace not in spaces and not _others(world, service):
            if any("{" in s or "$" in s for s in (*spaces, service.namespace)):
                continue
            text = f"the Pods that it selects are in namespace {next(iter(spaces))}, and it in {service.namespace}: "
            yield say(
                service,
                written or service.spec["selector"],
                text + "no endpoints.",
                "Write it into their namespace.",
            )


def _monitors(world: Manifests, say: Say) -> Iterator[Finding]:
    """ServiceMonitors that ask Services for the labels which only the Pods have."""
    for obj in world.kinds("ServiceMonitor"):
        wanted = obj.spec.at("selector", "matchLabels")
        if obj.spec["namespaceSelector"] or not wanted.entries:
            continue
        near = [o for o in world.kinds("Service") if o.namespace == obj.namespace]
        own = [o.node.at("metadata", "labels") for o in near]
        if any(all(has and has[k].text() == v.text() for k, v in wanted.items()) for has in own):
            continue
        for workload in world.workloads:
            pods = all(workload.labels.get(k) == v.text() for k, v in wanted.items())
            services = world.selecting(workload, "Service")
            if pods and services and workload.obj.namespace == obj.namespace:
                text = f"a ServiceMonitor selects Services by their own labels, and {services[0].shown} has not these: "
                yield say(
                    obj,
                    wanted,
                    text + "Prometheus scrapes nothing.",
                    "Put the labels under the Service's metadata.labels too.",
                )
                break


def _others(world: Manifests, obj: Obj) -> bool:
    """True when other workloads of the namespace are in sight: the selector may be meant for one of them."""
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod")
    return sum(o.namespace == obj.namespace for o in world.kinds(*kinds)) > 1


@rule(
    "network/no-policy",
    "note",
    "Every Pod of the cluster can reach the engine",
    story="""--api-key guards /v1, /v2 and /inference; /invocations (real inference), /metrics and the admin
    routes answer without it. Without a NetworkPolicy every Pod of the cluster reaches them, and the engine
    itself reaches everything.""",
    cure="Add a NetworkPolicy: only the gateway reaches the engine's port, the engine reaches DNS only.",
)
def no_policy(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in _whole(world):
        if not world.selecting(workload, "NetworkPolicy"):
            yield say(
                workload.obj,
                _name(workload),
                "any Pod of the cluster can use the model and its admin routes past the gateway.",
            )


@rule(
    "network/exposed",
    "warning",
    "The engine itself faces the outside",
    story="""A LoadBalancer, NodePort or Ingress straight to vLLM gives clients /metrics, /invocations
    (without the API key) and no retries, no fair queue, no drain.""",
    cure="Expose the gateway; keep the engine's Service of type ClusterIP.",
)
def exposed(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        for service in world.selecting(workload, "Service"):
            kind = service.spec["type"]
            if kind.text() in ("LoadBalancer", "NodePort"):
                yield say(
                    service,
                    kind,
                    f"{kind.text()} straight to vLLM: /invocations answers without the API key, and a "
                    "stopped replica's clients get errors.",
                )
            for entry, backend in _entries(world, service):
                yield say(
                    entry,
                    backend,
                    f"{entry.kind} straight to vLLM: /invocations and /metrics answer without the API key, and a "
                    "stopped replica's clients get errors.",
                )


def _entries(world: Manifests, service: Obj) -> Iterator[tuple[Obj, YamlNode]]:
    """(Ingress or OpenShift Route, the name in it) of what leads from outside to the Service."""
    for entry in world.kinds("Ingress", "Route"):
        if entry.namespace != service.namespace:
            continue
        if entry.kind == "Route":
            backends = [entry.spec.at("to", "name")]
        else:
            paths = [path for r in entry.spec["rules"] for path in r.at("http", "paths")]
            backends = [p.at("backend", "service", "name") for p in paths]
            backends.append(entry.spec.at("defaultBackend", "service", "name"))
        node = next((b for b in backends if b and b.text() == service.name), None)
        if node is not None:
            yield entry, node


@rule(
    "network/namespace-missing",
    "note",
    "The namespace is not created here",
    story="""`kubectl apply` refuses objects of a namespace that does not exist. Reported when several
    objects of one namespace are in sight and none creates it.""",
    cure="Add a Namespace (with Pod Security labels), or create it first.",
)
def namespace_missing(world: Manifests, say: Say) -> Iterator[Finding]:
    made = {o.name for o in world.kinds("Namespace")}
    for workload in _whole(world):
        node = workload.obj.node.at("metadata", "namespace")
        if node and node.text() not in made | {"default"}:
            yield say(
                workload.obj,
                node,
                f"nothing here creates the namespace {node.text()}: a first `kubectl apply` fails.",
            )
