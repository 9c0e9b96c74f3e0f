"""Rules about where Pods may run: labels, taints, spread, priority."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.patch import Patcher
from seawall.lint.world import Manifests

# Taints that look like a provider's and are set by none.
_NOBODYS = {
    "node.kubernetes.io/spot": "nobody sets it",
    "node.kubernetes.io/preemptible": "nobody sets it",
    "cloud.google.com/preemptible": "GKE sets it as a label, not as a taint",
    "eks.amazonaws.com/capacityType": "EKS sets it as a label, not as a taint",
    "karpenter.sh/capacity-type": "Karpenter sets it as a label, not as a taint",
    "kubernetes.azure.com/priority": "AKS sets it as a label; the taint is kubernetes.azure.com/scalesetpriority",
    "kubernetes.io/spot": "nobody sets it",
    "node.kubernetes.io/lifecycle": "nobody sets it",
}
_KNOWN_LABELS = re.compile(
    r"^(kubernetes\.io|beta\.kubernetes\.io|node\.kubernetes\.io|topology\.kubernetes\.io|failure-domain\.beta\.kubernetes\.io|node-role\.kubernetes\.io"
    r"|node-restriction\.kubernetes\.io|nvidia\.com|amd\.com|gpu\.intel\.com|feature\.node\.kubernetes\.io|cloud\.google\.com|eks\.amazonaws\.com"
    r"|k8s\.amazonaws\.com|alpha\.eksctl\.io|karpenter\.sh|karpenter\.k8s\.aws|karpenter\.azure\.com|kubernetes\.azure\.com|agentpool|[\w.-]+\.[a-z]{2,})(/|$)"
)


_KARPENTER = re.compile(
    r"karpenter\.sh/(?!nodepool$|provisioner-name$|capacity-type$|initialized$|registered$|controller$)"
)
"""A label in Karpenter's own domain that Karpenter does not set; what instances are is the provider's domain."""


def _all_pods(world: Manifests) -> Iterator[tuple[Obj, YamlNode]]:
    """PodSpecs of vLLM workloads, and snippets that were joined to none."""
    for workload in world.workloads:
        yield workload.obj, workload.pod
    for obj in world.objects:
        if obj.fragment and not any(w.obj is obj for w in world.workloads):
            for pod, _ in pod_specs(obj):
                yield obj, pod


_POOLS = re.compile(
    r"NodePool|NodeGroup|Provisioner|ClusterConfig|MachineDeployment|MachinePool|ResourceFlavor|MachineSet"
)


def _made_here(world: Manifests) -> set[str]:
    """Label and taint keys that node pools in the same files set."""
    cached: set[str] | None = world.cache.get("pool keys")
    if cached is None:
        cached = set()
        for obj in world.objects:
            if not _POOLS.search(obj.kind):
                continue
            stack = [obj.node]
            while stack:
                node = stack.pop()
                cached |= set(node["labels"].entries or {}) | set(node["nodeLabels"].entries or {})
                cached |= {t["key"].text() for t in node["taints"]}
                stack += [*node, *(n for _, n in node.items())]
        world.cache["pool keys"] = cached
    return cached


@rule(
    "spot/unknown-taint",
    "warning",
    "Tolerates a taint that no cloud sets",
    story="""EKS and Karpenter do not taint spot nodes at all; GKE Autopilot taints
    cloud.google.com/gke-spot by itself, Standard only if you add it; AKS taints
    kubernetes.azure.com/scalesetpriority=spot:NoSchedule. node.kubernetes.io/spot and .../preemptible are
    set by nobody: the Pod stays off AKS's spot nodes, and on the others the toleration does nothing.""",
    cure="GKE: cloud.google.com/gke-spot; AKS: kubernetes.azure.com/scalesetpriority=spot; "
    "EKS, Karpenter: the label, no toleration.",
)
def unknown_taint(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj, pod in _all_pods(world):
        for toleration in pod["tolerations"]:
            key = toleration["key"]
            if key.text() in _NOBODYS and key.text() not in _made_here(world):
                yield say(
                    obj,
                    key,
                    f"no cloud sets the taint {key.text()} ({_NOBODYS[key.text()]}): where a spot pool is tainted, "
                    "it carries another and the Pod stays Pending.",
                )


@rule(
    "scheduling/hand-label",
    "note",
    "Placed by a label that somebody has to set by hand",
    story="""A label that was set with `kubectl label node` is gone when the node is replaced, and an
    autoscaled node never has it: the Pod stays Pending with `didn't match Pod's node affinity/selector`
    (not "Insufficient nvidia.com/gpu"), and the autoscaler sees no pool that would help. GPU feature
    discovery sets nvidia.com/gpu.product, .memory and .count by itself.""",
    cure="Use nvidia.com/gpu.product (GPU feature discovery) or the cloud's own label.",
)
def hand_label(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj, pod in _all_pods(world):
        keys: list[YamlNode] = []
        for term in pod.at(
            "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
        ):
            keys += [e["key"] for e in term["matchExpressions"]]
        for key, node in pod["nodeSelector"].items():
            keys.append(YamlNode(node.path, pod["nodeSelector"].key_spans[key], node.file, value=key))
        for node in keys:
            if _KARPENTER.match(node.text()):
                yield say(
                    obj,
                    node,
                    f"Karpenter sets no label {node.text()}: no node will ever have it, and the Pod stays Pending.",
                    "Write the provider's: karpenter.k8s.aws/instance-family (-size, -gpu-name, -gpu-count) on AWS, "
                    "karpenter.azure.com/sku-family on Azure, or karpenter.sh/nodepool.",
                    severity="warning",
                )
            elif not _KNOWN_LABELS.match(node.text()) and node.text() not in _made_here(world):
                yield say(
                    obj,
                    node,
                    f"neither a cloud nor a device plugin sets the label {node.text()}: unless the node pool does, "
                    "new and replaced nodes lack it, and the Pod stays Pending.",
                )


@rule(
    "scheduling/no-gpu-toleration",
    "note",
    "No toleration for tainted GPU nodes",
    story="""GPU pools usually carry a taint so that other Pods stay away: nvidia.com/gpu=present on GKE
    (which adds the toleration itself to Pods that ask for GPUs), amd.com/gpu for AMD's, sku=gpu in AKS's
    docs, whatever the NodePool says on Karpenter. Without a toleration the Pod stays Pending with
    `untolerated taint`.""",
    cure="Tolerate the taint that carries the resource's name, e.g. {key: nvidia.com/gpu, operator: Exists}.",
    fixable=True,
)
def no_gpu_toleration(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        vendor = workload.engine.vendor
        taint = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "gpu.intel.com"}.get(vendor)
        if not workload.engine.gpus[0] or workload.multi_node or taint is None:
            continue
        keys = {t["key"].text() for t in workload.pod["tolerations"]}
        on_gke = any(k.startswith("cloud.google.com/") for k in workload.pod["nodeSelector"].entries or {})
        if not on_gke and not any(k in ("", "sku", "dedicated") or vendor in k or "gpu" in k for k in keys):
            lines = ["tolerations:", f"- key: {taint}", "  operator: Exists", "  effect: NoSchedule"]
            if vendor == "intel":
                lines = []
            edits = () if workload.pod["tolerations"] or not lines else patch.add_key(workload.pod, lines)
            yield say(
                workload.obj,
                workload.pod["tolerations"],
                "on a tainted GPU pool the Pod stays Pending (`untolerated taint`).",
                edits=edits,
            )


@rule(
    "scheduling/no-spread",
    "note",
    "Nothing spreads the replicas",
    story="""The scheduler may put all replicas on one node or in one zone; losing it is an outage.""",
    cure="Add topologySpreadConstraints over kubernetes.io/hostname and "
    "topology.kubernetes.io/zone (ScheduleAnyway).",
)
def no_spread(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        pod = workload.pod
        many = world.min_replicas(workload) > 1 or world.scalers(workload)
        if (
            many
            and not pod["topologySpreadConstraints"]
            and not pod.at("affinity", "podAntiAffinity")
            and not workload.multi_node
        ):
            yield say(
                workload.obj,
                pod["topologySpreadConstraints"],
                "all replicas may land on one node: its loss is an outage.",
            )


@rule(
    "scheduling/low-priority",
    "warning",
    "Serving Pods with a low priority",
    story="""A lower priority does not protect anything: it is preempted first by any other Pod, and below
    -10 the cluster autoscaler does not add nodes for it. Serving should rank above batch work; spot nodes
    are chosen by labels, not by priority.""",
    cure="Give serving Pods a PriorityClass above batch work.",
)
def low_priority(world: Manifests, say: Say) -> Iterator[Finding]:
    values = {o.name: o for o in world.kinds("PriorityClass")}
    for workload in world.servers:
        node = workload.pod["priorityClassName"]
        known = values.get(node.text())
        value = known.node["value"].number() if known else None
        if known is not None and value is not None and value < 0:
            more = " and the cluster autoscaler adds no node for it" if value < -10 else ""
            yield say(workload.obj, node, f"priority {value:.0f}: these Pods are preempted first{more}.")


@rule(
    "scheduling/one-node",
    "warning",
    "Every replica on one node",
    story="""A selector on kubernetes.io/hostname puts all replicas on one machine: they share its fate, and
    those for which it has no GPU stay Pending.""",
    cure="Select nodes by what they have (nvidia.com/gpu.product), and spread the replicas over them.",
)
def one_node(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        node = workload.pod["nodeSelector"]["kubernetes.io/hostname"] or workload.pod["nodeName"]
        if node and "{" not in node.text() and world.min_replicas(workload) > 1:
            yield say(workload.obj, node, f"all replicas share the node {node.text()}, and its failures.")
