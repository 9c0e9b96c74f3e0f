"""Volumes that cannot be attached or mounted: what the kubelet and the storage drivers say, and what each means.

`FailedMount` is thirty failures under one name; the driver's own words behind it tell them apart. Pure rules.
Forbidden here: claims that are not bound (`volumes.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from seawall.diagnose.cause import Cause, CauseCertainty, rule
from seawall.diagnose.facts import Facts, Object, part, shown


@dataclass(frozen=True)
class MountWord:
    """What a driver says, and what it means. `what` may use the pattern's named groups."""

    pattern: str
    what: str
    do: str
    id: str = "storage/mount"
    certainty: CauseCertainty = "certain"


_WORDS = (
    MountWord(
        r"Multi-Attach error",
        "the volume is attached to another node and can only be attached to one (ReadWriteOnce)",
        "use ReadWriteMany or ReadOnlyMany storage for weights; for now delete the Pod that holds it, or maxSurge 0",
        id="storage/multi-attach",
    ),
    MountWord(
        r"(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found|references non-existent (?P<key>secret key"
        r"|config key)"
        r"[^\n]{0,80}|object \"[^\"]+\"/\"(?P<unregistered>[^\"]+)\" not registered",
        "a mounted object is missing: {kind} {name}{key}{unregistered}",
        "kubectl get secret,configmap; create it, with that key",
        id="container/missing-config",
    ),
    MountWord(
        r"failed to find the sidecar container|failed to inject the sidecar container",
        "the bucket's FUSE sidecar is not in the Pod: it has no annotation gke-gcsfuse/volumes, or the webhook "
        "that adds "
        "the sidecar did not run",
        'annotate the Pod\'s template with gke-gcsfuse/volumes: "true" and let new Pods be made',
    ),
    MountWord(
        r"driver name (?P<driver>\S+) not found in the list of registered CSI drivers",
        "the driver {driver} does not run on that node: its DaemonSet tolerates not the node's taints, starts "
        "still, or is "
        "not installed",
        "kubectl get csinodes; kubectl get daemonsets -A | grep csi: do they tolerate the GPU nodes' taints?",
    ),
    MountWord(
        r"(?P<why>PermissionDenied|(?:Error |code = )403[^\n]{0,60}|AccessDenied|Access Denied|access denied by server"
        r"|mount error\(13\)[^\n]{0,40}|does not have [\w.]+ access|AuthorizationFailure|Unauthenticated"
        r"|Forbidden: [^\n]{0,60})",
        "the storage refuses the account or the node that mounts it ({why})",
        "the right of the Pod's service account on the bucket or share (workload identity bound to it? on GKE the "
        "annotation gke-gcsfuse/volumes, too); NFS: its export list; SMB: the Secret",
        certainty="likely",
    ),
    MountWord(
        r"bad option; for several filesystems|unknown filesystem type|mount\.(?P<helper>\w+): (?:command )?not found"
        r"|you might need a /sbin/mount\.<type> helper",
        "the node lacks the program that mounts this kind of volume {helper}",
        "install nfs-common, cifs-utils or the file system's client on the nodes (or another node image)",
    ),
    MountWord(
        r"bucket (?P<bucket>\S+) (?:does not exist|not found)|bucket doesn't exist|No such (?:bucket|host is known)"
        r"|Failed to resolve (?:server )?\"?(?P<host>[\w.-]+)|(?P<gone>volume \S+ (?:does not exist|not found))"
        r"|mounting \S+ failed, reason given by server: (?P<server>No such file or directory)"
        r"|InvalidVolume\.NotFound|resource '?projects/\S+ was not found",
        "what the volume names is not there: {bucket}{host}{gone}{server}",
        "the bucket's, share's or disk's name in the PersistentVolume (or the volume's csi attributes), and its path",
    ),
    MountWord(
        r"hostPath type check failed: (?P<path>\S+) is not (?P<kind>[^\n\"]{2,40})",
        "the node has no {path}, or it is not {kind}: a hostPath looks at the node on which the Pod runs",
        "put the weights on every node that may run it (a DaemonSet), a hostPath of type DirectoryOrCreate, or a claim",
    ),
    MountWord(
        r"subPath[^\n]{0,120}(?:no such file|failed to (?:prepare|create))|failed to prepare subPath",
        "the subPath of the volume is not there, or may not be made",
        "does the loader write that folder, and is the volume mounted read-only before it is there?",
    ),
    MountWord(
        r"(?P<why>Connection timed out|connection refused|no route to host|mount error\(11[0-9]\)|i/o timeout"
        r"|Connection reset by peer|Name or service not known|server (?:is )?not responding)",
        "the storage server does not answer the node ({why})",
        "is it up, and do the security group and firewall let the node to it (NFS and EFS 2049, SMB 445, Lustre 988)?",
        certainty="likely",
    ),
    MountWord(
        r"(?:wrong fs type|can't read superblock|structure needs cleaning|Input/output error|XFS[^\n]{0,40}corrupt)",
        "the volume's file system is broken, or is none",
        "look at the node's dmesg; fsck it detached, or make the volume again",
        certainty="likely",
    ),
    MountWord(
        r"SecretProviderClass|secrets-store",
        "the secrets store cannot hand out the Pod's secrets",
        "kubectl get secretproviderclass; does its provider run on the node, and may the service account read "
        "the vault?",
        certainty="likely",
    ),
    MountWord(
        r"(?:attach|attached|maximum|exceeded)[^\n]{0,60}(?:limit|maximum number|too many)[^\n]{0,40}|max volume count",
        "the node has as many volumes attached as it may",
        "kubectl get csinodes -o yaml (allocatable.count); larger nodes, or one shared volume for weights",
        certainty="likely",
    ),
    MountWord(
        r"operation with the given Volume ID \S+ already exists|timed out waiting for (?:external-attacher"
        r"|the condition)"
        r"|DeadlineExceeded|context deadline exceeded",
        "the driver has not finished in time: it is still mounting, or hangs at the storage",
        "(1) a large volume with fsGroup: the owner of every file is changed first; fsGroupChangePolicy: "
        "OnRootMismatch (the "
        "kubelet's log says so). (2) the storage does not answer the node: security group, firewall (NFS and "
        "EFS 2049, SMB "
        "445), DNS. (3) the driver hangs: kubectl logs -n kube-system DRIVER-POD on that node, restart it",
        certainty="possible",
    ),
)
"""In this order; the first that an event shows is taken."""


