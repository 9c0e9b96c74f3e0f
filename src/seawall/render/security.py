"""Security contexts: what the Pod Security Standard `restricted` asks for, and a read-only root."""

from __future__ import annotations

from seawall.render.inputs import Object

UID = 2000


def pod_context(uid: int = UID) -> Object:
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        # A volume of 140 GB is not walked through and chowned at every mount.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_context() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def exactly(cpu: str, memory: str, more: dict[str, str] | None = None) -> Object:
    """Requests equal to limits: Guaranteed QoS."""
    amounts = {"cpu": cpu, "memory": memory, **(more or {})}
    return {"requests": dict(amounts), "limits": dict(amounts)}
