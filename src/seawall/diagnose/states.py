"""How the containers of a Pod stand, and how they ended last. Look-ups for the rules; nothing is judged here."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.diagnose.facts import Object, items, part


def statuses(pod: Object) -> Iterator[tuple[Object, Object, bool]]:
    """(container status, container spec, init?) of every container of a Pod."""
    for key, specs, init in (
        ("initContainerStatuses", "initContainers", True),
        ("containerStatuses", "containers", False),
    ):
        by_name = {c.get("name"): c for c in items(pod, "spec", specs)}
        for status in items(pod, "status", key):
            yield status, by_name.get(status.get("name"), {}), init


def ended(status: Object) -> Object:
    """The last end of a container: `state.terminated`, else `lastState.terminated`."""
    return part(status, "state", "terminated") or part(status, "lastState", "terminated")