@rule
def attachments(facts: Facts) -> Iterator[Cause]:
    """Volumes that cannot be attached or mounted, by the most telling of a Pod's events."""
    by_pod: dict[str, list[Object]] = {}
    for event in facts.events:
        if event.get("reason") in ("FailedAttachVolume", "FailedMount", "FailedMapVolume"):
            by_pod.setdefault(str(part(event, "involvedObject").get("name", "")), []).append(event)
    for pod, events in by_pod.items():
        told = False
        for word in _WORDS:
            found = next((e for e in events if re.search(word.pattern, _text(e), re.I)), None)
            if found is not None and not (told and word.certainty == "possible"):
                yield _cause(pod, word, found)
                told = True
                break
        if not told:
            yield Cause(
                id="storage/mount",
                certainty="likely",
                subject=f"Pod/{pod}",
                weight=85,
                what="the volume cannot be mounted",
                evidence=(shown(events[0]),),
                do="kubectl describe pod; does the CSI driver run on that node? kubectl get csinodes",
            )


def _text(event: Object) -> str:
    return str(event.get("message") or "")


def _cause(pod: str, word: MountWord, event: Object) -> Cause:
    m = re.search(word.pattern, _text(event), re.I)
    named = {k: " ".join((v or "").split()) for k, v in m.groupdict().items()} if m else {}
    return Cause(
        id=word.id,
        certainty=word.certainty,
        subject=f"Pod/{pod}",
        weight=85 if word.id == "storage/mount" else 95,
        what=word.what.format(**named).strip(" :"),
        evidence=(shown(event),),
        do=word.do,
    )
