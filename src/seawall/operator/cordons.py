"""The nodes that take no new Pods, named where the scheduler only counts them.

Why: `3 node(s) were unschedulable` is what a drain or an upgrade leaves behind, and a person needs the names and the
command. Forbidden: changing a node; whoever may not list nodes is told the scheduler's words alone.
"""

from __future__ import annotations

from seawall.drivers.kube import NODE, Kube, Select
from seawall.drivers.kube_refusal import Refused

COUNTED = "were unschedulable"
"""In the scheduler's sentence: nodes that fit, or would, but for their cordon."""
SHOWN = 4


class Cordons:
    """The cordoned nodes of a cluster, asked once for one look."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._names: list[str] | None = None

    async def named(self, reason: str) -> str:
        """A sentence of the scheduler's with the names of the nodes that it counts, and the command that opens them."""
        if COUNTED not in reason:
            return reason
        names = await self._asked()
        if not names:
            return reason
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        told = f"cordoned: {', '.join(names[:SHOWN])}{more}; when their drain is over: kubectl uncordon {names[0]}"
        return f"{reason.rstrip('. ')} ({told})"

    async def _asked(self) -> list[str]:
        if self._names is None:
            try:
                found = await self._kube.list(Select(NODE, fields="spec.unschedulable=true"), lambda o: None)
            except Refused:
                found = {}
            self._names = sorted(name for _, name in found)
        return self._names
