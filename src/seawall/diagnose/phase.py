"""One Pod's state in the words of `seawall status`: a phase and the reason that a person needs. Pure."""

from __future__ import annotations

from typing import Any, Literal

from seawall.domain.units import counted
from seawall.drivers.kube_refusal import cure_of

Object = dict[str, Any]
PodPhase = Literal["pending", "starting", "loading", "ready", "draining", "failed", "done"]
BROKEN = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
"""The kubelet's reasons for a container that waits and will not begin by waiting alone."""


def phase_of(pod: Object) -> tuple[PodPhase, str]:
    """(phase, reason). `loading`: the container runs and its startup probe has not passed yet."""
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    if meta.get("deletionTimestamp"):
        return "draining", "told to stop; finishes its streams"
    if status.get("phase") == "Succeeded":
        return "done", ""
    if status.get("phase") == "Failed":
        return "failed", str(status.get("reason") or status.get("message") or "the Pod failed")[:200]
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return "pending", str(scheduled.get("message") or "not scheduled yet")[:300]
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for c in containers:
        waiting = (c.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason in BROKEN:
            last = ((c.get("lastState") or {}).get("terminated")) or {}
            died = f"; died with {last.get('reason')} (exit {last.get('exitCode')})" if last else ""
            return "failed", f"{c.get('name')}: {reason}{died}"
    if (conditions.get("Ready") or {}).get("status") == "True":
        return "ready", ""
    running = [c for c in status.get("containerStatuses") or [] if "running" in (c.get("state") or {})]
    if running:
        started = all(c.get("started") for c in running)
        restarts = sum(int(c.get("restartCount") or 0) for c in running)
        again = f", restarted {counted(restarts, 'time')}" if restarts else ""
        return (
            ("starting", f"serves HTTP, not ready yet{again}")
            if started
            else ("loading", f"loads the model{again}")
        )
    return "starting", "containers are being made"


def leaving(obj: Object) -> str:
    """That an object is being deleted, and what it waits for; empty where it stays."""
    meta = obj.get("metadata") or {}
    if not meta.get("deletionTimestamp"):
        return ""
    held = ", ".join(meta.get("finalizers") or []) or "its grace period"
    held = "what belongs to it (its Pods finish their streams)" if held == "foregroundDeletion" else held
    return f"{meta.get('name')} is being deleted, and waits for {held}"


def paused(deployment: Object) -> str:
    """Why a Deployment that is behind its spec does not move, with the command that lets it; empty where it may."""
    if not (deployment.get("spec") or {}).get("paused"):
        return ""
    meta = deployment.get("metadata") or {}
    name, namespace = meta.get("name"), meta.get("namespace")
    return f"{name} is paused: kubectl rollout resume deployment/{name} -n {namespace}"


def refused_pods(deployment: Object) -> str:
    """Why the API server takes no Pods of a Deployment (a quota, pod security, a webhook, an account that is missing),
    in its own words, with what to do about it; empty where it does."""
    conditions = {c.get("type"): c for c in (deployment.get("status") or {}).get("conditions") or []}
    failure = conditions.get("ReplicaFailure") or {}
    if failure.get("status") != "True":
        return ""
    meta, message = deployment.get("metadata") or {}, str(failure.get("message"))
    told = f"{meta.get('name')}: no Pod can be made: {message[:300]}"
    cure = cure_of(403, message).replace("kubectl ", f"kubectl -n {meta.get('namespace')} ")
    return f"{told.rstrip('. ')}. {cure}" if cure else told
