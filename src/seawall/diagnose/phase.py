"""One Pod's state in the words of `seawall status`: a phase and the reason that a person needs. Pure."""

from __future__ import annotations

from typing import Any, Literal

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
        again = f", restarted {restarts} times" if restarts else ""
        return (
            ("starting", f"serves HTTP, not ready yet{again}")
            if started
            else ("loading", f"loads the model{again}")
        )
    return "starting", "containers are being made"
