"""Rules about what stands around an engine: buckets' sidecars, pickers' ports, routers' rights, quantities, low ports.

Each says what a thread ended with: everything was healthy, and nothing worked. Forbidden here: rules about vLLM itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj, Workload
from seawall.lint.world import Manifests

_FUSE = "gcsfuse.csi.storage.gke.io"
_FUSE_MARK = "gke-gcsfuse/volumes"


@rule(
    "storage/no-fuse-sidecar",
    "error",
    "A bucket's volume without the mark that mounts it",
    story="""GKE mounts a bucket through a sidecar that a webhook adds to Pods with the annotation
    gke-gcsfuse/volumes: "true", and to no other. Without it the volume is never mounted: `failed to find the sidecar
    container in Pod spec`, or a PermissionDenied that names a right which the account has.""",
    cure='Annotate the Pod template: gke-gcsfuse/volumes: "true".',
)
def no_fuse_sidecar(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for volume in workload.pod["volumes"]:
            if volume.at("csi", "driver").text() != _FUSE or _marked(workload):
                continue
            yield say(
                workload.obj,
                volume.at("csi", "driver"),
                f"the Pod has no annotation {_FUSE_MARK}: no sidecar is added, the bucket is never mounted, and the "
                "Pod stays in ContainerCreating.",
            )


def _marked(workload: Workload) -> bool:
    """Whether the annotation is on the Pod's template, or on the object where it becomes the Pod's."""
    root = workload.obj.node
    places = (root.at(*workload.pod.path[:-1], "metadata", "annotations"), root.at("metadata", "annotations"))
    return any(place[_FUSE_MARK].text().lower() == "true" for place in places)


@rule(
    "network/pool-port",
    "error",
    "A pool that asks a port which its Pods do not have",
    story="""An InferencePool sends to targetPorts of the Pods that it selects. Where no engine listens there, the
    endpoint picker drops the Pods without a word: they are Ready, and no request ever reaches them.""",
    cure="Write the port that vLLM listens on (--port, 8000 without it).",
)
def pool_port(world: Manifests, say: Say) -> Iterator[Finding]:
    for pool in world.kinds("InferencePool"):
        asked = pool.spec["targetPorts"][0]["number"] or pool.spec["targetPortNumber"]
        if not asked:
            continue
        numbers = {n["number"].text() for n in pool.spec["targetPorts"]} | {
            pool.spec["targetPortNumber"].text()
        }
        for workload in world.workloads:
            if workload.partial or not _picks(pool, workload):
                continue
            ports = _listens(workload)
            if ports and not numbers & ports:
                yield say(
                    pool,
                    asked,
                    f"it sends to port {asked.text()}, and {workload.obj.shown} listens on {', '.join(sorted(ports))}: "
                    "the picker leaves these Pods out, and no request reaches them.",
                )


def _picks(pool: Obj, workload: Workload) -> bool:
    selector = pool.spec.at("selector", "matchLabels") or pool.spec["selector"]
    wanted = {k: v.text() for k, v in selector.items()}
    near = pool.namespace == workload.obj.namespace
    return near and bool(wanted) and all(workload.labels.get(k) == v for k, v in wanted.items())


def _listens(workload: Workload) -> set[str]:
    """Ports that anything in the Pod listens on: a proxy beside vLLM has one of its own."""
    containers = [*workload.pod["containers"], *workload.pod["initContainers"]]
    named = {p["containerPort"].text() for c in containers for p in c["ports"]}
    return {n for n in named | {workload.engine.command.value("--port") or "8000"} if n.isdigit()}


_DISCOVERS = re.compile(r"(?:lmstack-router|production-stack-router|vllm-router|sglang-router)", re.I)


@rule(
    "security/router-rights",
    "error",
    "A router that may not look for its Pods",
    story="""A router with Kubernetes discovery lists and watches Pods as its service account. Without a Role that
    lets it (get, list, watch on pods) it finds none, is Ready all the same, and answers every request with an error;
    its log says `pods is forbidden`.""",
    cure="Give the account a Role with get, list and watch on pods, and a RoleBinding in that namespace.",
)
def router_rights(world: Manifests, say: Say) -> Iterator[Finding]:
    roles = list(world.kinds("Role", "ClusterRole"))
    for obj in world.kinds("Deployment", "StatefulSet"):
        for pod, _ in pod_specs(obj):
            for container in pod["containers"]:
                args = [a.text() for a in [*container["command"], *container["args"]]]
                if not _DISCOVERS.search(container["image"].text()) or not _by_kubernetes(args):
                    continue
                account = pod["serviceAccountName"].text() or "default"
                bound = _bound(world, obj.namespace, account)
                mine = [r for r in roles if r.name in bound]
                if mine and not any(_lists_pods(r) for r in mine):
                    yield say(
                        obj,
                        pod["serviceAccountName"],
                        f"the router looks for Pods as {account}, whose role {', '.join(r.name for r in mine)} does "
                        "not let it list and watch them: it finds no engine.",
                    )


def _by_kubernetes(args: list[str]) -> bool:
    text = " ".join(args)
    return bool(
        re.search(r"--service-discovery[= ]+k8s(?:_pod_ip)?(?!\w)|--service-discovery(?: --|$)", text)
    )


def _bound(world: Manifests, namespace: str, account: str) -> set[str]:
    """Names of the roles that bindings in sight give to an account."""
    return {
        binding.node.at("roleRef", "name").text()
        for binding in world.kinds("RoleBinding", "ClusterRoleBinding")
        for subject in binding.node["subjects"]
        if subject["name"].text() == account and subject["namespace"].text(namespace) == namespace
    }


def _lists_pods(role: Obj) -> bool:
    def has(node: YamlNode, *wanted: str) -> bool:
        named = {n.text() for n in node}
        return "*" in named or set(wanted) <= named

    return any(
        has(entry["resources"], "pods") and has(entry["verbs"], "list", "watch")
        for entry in role.node["rules"]
    )


@rule(
    "autoscale/not-a-resource",
    "error",
    "An HPA on a resource that nobody measures",
    story="""The resource metrics API knows the use of CPU and memory, and nothing else: an HPA of type Resource on
    nvidia.com/gpu stays at `unable to get metrics for resource`, shows <unknown> and never scales. What a GPU does
    comes from DCGM, what an engine does from vLLM, both through Prometheus.""",
    cure="Scale by vLLM's own queue (KEDA or an adapter: vllm:num_requests_waiting), or by an External metric.",
)
def not_a_resource(world: Manifests, say: Say) -> Iterator[Finding]:
    for hpa in world.kinds("HorizontalPodAutoscaler"):
        for metric in hpa.spec["metrics"]:
            for block in ("resource", "containerResource"):
                name = metric.at(block, "name")
                if name and name.text() not in ("cpu", "memory"):
                    yield say(
                        hpa,
                        name,
                        f"the resource metrics API has no use of {name.text()}: the HPA shows <unknown> and scales "
                        "nothing.",
                    )


@rule(
    "resources/milli-bytes",
    "error",
    "Memory in thousandths of a byte",
    story="""`m` is a thousandth: 512m is right for CPU, and of memory half a byte. A limit of 40000m is 40 bytes:
    the runtime refuses to make the container (`memory limit too low`), or a request above it is refused at once.""",
    cure="Write Mi or Gi.",
)
def milli_bytes(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for pod, _ in () if obj.fragment else pod_specs(obj):
            for container in [*pod["containers"], *pod["initContainers"]]:
                for block in ("limits", "requests"):
                    for name in ("memory", "ephemeral-storage"):
                        value = container.at("resources", block, name)
                        if re.fullmatch(r"[\d.]+m", value.text()):
                            yield say(
                                obj,
                                value,
                                f"{value.text()} of {name} are thousandths of a byte: no container starts with that.",
                            )


@rule(
    "command/low-port",
    "warning",
    "A port that a user without rights may not have",
    story="""Ports below 1024 belong to root unless the node's runtime opens them (containerd's
    enable_unprivileged_ports: off before containerd 2, on in many images). Where it does not, vLLM ends at once:
    `error while attempting to bind on address ('0.0.0.0', 80): permission denied`.""",
    cure="Let vLLM listen on 8000; the Service may still have port 80.",
)
def low_port(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            port = engine.command.value("--port") or ""
            if not port.isdigit() or not 0 < int(port) < 1024 or not _plain_user(workload.pod, engine.node):
                continue
            yield say(
                workload.obj,
                engine.node["ports"][0]["containerPort"] or engine.node["args"],
                f"vLLM is to listen on port {port} as a user that is not root: where the node's runtime does not open "
                "low ports it ends with `permission denied`.",
            )


def _plain_user(pod: YamlNode, container: YamlNode) -> bool:
    contexts = (container["securityContext"], pod["securityContext"])
    user = next((c["runAsUser"].text() for c in contexts if c["runAsUser"]), "")
    added = [n.text() for n in container.at("securityContext", "capabilities", "add")]
    plain = (user not in ("", "0")) or any(c["runAsNonRoot"].value is True for c in contexts)
    return plain and "NET_BIND_SERVICE" not in added
