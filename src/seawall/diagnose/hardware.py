"""The node's GPUs, drivers and container runtime behind what a log says, and what the node itself reports. Pure rules.

A log names the library that failed; which side is too old, or that a GPU was asked for at all, stands in the node's
labels (GPU feature discovery) and in the Pod's limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, Object, name_of, part, shown
from seawall.engines.vllm.signs import Said

_GPU = re.compile(r"(nvidia\.com/(gpu|mig-.*)|amd\.com/gpu)")


_NO_GPU = "the container sees no GPU"
"""What a log says of no kind of device in particular."""


def refined(facts: Facts, pod: Object, spec: Object, said: Said, cause: Cause) -> Cause:
    """The cause that a log gave, with what the node's labels and the Pod's own limits add."""
    if cause.id in ("gpu/driver-too-old", "gpu/driver-mismatch"):
        return _driver(facts, pod, spec, said, cause)
    if cause.id == "gpu/memory-taken" and said.groups.get("all"):
        return _memory_taken(said, cause)
    if cause.id == "gpu/not-visible":
        return _no_device(pod, spec, cause) if cause.what == _NO_GPU else cause
    return cause


_EMPTY = 0.9
"""The share of its memory that a GPU has free at least when nothing but this process is on it."""


def _memory_taken(said: Said, cause: Cause) -> Cause:
    """More was asked for than an empty GPU has free, or somebody else holds some."""
    free, all_ = float(said.groups["free"]), float(said.groups["all"])
    if all_ <= 0 or free / all_ < _EMPTY:
        return cause
    most = int(free / all_ * 100 - 1) / 100
    return replace(
        cause,
        what=f"--gpu-memory-utilization asks for more than the GPU has free before anything is loaded: {free} of "
        f"{all_} GiB",
        do=f"--gpu-memory-utilization {most} or lower (CUDA's own context and a display take some); a leftover "
        f"process shows "
        "in nvidia-smi on the node",
    )


def _driver(facts: Facts, pod: Object, spec: Object, said: Said, cause: Cause) -> Cause:
    """Which of the two is too old: the node's driver, or the driver library that the image brings along."""
    node = next((n for n in facts.nodes if name_of(n) == part(pod, "spec").get("nodeName")), None)
    driver, can = _driver_of(node) if node else ("", None)
    can = can or _dotted(said.groups.get("found", ""))
    wants = _dotted(said.groups.get("cuda", "")) or _cuda_of(str(spec.get("image") or ""))
    if driver:
        cause = replace(
            cause, evidence=(*cause.evidence, f"node {name_of(node or {})}: driver {driver}" + _up_to(can))
        )
    if can and wants and can < wants:
        have = f"driver {driver}" if driver else "driver"
        return replace(
            cause,
            id="gpu/driver-too-old",
            what=f"the node's NVIDIA {have}{_up_to(can)} is too old for the image's CUDA {_show(wants)}",
            do="update the driver (GPU operator: driver.version), or pin an image for an older CUDA (tags "
            "-cu126, -cu128)",
        )
    if can and wants and driver:
        return replace(
            cause,
            id="gpu/driver-mismatch",
            what=f"the node's driver {driver}{_up_to(can)} is new enough for the image's CUDA {_show(wants)}; the "
            "container "
            "loads another driver library than the node's: an older one that the image brings along (cuda-compat)",
            do="take /usr/local/cuda/compat out of LD_LIBRARY_PATH and put the node's library first "
            "(/usr/local/nvidia/lib64 on GKE); after a driver update reboot the node",
        )
    return cause


def _up_to(version: tuple[int, int] | None) -> str:
    return f" (CUDA {_show(version)} at most)" if version else ""


