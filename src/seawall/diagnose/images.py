"""Why a container is never made: images that cannot be pulled, configuration that is not there. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, name_of, part, shown
from seawall.diagnose.programs import no_program
from seawall.diagnose.states import statuses
from seawall.engines.vllm.signs import Said, read

_PULL = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


@rule
def images(facts: Facts) -> Iterator[Cause]:
    """Images that cannot be pulled; ImagePullBackOff is five different failures."""
    for pod in facts.pods:
        for status, spec, _ in statuses(pod):
            waiting = part(status, "state", "waiting")
            if waiting.get("reason") not in _PULL:
                continue
            failed = next(
                (e for e in facts.events_of(pod, "Failed") if "pull" in str(e.get("message")).lower()), None
            )
            message = f"{(failed or {}).get('message') or ''} {waiting.get('message') or ''}"
            image = str(spec.get("image") or status.get("image") or "")
            yield _pull(
                f"Pod/{name_of(pod)}", image, message, shown(failed) if failed else message.strip()[:240]
            )


_PULLS = (
    (
        "image/rate-limited",
        r"toomanyrequests|429 Too Many Requests|pull rate limit",
        "the registry limits the rate of pulls",
        "log in to the registry (imagePullSecrets) or use a mirror; pin a digest and pre-pull",
    ),
    (
        "image/unauthorized",
        r"unauthorized|401|403 Forbidden|denied|authentication required|no basic auth credentials",
        "the registry wants a login (or the image does not exist: private registries answer the same)",
        "imagePullSecrets in the Pod or its ServiceAccount; check the name",
    ),
    (
        "image/not-found",
        r"not found|manifest unknown|does not exist|404",
        "there is no such image or tag",
        "correct the tag; vLLM's are vllm/vllm-openai:v0.32.0",
    ),
    (
        "image/platform",
        r"no match for platform|exec format error",
        "the image has no build for this node's CPU architecture",
        "choose nodes by kubernetes.io/arch, or another image",
    ),
    (
        "image/disk-full",
        r"no space left on device",
        "the node's disk is full while the image is unpacked (10 GB and more)",
        "larger node disks; kubectl describe node (DiskPressure)",
    ),
    (
        "image/network",
        r"^(?![^\n]*(?:dial tcp|lookup|no such host|TLS|refused))[^\n]*(?:context deadline exceeded|DeadlineExceeded)",
        "the pull did not end in time",
        "(1) a large image over a slow way: containerd goes on at the next try; cri-dockerd: its deadline "
        "(--image-pull-progress-deadline) and the kubelet's runtimeRequestTimeout, or a mirror near by, or "
        "pull it before. "
        "(2) the registry does not answer the node: DNS, proxy, firewall",
    ),
    (
        "image/network",
        r"failed size validation|unexpected commit digest|failed commit on ref|unexpected EOF|short read",
        "the image's layers come down damaged or in part: a proxy, a mirror or the network cuts them",
        "it is tried again; if it goes on: delete what is left of it on the node (crictl rmi), and look at the "
        "registry "
        "mirror or proxy between",
    ),
    (
        "image/network",
        r"i/o timeout|no such host|connection refused|TLS handshake|x509|context deadline "
        r"exceeded|EOF",
        "the node does not reach the registry",
        "DNS, proxy or firewall of the node; a mirror inside the network",
    ),
    (
        "image/invalid-name",
        r"InvalidImageName|couldn't parse image|invalid reference format",
        "the image's name is not a valid reference",
        "correct the name",
    ),
)
"""Id, what the kubelet or the registry says, what it means, what to do; the first that matches is taken."""


def _pull(subject: str, image: str, message: str, evidence: str) -> Cause:
    for name, pattern, what, do in _PULLS:
        if re.search(pattern, message, re.IGNORECASE):
            return Cause(
                id=name,
                certainty="certain",
                subject=subject,
                what=f"{image}: {what}",
                evidence=(evidence,),
                do=do,
                weight=95,
            )
    return Cause(
        id="image/pull",
        certainty="likely",
        subject=subject,
        what=f"{image} cannot be pulled",
        evidence=(evidence,),
        do="kubectl describe pod: the events say why",
        weight=95,
    )


def of_gpu(message: str) -> Said | None:
    """What NVIDIA's hook of the container runtime says of the driver or the GPU; None for another refusal."""
    said = read(message) if re.search(r"nvidia-container|nvml|CDI device|/dev/nvidia", message) else None
    return said if said is not None and said.sign.id.startswith("gpu/") else None


