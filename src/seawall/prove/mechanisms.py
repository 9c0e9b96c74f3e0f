"""What `--without NAME` switches off: the mechanism's own switch, in the Fleet or a hidden flag of `seawall up`.

Where another mechanism would hide the loss, it is switched off too (`covers`): the scenario must stay green without the
cover alone, or its red would prove the wrong thing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seawall.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One thing that keeps promises, and how to switch it off."""

    what: str
    fleet: Mapping[str, Any] = field(default_factory=dict)
    """Dotted Fleet paths -> values."""
    switch: str | None = None
    """`seawall up --without`: see domain.switches."""
    covers: tuple[str, ...] = ()
    """Mechanisms that are switched off with it."""


MECHANISMS: dict[str, Mechanism] = {
    "resume": Mechanism(what="a broken stream is continued on another replica", fleet={"gateway.resume": "off"}),
    "retry": Mechanism(what="a request that failed before its first byte goes elsewhere",
                       fleet={"gateway.retries": 0}),
    "drain": Mechanism(what="a replica finishes its streams before it stops",
                       fleet={"rollout.drain": "0s", "rollout.preStop": "0s"}, covers=("resume",)),
    "stall-watch": Mechanism(what="a silent replica is looked at, and left on evidence", switch="stall-watch",
                             fleet={"gateway.stallTimeout": "10m", "gateway.firstByteTimeout": "10m"}),
    "patience": Mechanism(what="silence is weighed against the work that explains it, and no time-out ends it",
                          fleet={"gateway.stallTimeout": "2s", "gateway.firstByteTimeout": "4s"}),
    "assembly": Mechanism(what="a long whole answer is asked of the engine as a stream, watched and resumed",
                          switch="assembly"),
    "await-return": Mechanism(what="a fleet whose only replica is coming back is waited for", switch="await-return"),
    "records": Mechanism(what="an answer is kept for a client that comes again", fleet={"gateway.keepFor": "0s"}),
    "keeper": Mechanism(what="a gateway's connections and their record outlive it", fleet={"gateway.keeper": False}),
    "admission": Mechanism(what="a bounded queue, then 429",
                           fleet={"gateway.maxQueued": 1_000_000, "gateway.queueTimeout": "10m"}),
    "hand-over": Mechanism(what="a new gateway listens before the old one stops", switch="hand-over"),
    "back-pressure": Mechanism(what="a client that does not read stops the reading of its stream",
                               switch="back-pressure"),
    "token-proof": Mechanism(what="a replica that failed comes back when it gives a token, not when /health says 200",
                             switch="token-proof"),
    "start-proof": Mechanism(what="a new replica gets requests when it has given a token", switch="start-proof",
                             covers=("retry",)),
    "truth-watch": Mechanism(what="replicas are asked what they must answer, and one that does not is taken out",
                             fleet={"gateway.truthBudget": 0}),
    "scaler-hold": Mechanism(what="without metrics nothing is scaled", switch="scaler-hold"),
    "store": Mechanism(what="gateways share a store", switch="store"),
    "write-ahead": Mechanism(what="a batch's result is durable before it is counted", switch="write-ahead"),
    "spare-control": Mechanism(what="lines of batches live on what interactive requests leave", switch="spare-control"),
    "steady-clock": Mechanism(what="the supervisor counts time by a clock that nobody can set", switch="steady-clock"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Off:
    """All that is switched off in a run."""

    fleet: dict[str, Any]
    flags: tuple[str, ...]
    """Flags of `seawall up` that switch them off."""


def off(without: Sequence[str]) -> Off:
    """The switches behind some names. InputError for one that is not known."""
    fleet: dict[str, Any] = {}
    flags: list[str] = []
    names = list(without)
    for name in names:
        found = MECHANISMS.get(name)
        if found is None:
            near = difflib.get_close_matches(name, MECHANISMS, 1, 0.6)
            cure = f"Did you mean {near[0]}?" if near else f"One of: {', '.join(MECHANISMS)}."
            raise InputError(f"--without {name}: no such mechanism.", cure)
        fleet |= found.fleet
        flags += [f"--without={found.switch}"] if found.switch else []
        names += [c for c in found.covers if c not in names]
    return Off(fleet=fleet, flags=tuple(flags))