def _show(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _dotted(text: str) -> tuple[int, int] | None:
    """`12.9` or PyTorch's `12020` -> (12, 2)."""
    m = re.fullmatch(r"(\d+)\.(\d+)(?:\.\d+)?", text)
    if m:
        return int(m[1]), int(m[2])
    return (int(text) // 1000, int(text) % 1000 // 10) if text.isdigit() and len(text) >= 4 else None


def _driver_of(node: Object) -> tuple[str, tuple[int, int] | None]:
    """(driver version, the newest CUDA that it runs) by GPU feature discovery's labels, of new and old names."""
    labels = part(node, "metadata", "labels")

    def label(*names: str) -> str:
        return next((str(labels[f"nvidia.com/{n}"]) for n in names if labels.get(f"nvidia.com/{n}")), "")

    driver = label("cuda.driver-version.full") or ".".join(
        x for x in (label("cuda.driver.major"), label("cuda.driver.minor"), label("cuda.driver.rev")) if x
    )
    major = label("cuda.runtime-version.major", "cuda.runtime.major")
    minor = label("cuda.runtime-version.minor", "cuda.runtime.minor")
    can = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
    return driver, can or _dotted(label("cuda.runtime-version.full"))


def _cuda_of(image: str) -> tuple[int, int] | None:
    """The CUDA that an image's tag names: `v0.12.0-cu129`, `cuda12.8`."""
    m = re.search(r"cu(?:da)?[-_]?(\d{2})\.?(\d)", image)
    return (int(m[1]), int(m[2])) if m else None


def _no_device(pod: Object, spec: Object, cause: Cause) -> Cause:
    limits = part(spec, "resources", "limits")
    asked = next((f"{k}: {v}" for k, v in limits.items() if _GPU.fullmatch(k)), "")
    if not asked:
        return replace(
            cause,
            what="the container sees no GPU, and it asks for none",
            do="set resources.limits: {nvidia.com/gpu: N}; without it no device is handed out",
        )
    return replace(
        cause,
        what=f"the container asks for a GPU ({asked}) and finds no driver: the runtime did not put the node's "
        "driver into it, "
        "or its folder is not on the library path",
        do="runtimeClassName: nvidia where containerd has the NVIDIA runtime under that name only (k3s, RKE2, "
        "kind); on GKE "
        "LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/cuda/lib64; then: kubectl exec POD -- nvidia-smi",
    )


@rule
def refused_devices(facts: Facts) -> Iterator[Cause]:
    """Pods that the kubelet refused at its own door: the device plugin has no healthy device for them."""
    for pod in facts.pods:
        status = part(pod, "status")
        message = str(status.get("message") or "")
        if status.get("reason") == "UnexpectedAdmissionError" and re.search(r"(nvidia|amd)\.com/", message):
            yield Cause(
                id="gpu/device-plugin",
                certainty="certain",
                subject=f"Pod/{name_of(pod)}",
                weight=92,
                what="the node's device plugin has no healthy GPU for it, although the scheduler counted one",
                evidence=(message[:240],),
                do="kubectl -n kube-system (gpu-operator) logs of the node's device plugin; a lost GPU shows as "
                "unhealthy "
                "there; delete the failed Pod",
            )


@rule
def runtimes(facts: Facts) -> Iterator[Cause]:
    """Pods whose sandbox is never made: a runtime class that the cluster or the node does not know, or the network."""
    for event in facts.events:
        message = str(event.get("message") or "")
        reason, about = event.get("reason"), part(event, "involvedObject")
        unknown = re.search(
            r'(?:no runtime for|RuntimeHandler) "([^"]+)" (?:is configured|not supported)', message
        )
        if reason == "FailedCreatePodSandBox" and unknown:
            yield Cause(
                id="container/runtime-class",
                certainty="certain",
                subject=f"{about.get('kind')}/{about.get('name')}",
                weight=96,
                what=f"the runtime class {unknown[1]} is not there: containerd on the node has no such runtime",
                evidence=(shown(event),),
                do="remove runtimeClassName, or install it: nvidia-ctk runtime configure on the node and a "
                "RuntimeClass of "
                "that name (the GPU operator does both)",
            )
        elif reason == "FailedCreatePodSandBox":
            yield _sandbox(f"{about.get('kind')}/{about.get('name')}", message, shown(event))


_SANDBOX = (
    (
        "gpu/toolkit",
        r"nvidia-container|nvidia-ctk|CDI device",
        "the node's container runtime calls NVIDIA's toolkit, and that is not there or fails",
        "install the NVIDIA container toolkit on the node (or its GPU image), or take nvidia out of containerd's "
        "default "
        "runtime",
    ),
    (
        "container/sandbox",
        r"failed to assign an IP|no (?:free |available )?(?:IP )?addresses|IP(?:AM)? (?:pool )?exhausted"
        r"|out of IPs|insufficient IP",
        "the node has no IP address left for the Pod",
        "the subnet's free addresses and the node's limit of Pods; prefix delegation (EKS), a larger range, "
        "smaller nodes",
    ),
    (
        "container/sandbox",
        r"cni (?:plugin|config)[^\n]{0,60}(?:not initialized|uninitialized|not found)|failed to find plugin"
        r"|network plugin[^\n]{0,40}not ready"
        r"|loadNetworkConf|no such file or directory[^\n]{0,40}cni",
        "the network plugin does not run on that node",
        "kubectl -n kube-system get pods -o wide on that node: does the plugin's DaemonSet tolerate the GPU taint?",
    ),
    (
        "image/network",
        r"failed to (?:get|pull) (?:sandbox|pause) image|pause:[\d.]+[^\n]{0,120}(?:timeout|denied|not found)",
        "the node cannot pull the sandbox's own (pause) image",
        "the node's way to that registry; a mirror, or containerd's sandbox_image set to one that it reaches",
    ),
)
"""Id, what the runtime says, what it means, what to do; the first that matches is taken."""


def _sandbox(subject: str, message: str, evidence: str) -> Cause:
    found = next((row for row in _SANDBOX if re.search(row[1], message, re.I)), None)
    return Cause(
        id=found[0] if found else "container/sandbox",
        certainty="likely",
        subject=subject,
        weight=90,
        what=found[2]
        if found
        else "the node cannot set up the Pod itself (network plugin or runtime), before any container",
        evidence=(evidence,),
        do=found[3]
        if found
        else "the message names the plugin; kubectl -n kube-system get pods -o wide on that node",
    )


@rule
def gpu_faults(facts: Facts) -> Iterator[Cause]:
    """Xid errors that node-problem detectors and DCGM report as events or conditions."""
    for event in facts.events:
        message = str(event.get("message") or "")
        m = re.search(r"Xid[^\d]{0,30}(\d+)", message)
        if m and part(event, "involvedObject").get("kind") != "Pod":
            node = part(event, "involvedObject").get("name")
            yield Cause(
                id="gpu/xid",
                certainty="certain",
                subject=f"Node/{node}",
                weight=95,
                what=f"the GPU driver reports Xid {m[1]}: {_xid(int(m[1]))}",
                evidence=(shown(event),),
                do=f"kubectl cordon {node}; dcgmi diag -r 3; reset or replace the GPU",
            )


def _xid(number: int) -> str:
    known = {
        13: "a graphics engine exception (often software)",
        31: "a memory page fault (often software)",
        43: "the GPU stopped processing",
        45: "preemptive cleanup after another error",
        48: "a double-bit ECC error",
        63: "row remapping pending: a reset is needed",
        64: "row remapping failed: replace the GPU",
        74: "an NVLink error",
        79: "the GPU has fallen off the bus",
        94: "a contained ECC error",
        95: "an uncontained ECC error: reset the GPU",
        119: "the GSP firmware timed out",
        120: "the GSP firmware failed",
    }
    return known.get(number, "see NVIDIA's Xid catalogue")
