"""Objects fit together: selectors find Pods, ports resolve, what is mounted exists, rights suffice.

A schema cannot see any of this; a cluster would, at night.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from seawall.config.load import parse_fleets
from seawall.decide.plan.bounds import bounded
from seawall.render.inputs import Object, Rendering


def pods(rendering: Rendering) -> Iterator[tuple[str, Object]]:
    """(owner, Pod template) of everything that makes Pods."""
    for obj in rendering.objects:
        spec = obj.get("spec", {})
        if obj["kind"] in ("Deployment", "Job"):
            yield f"{obj['kind']}/{obj['metadata']['name']}", spec["template"]
        if obj["kind"] == "LeaderWorkerSet":
            yield f"LWS leader/{obj['metadata']['name']}", spec["leaderWorkerTemplate"]["leaderTemplate"]
            yield f"LWS worker/{obj['metadata']['name']}", spec["leaderWorkerTemplate"]["workerTemplate"]


def matches(selector: dict[str, str], template: Object) -> bool:
    labels = template["metadata"]["labels"]
    return all(labels.get(k) == v for k, v in selector.items())


def named(rendering: Rendering, kind: str) -> dict[str, Object]:
    return {o["metadata"]["name"]: o for o in rendering.objects if o["kind"] == kind}


def containers(template: Object) -> list[Object]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def ports(template: Object) -> dict[str, int]:
    return {p["name"]: p["containerPort"] for c in containers(template) for p in c.get("ports", [])}


def test_every_selector_finds_pods_and_deployments_do_not_overlap(rendering: Rendering) -> None:
    templates = dict(pods(rendering))
    for obj in rendering.objects:
        spec, kind = obj.get("spec", {}), obj["kind"]
        where = f"{kind}/{obj['metadata']['name']}"
        if kind == "Service":
            found = [t for t in templates.values() if matches(spec["selector"], t)]
        elif kind == "NetworkPolicy":
            found = [t for t in templates.values() if matches(spec["podSelector"]["matchLabels"], t)]
        elif kind in ("PodDisruptionBudget", "PodMonitor", "Deployment", "InferencePool"):
            found = [t for t in templates.values() if matches(spec["selector"]["matchLabels"], t)]
        else:
            continue
        assert found, f"{where} selects nothing"
        if kind == "Deployment":
            assert len(found) == 1, f"{where} would adopt Pods of another workload"


def test_every_port_name_resolves(rendering: Rendering) -> None:
    templates = dict(pods(rendering))
    services = named(rendering, "Service")
    for name, service in services.items():
        found = [t for t in templates.values() if matches(service["spec"]["selector"], t)]
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in ports(t) for t in found), f"Service/{name} {port['targetPort']}"
    for name, monitor in named(rendering, "PodMonitor").items():
        found = [t for t in templates.values() if matches(monitor["spec"]["selector"]["matchLabels"], t)]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert all(endpoint["port"] in ports(t) for t in found), f"PodMonitor/{name} {endpoint['port']}"
    for template in templates.values():
        for container in containers(template):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                get = container.get(probe, {}).get("httpGet")
                assert get is None or get["port"] in ports(template)
    for route in named(rendering, "HTTPRoute").values():
        for rule in route["spec"]["rules"]:
            for ref in rule["backendRefs"]:
                assert ref["port"] in [p["port"] for p in services[ref["name"]]["spec"]["ports"]]
    for ingress in named(rendering, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            backend = rule["http"]["paths"][0]["backend"]["service"]
            assert backend["port"]["name"] in [p["name"] for p in services[backend["name"]]["spec"]["ports"]]


def test_every_reference_exists_or_is_told_to_the_user(rendering: Rendering) -> None:
    maps, claims = named(rendering, "ConfigMap"), named(rendering, "PersistentVolumeClaim")
    accounts, told = named(rendering, "ServiceAccount"), "\n".join(rendering.notes)
    for owner, template in pods(rendering):
        pod = template["spec"]
        own = pod.get("serviceAccountName")  # none: the namespace's, whose token it does not get
        assert own in accounts or (own is None and pod["automountServiceAccountToken"] is False), owner
        volumes = {v["name"]: v for v in pod["volumes"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, owner
            if "persistentVolumeClaim" in volume:
                name = volume["persistentVolumeClaim"]["claimName"]
                assert name in claims or f"/{name}" in told, owner
            if "secret" in volume:
                assert re.search(rf"/{volume['secret']['secretName']}[ :]", told), owner
        mounted = {m["name"] for c in containers(template) for m in c.get("volumeMounts", [])}
        assert mounted == set(volumes), f"{owner}: mounted {mounted}, defined {set(volumes)}"
        for container in containers(template):
            paths = [m["mountPath"] for m in container["volumeMounts"]]
            assert len(set(paths)) == len(paths), owner
            for env in container.get("env", []):
                ref = env.get("valueFrom", {}).get("secretKeyRef")
                assert ref is None or f"/{ref['name']}" in told, owner
            for source in container.get("envFrom", []):
                assert f"/{source['secretRef']['name']}" in told, owner


def test_what_scales_exists_and_has_no_replicas_of_its_own(rendering: Rendering) -> None:
    for obj in rendering.objects:
        if obj["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            ref = obj["spec"]["scaleTargetRef"]
            assert "replicas" not in named(rendering, ref["kind"])[ref["name"]]["spec"], ref


def test_the_gateway_reads_endpoint_slices_and_pods_and_nothing_else(rendering: Rendering) -> None:
    role = named(rendering, "Role")[rendering.group.gateway]
    granted = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert granted == {(r, v) for r in ("endpointslices", "pods") for v in ("get", "list", "watch")}
    binding = named(rendering, "RoleBinding")[rendering.group.gateway]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    gateway = next(
        t
        for owner, t in pods(rendering)
        if t["metadata"]["labels"].get("app.kubernetes.io/name") == "seawall-gateway"
    )
    assert binding["subjects"][0]["name"] == gateway["spec"]["serviceAccountName"]
    assert not named(rendering, "ClusterRole")


def test_the_gateway_reads_back_the_fleets_that_were_rendered_with_the_plans_bounds(
    rendering: Rendering,
) -> None:
    (config,) = [o for n, o in named(rendering, "ConfigMap").items() if n.endswith("-fleets")]
    found = [f for _, text in sorted(config["data"].items()) for f in parse_fleets(text)]
    assert found == sorted((bounded(w.fleet, w.plan) for w in rendering.group.members), key=lambda f: f.name)


def test_only_one_service_lists_the_admin_port(rendering: Rendering) -> None:
    """KEDA sums over endpoints: a second Service would count every request twice."""
    listing = [
        n
        for n, s in named(rendering, "Service").items()
        if any(p["port"] == 9090 for p in s["spec"]["ports"])
    ]
    assert len(listing) == 1


def test_every_pod_is_locked_down(rendering: Rendering) -> None:
    for owner, template in pods(rendering):
        pod = template["spec"]
        assert pod["enableServiceLinks"] is False, owner
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["seccompProfile"]["type"] == "RuntimeDefault", owner
        for container in containers(template):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], owner
            assert own["capabilities"] == {"drop": ["ALL"]}, owner
            assert re.search(r"[:@]", container["image"]) and not container["image"].endswith(":latest")
            assert container["resources"]["limits"].get("memory"), owner
        if "gateway" not in owner:
            assert pod["automountServiceAccountToken"] is False, owner


def test_stopping_has_time_for_what_it_does(rendering: Rendering) -> None:
    """grace > preStop + drain: vLLM hangs its streams when it is killed in a drain."""
    for owner, template in pods(rendering):
        for container in template["spec"]["containers"]:
            args = container.get("args", [])
            if "--shutdown-timeout" not in args:
                continue
            drain = int(args[args.index("--shutdown-timeout") + 1])
            sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert template["spec"]["terminationGracePeriodSeconds"] > sleep + drain, owner


def test_probes_leave_a_start_its_budget(rendering: Rendering) -> None:
    budgets = {w.name: w.plan.startup for w in rendering.group.members}
    for owner, template in pods(rendering):
        fleet = template["metadata"]["labels"].get("seawall.dev/fleet")
        for container in template["spec"]["containers"]:
            probe: Any = container.get("startupProbe")
            if not probe or "exec" not in probe:
                continue
            allowed = probe["periodSeconds"] * probe["failureThreshold"]
            budget = budgets[fleet]
            assert allowed >= 4 * (budget.weights_s + budget.load_s), owner
            timeout = (
                next(e["value"] for e in container["env"] if e["name"] == "VLLM_ENGINE_READY_TIMEOUT_S")
                if (container["command"][0] == "vllm")
                else allowed
            )
            assert int(timeout) >= allowed - probe["periodSeconds"], owner


def test_engines_are_guaranteed_and_gpu_requests_equal_limits(rendering: Rendering) -> None:
    for owner, template in pods(rendering):
        if "gpu" not in str(template["spec"].get("tolerations", "")):
            continue
        for container in containers(template):
            assert container["resources"]["requests"] == container["resources"]["limits"], owner


def test_no_service_takes_the_name_that_leader_worker_set_needs(rendering: Rendering) -> None:
    """It makes a headless Service of its own name that resolves Pods before they are ready; if the name is
    taken, the nodes of a replica never find each other."""
    assert not set(named(rendering, "LeaderWorkerSet")) & set(named(rendering, "Service"))