@rule
def configuration(facts: Facts) -> Iterator[Cause]:
    """Containers that cannot be made: a Secret, ConfigMap or user that is not there."""
    for pod in facts.pods:
        for status, _, _ in statuses(pod):
            waiting = part(status, "state", "waiting")
            reason, message = str(waiting.get("reason")), str(waiting.get("message") or "")
            program = no_program(message)
            if program and reason in ("CreateContainerError", "RunContainerError"):
                yield Cause(
                    id=program[2],
                    certainty="certain",
                    subject=f"Pod/{name_of(pod)}",
                    weight=98,
                    what=program[0],
                    evidence=(f"{status.get('name')}: {reason}: {message[-220:]}",),
                    do=program[1],
                )
            elif reason != "CreateContainerConfigError" and (said := of_gpu(message)) is not None:
                yield Cause(
                    id=said.sign.id,
                    certainty="certain" if said.sign.certain else "likely",
                    subject=f"Pod/{name_of(pod)}",
                    weight=96,
                    what=said.what,
                    evidence=(f"{status.get('name')}: {reason}: {message[-220:]}",),
                    do=said.do,
                )
            elif reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
                yield _refused(f"Pod/{name_of(pod)}", f"{status.get('name')}: {reason}", message or reason)


_REFUSALS = (
    (
        r"(?P<named>(?:secret|configmap) \"[^\"]+\" not found|couldn't find key \S+)",
        "the container cannot be made: {named}",
        "kubectl get secret,configmap; create what is missing (keys are case-sensitive)",
    ),
    (
        r"runAsNonRoot",
        "the image wants to run as root and the Pod forbids it (runAsNonRoot)",
        "set runAsUser to a number above 0",
    ),
    (
        r"context deadline exceeded|DeadlineExceeded",
        "the node's runtime did not make the container in time: its disk is busy, or the GPU driver answers late "
        "(without "
        "persistence mode, while MIG is set up, many Pods at once after a reboot)",
        "it is tried again; nvidia-smi -pm 1 (or the persistence daemon) on the node, fewer Pods that start at once, a "
        "faster disk under containerd",
    ),
    (
        r"error mounting[^\n]{0,300}not a directory|mount a directory onto a file",
        "a file is mounted where the image has a directory, or a directory where it has a file: subPath names a key or "
        "file that the volume does not have",
        "subPath has to be the key's name in the ConfigMap or Secret, mountPath the file's",
    ),
    (
        r"read-only file system",
        "the runtime cannot write the folder of a mount: it is to be made in a volume that is mounted read-only, "
        "or in a "
        "read-only root",
        "mount the inner volume elsewhere, or make its folder in the outer volume (or the image) before",
    ),
    (
        r"OOM-killed|memory limit too low|minimum memory limit",
        "the container's memory limit is too low to start any process",
        "raise resources.limits.memory (Mi and Gi, not m: 512m is half a byte)",
    ),
    (
        r"is reserved for|name .* is already in use",
        "the runtime still holds a container of the same name, which it could not finish making",
        "mostly a busy disk or a hung mount on the node: restart containerd there, or let the Pod go to another node",
    ),
    (
        r"no space left on device",
        "the node's disk is full",
        "larger node disks; kubectl describe node (DiskPressure), crictl rmi --prune",
    ),
)
"""What the kubelet or the runtime says, what it means, what to do; the first that matches is taken."""


def _refused(subject: str, where: str, message: str) -> Cause:
    """A container that the kubelet or the runtime could not make."""
    found = next(
        ((m, what, do) for pattern, what, do in _REFUSALS if (m := re.search(pattern, message))), None
    )
    named = found[0].groupdict() if found else {}
    return Cause(
        id="container/missing-config" if named.get("named") else "container/cannot-start",
        certainty="certain" if found else "likely",
        subject=subject,
        weight=95,
        what=found[1].format(**named) if found else f"the container cannot be made: {message[:160]}",
        evidence=(f"{where}: {message[:200]}",),
        do=found[2]
        if found
        else "the runtime's own words say why: kubectl describe pod; journalctl -u containerd on the node",
    )
