"""Which LoRA adapters one replica should load or unload now, and when to try again. Pure.

Looks at what the replica itself says that it serves, so a restart, a half-done change or a hand at work is
answered the same way. What is wanted comes from the spec; what failed is tried again with back-off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BACK_OFF_S = (5.0, 300.0)


@dataclass(frozen=True)
class Failure:
    """The last attempts to load one adapter on one replica."""

    count: int
    at_s: float
    why: str
    path: str = ""
    """Path of the adapter that failed; another path is another adapter, and is tried at once."""

    @property
    def again_s(self) -> float:
        """When to try again, seconds of the clock of `at_s`."""
        return self.at_s + min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(self.count - 1, 10))


@dataclass(frozen=True)
class LoadAdapter:
    name: str
    path: str


@dataclass(frozen=True)
class UnloadAdapter:
    """`reason`: removed from the spec, or another version takes its name."""

    name: str
    reason: str


@dataclass(frozen=True)
class AdapterChanges:
    """What to do on one replica, in this order: unloads make room for loads."""

    unload: tuple[UnloadAdapter, ...]
    load: tuple[LoadAdapter, ...]
    routable: tuple[str, ...]
    """Adapters that are served as the spec wants them and stay: requests may go there."""
    problem: str
    """Why something wanted is not there yet; empty when all is."""


def changes(
    wanted: Mapping[str, str], served: Mapping[str, str], failures: Mapping[str, Failure], now: float
) -> AdapterChanges:
    """`wanted` and `served`: adapter -> path, from the spec and from the replica's /v1/models."""
    unload = [
        UnloadAdapter(n, "another version takes its name" if n in wanted else "no longer in the spec")
        for n, path in sorted(served.items())
        if wanted.get(n) != path
    ]
    load: list[LoadAdapter] = []
    waits: list[str] = []
    for name, path in sorted(wanted.items()):
        if served.get(name) == path:
            continue
        failed = failures.get(name)
        if failed is not None and failed.path == path:
            waits.append(f"{name}: {failed.why}")
            if now < failed.again_s:
                continue
        load.append(LoadAdapter(name, path))
    stays = tuple(n for n, path in sorted(served.items()) if wanted.get(n) == path)
    return AdapterChanges(tuple(unload), tuple(load), stays, "; ".join(waits))


def failed(before: Failure | None, path: str, why: str, now: float) -> Failure:
    """The record with one more failure; another path begins to count anew."""
    count = before.count + 1 if before is not None and before.path == path else 1
    return Failure(count, now, why, path)
