"""Why a Pod is not placed: the scheduler's message, read against the nodes. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.capacity import in_a_gang, no_machine
from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, Object, condition, items, name_of, part, shown
from seawall.diagnose.fitting import fits_selector, gpus_asked, untolerated


def pending(facts: Facts) -> Iterator[tuple[Object, str, str]]:
    """(Pod, scheduler's message, evidence) of Pods that are not placed."""
    for pod in facts.pods:
        if part(pod, "spec").get("nodeName") or part(pod, "status").get("phase") not in (None, "Pending"):
            continue
        event = next(facts.events_of(pod, "FailedScheduling", "Unschedulable"), None)
        scheduled = condition(pod, "PodScheduled")
        message = str((event or {}).get("message") or scheduled.get("message") or "")
        if message and (event or scheduled.get("status") == "False"):
            yield pod, message, shown(event) if event else f"PodScheduled=False: {message[:240]}"


@rule
def not_placed(facts: Facts) -> Iterator[Cause]:
    """Splits `0/12 nodes are available: ...` into its parts and names the one that keeps the GPU nodes away."""
    for pod, message, evidence in pending(facts):
        resource, wanted = gpus_asked(pod)
        gpu_nodes = [n for n in facts.nodes if _capacity(n, resource)]
        subject = f"Pod/{name_of(pod)}"
        yield from _volume(message, subject, evidence)
        waits = no_machine(facts, message, subject, evidence)
        if waits is not None:
            yield waits
            continue
        if facts.nodes and wanted and not gpu_nodes:
            yield Cause(
                id="scheduling/no-gpu-nodes",
                certainty="certain",
                subject=subject,
                weight=100,
                what=f"no node offers {resource}: the device plugin does not run there, or there is no GPU node",
                evidence=(evidence, f"{len(facts.nodes)} nodes, none with {resource} in its capacity"),
                do="kubectl get nodes -o custom-columns=N:.metadata.name,G:.status.allocatable; on a GPU "
                "node: nvidia-smi, NVIDIA's "
                "runtime (nvidia-ctk runtime configure), the device plugin's log; then seawall doctor",
            )
            continue
        yield from _obstacle(facts, pod, gpu_nodes if wanted else facts.nodes, message, evidence)


_OTHER_SCHEDULERS = re.compile(
    r"didn't have enough resources?: GPUs?|insufficient (?:gpu|nvidia\.com/gpu)", re.I
)
"""How KAI and Volcano say that no node has the GPUs."""


def _obstacle(facts: Facts, pod: Object, nodes: list[Object], message: str, evidence: str) -> Iterator[Cause]:
    """The first obstacle on the scheduler's way: labels, cordons, taints, free GPUs, then the rest of the node.
    `nodes`: those with GPUs for a Pod that wants some, else all."""
    resource, _ = gpus_asked(pod)
    fitting = [n for n in nodes if fits_selector(pod, n)[0]]
    tainted = [(n, t) for n in fitting if (t := untolerated(pod, n))]
    if re.search(r"in gang unschedulable|pod group is not ready|queue resource quota insufficient", message):
        yield in_a_gang(pod, message, evidence)
    elif re.search(r"didn't match (Pod's )?node (affinity|selector)", message) and not fitting:
        yield _no_label(pod, nodes, evidence)
    elif "were unschedulable" in message and all(part(n, "spec").get("unschedulable") for n in fitting):
        yield _cordoned(pod, fitting, evidence)
    elif re.search(r"untolerated taint|had taint", message) and len(tainted) == len(fitting):
        yield _tainted(pod, nodes, tainted, message, evidence)
    elif _kept_apart(message, resource, len(facts.nodes) - len(nodes)):
        return  # told by the rule of affinities
    elif f"Insufficient {resource}" in message or _OTHER_SCHEDULERS.search(message):
        yield from _no_gpu(facts, pod, nodes, fitting, evidence)
    else:
        yield from _host_is_full(pod, message, evidence)


def _kept_apart(message: str, resource: str, without: int) -> bool:
    """Whether affinities keep the GPU nodes away: those that lack GPUs are just the ones that offer none."""
    lacking = re.search(rf"(\d+) Insufficient {re.escape(resource)}", message)
    apart = re.search(r"didn't (?:match|satisfy existing) pods? (?:anti-)?affinity|topology spread", message)
    return bool(apart and lacking and 0 < int(lacking[1]) <= without)


def _kind(pod: Object) -> str:
    return "GPU node" if gpus_asked(pod)[1] else "node"


def _where(pod: Object, nodes: list[Object]) -> str:
    return f"{len(nodes)} {_kind(pod)}{'s' * (len(nodes) != 1)}" if nodes else "the nodes"


def _cordoned(pod: Object, nodes: list[Object], evidence: str) -> Cause:
    names = ", ".join(name_of(n) for n in nodes[:4]) or "NODE"
    return Cause(
        id="scheduling/cordoned",
        certainty="certain" if nodes else "likely",
        subject=f"Pod/{name_of(pod)}",
        weight=95,
        what=f"every {_kind(pod)} that fits is cordoned: it takes no new Pods",
        evidence=(evidence, f"spec.unschedulable: {names}" if nodes else "the scheduler's message"),
        do=f"is a drain or an upgrade under way? kubectl uncordon {names.split(',')[0]}, or add a node",
    )


def _no_label(pod: Object, nodes: list[Object], evidence: str) -> Cause:
    lacking = fits_selector(pod, nodes[0])[1] if nodes else _demand(pod)
    return Cause(
        id="scheduling/label",
        certainty="certain" if nodes else "likely",
        subject=f"Pod/{name_of(pod)}",
        weight=95,
        what=f"no node carries the label that the Pod demands: {lacking}",
        evidence=(evidence, f"{_where(pod, nodes)}: none has it" if nodes else "node affinity of the Pod"),
        do=f"kubectl get nodes --show-labels | grep {lacking.split('=')[0].split(' ')[0]}; use "
        "nvidia.com/gpu.product (GPU feature discovery) instead of labels set by hand",
    )


def _tainted(
    pod: Object, nodes: list[Object], tainted: list[tuple[Object, Object]], message: str, evidence: str
) -> Cause:
    taint = tainted[0][1] if tainted else _taint_of(message)
    said = f"{taint.get('key')}{'=' + str(taint['value']) if taint.get('value') else ''}"
    own = [t for t in items(pod, "spec", "tolerations") if not _of_condition(t)]
    tolerates = ", ".join(str(t.get("key") or "everything") for t in own) or "none of them"
    return Cause(
        id="scheduling/node-condition" if _of_condition(taint) else "scheduling/taint",
        certainty="certain" if tainted else "likely",
        subject=f"Pod/{name_of(pod)}",
        weight=95,
        what=f"every {_kind(pod)} that fits carries the taint {said}, and the Pod tolerates {tolerates}",
        evidence=(
            evidence,
            f"{len(tainted)} of {_where(pod, nodes)} tainted" if tainted else "the scheduler's message",
        ),
        do=f"kubectl describe node {name_of(tainted[0][0]) if tainted else 'NODE'} (Conditions)"
        if _of_condition(taint)
        else f"add tolerations: [{{key: {taint.get('key')}, operator: Exists}}] (seawall render does)",
    )


def _of_condition(taint: Object) -> bool:
    """Kubernetes' own, set by the node's state."""
    return str(taint.get("key")).startswith("node.kubernetes.io/")


def _no_gpu(
    facts: Facts, pod: Object, nodes: list[Object], fitting: list[Object], evidence: str
) -> Iterator[Cause]:
    resource, wanted = gpus_asked(pod)
    largest = max((_capacity(n, resource) for n in fitting), default=0)
    if fitting and largest < wanted:
        yield Cause(
            id="scheduling/node-too-small",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=95,
            what=f"the Pod asks for {wanted} {resource} and the largest node that fits has {largest}",
            evidence=(evidence,),
            do="use fewer GPUs per replica (seawall plan), larger nodes, or a multi-node split",
        )
    elif not _surging(facts, pod):  # else it is told by the rollout's rule
        closed = [name_of(n) for n in fitting if part(n, "spec").get("unschedulable")]
        opened = f"kubectl uncordon {closed[0]} when its drain is over; " if closed else ""
        yield Cause(
            id="scheduling/no-free-gpu",
            certainty="certain" if nodes else "likely",
            subject=f"Pod/{name_of(pod)}",
            weight=90,
            what=f"all GPUs are taken: the Pod needs {wanted} free {resource} on one node"
            if nodes
            else f"no node has {wanted} free {resource}: they are taken, or no node offers any (none could be read)",
            evidence=(
                evidence,
                f"{_where(pod, nodes)} in sight" if nodes else "no node in sight",
                *([f"cordoned, so that they count as full: {', '.join(closed[:4])}"] if closed else []),
            ),
            do=f"{opened}kubectl get pods -A -o wide --field-selector spec.nodeName=NODE; grow the GPU pool "
            "or lower scaling.max" + _not_scaled(facts, resource),
        )


def _not_scaled(facts: Facts, resource: str) -> str:
    """What the cluster autoscaler has to know where it believes that a new node would lack the GPUs, too."""
    refuses = any(
        e.get("reason") == "NotTriggerScaleUp" and f"Insufficient {resource}" in str(e.get("message") or "")
        for e in facts.events
    )
    return (
        "; the autoscaler believes that a new node has none: a group with no node has to say what it would have "
        "(AWS: the "
        f"tag k8s.io/cluster-autoscaler/node-template/resources/{resource}; GPUs that are shared or cut count "
        f"otherwise)"
        if refuses
        else ""
    )


_ACCELERATOR = re.compile(r"/(?:gpu|mig-|tpu|gaudi|neuron|shared)")
"""Resources that are told of as GPUs."""


def _host_is_full(pod: Object, message: str, evidence: str) -> Iterator[Cause]:
    for resource, said in (
        ("cpu", r"Insufficient cpu\b"),
        ("memory", r"Insufficient memory\b"),
        ("ephemeral-storage", r"Insufficient ephemeral-storage\b"),
        ("pods", r"Insufficient pods\b|Too many pods"),
    ):
        if re.search(said, message):
            yield Cause(
                id="scheduling/no-host-resources",
                certainty="certain",
                subject=f"Pod/{name_of(pod)}",
                weight=85,
                what=f"the {_kind(pod)}s have too little {resource} left for the Pod's request",
                evidence=(evidence,),
                do="lower the Pod's requests (140Gi of memory are not needed to load a 140 GB model), "
                "or use larger or more nodes",
            )
            return
    lacking = re.search(r"Insufficient ([\w.-]+/[\w.-]*\w|hugepages-\w+)", message)
    if lacking and not _ACCELERATOR.search(lacking[1]):
        yield Cause(
            id="scheduling/no-host-resources",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=85,
            what=f"no node has as much {lacking[1]} free as the Pod asks for, or offers any",
            evidence=(evidence,),
            do="kubectl describe nodes | grep -A12 Allocatable; does what offers it run there (device plugin, "
            "hugepages of the kernel)? Else ask for less or leave it out",
        )


def _volume(message: str, subject: str, evidence: str) -> Iterator[Cause]:
    if re.search(
        r"volume node affinity conflict|no available volume zone|didn't match PersistentVolume's node affinity",
        message,
    ):
        yield Cause(
            id="scheduling/volume-zone",
            certainty="certain",
            subject=subject,
            weight=95,
            what="the volume lies in another zone than the nodes that fit",
            evidence=(evidence,),
            do="volumeBindingMode: WaitForFirstConsumer, a regional or file storage class, or nodes "
            "in the volume's zone",
        )
    elif re.search(
        r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim \"[^\"]+\" not found", message
    ):
        yield Cause(
            id="storage/claim-unbound",
            certainty="certain",
            subject=subject,
            weight=80,
            what="the Pod waits for a claim that is not bound or does not exist",
            evidence=(evidence,),
            do="kubectl get pvc; kubectl describe pvc NAME (is there a default StorageClass?)",
        )


def _demand(pod: Object) -> str:
    return fits_selector(pod, {"metadata": {"labels": {}}})[1]


def _taint_of(message: str) -> Object:
    m = re.search(r"(?:untolerated|had) taint(?:\(s\))? \{([^:}]+): ?([^}]*)\}", message)
    return {"key": m[1], "value": m[2]} if m else {"key": "(see the message)"}


def _capacity(node: Object, resource: str) -> int:
    value = (
        part(node, "status", "allocatable").get(resource)
        or part(node, "status", "capacity").get(resource)
        or 0
    )
    return int(value) if str(value).isdigit() else 0


def _surging(facts: Facts, pod: Object) -> bool:
    """The Pod is the surge Pod of a rollout: its ReplicaSet is new and an older one still has Pods."""
    owner = next(
        (o.get("name") for o in items(pod, "metadata", "ownerReferences") if o.get("kind") == "ReplicaSet"),
        None,
    )
    sets = [r for r in facts.replicasets if part(r, "status").get("replicas")]
    mine = next((r for r in sets if name_of(r) == owner), None)
    if mine is None:
        return False
    parent = [o.get("name") for o in items(mine, "metadata", "ownerReferences")]
    return any(
        r is not mine and [o.get("name") for o in items(r, "metadata", "ownerReferences")] == parent
        for r in sets
    )
