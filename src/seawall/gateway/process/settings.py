"""What a gateway process is told: the command line's settings, and what follows from the specs before it serves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seawall.config.load import load_fleets
from seawall.config.together import check_together
from seawall.decide.route.evidence import LEFT, Patience
from seawall.domain.spec import Fleet


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says. Addresses are HOST:PORT; port 0: any free one."""

    specs: Sequence[Path]
    discovery: str
    listen: str = "127.0.0.1:8000"
    admin: str = "127.0.0.1:0"
    grace_s: float = 120.0
    engine_key: str | None = field(default=None, repr=False)
    engine_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    keys: Path | None = None
    audit: str | None = None
    """A path, or `-`: standard output."""
    usage: Path | None = None
    supervisor: Path | None = None
    """The state.json of the `seawall up` that keeps this gateway, for the console."""
    store: str | None = None
    """The store's address; None: the specs'."""
    store_password: Callable[[], str | None] | None = None
    """Reads the store's password, at every connection."""
    store_ca: Path | None = None
    """Certificates that the store's is checked by; None: the system's."""
    board: Path | None = None
    """With several workers: the file they share."""
    worker: int = 0
    workers: int = 1
    batch: str | None = None
    """Where the batch lane listens: HOST:PORT."""
    batch_secret: str | None = field(default=None, repr=False)
    """What the lane and its gateways know each other by."""
    keeper: Path | None = None
    """The socket of who holds connections when this process dies."""
    seat: str = "gateway"
    """Whose successor this process is: that of the last one in this seat."""
    parent: int = 0
    """With several workers: the process that keeps them. Without it they drain and end."""
    died: float = 0.0
    """When this process's predecessor died (monotonic); 0: it has none that this machine knows of."""
    hand_over_s: float = 0.2
    """Between giving new connections to the next gateway and closing: longer than a handshake."""
    patience: Patience = LEFT
    """With silence of replicas that owe an answer."""
    without: frozenset[str] = frozenset()
    """Mechanisms that a proof has switched off (domain.switches.GATEWAY)."""


def read_specs(paths: Iterable[Path]) -> list[Fleet]:
    """All fleets of all files. InputError when two have one name, or two models do."""
    fleets = [f for path in paths for f in load_fleets(path)]
    check_together(fleets)
    return fleets


def keeps(fleets: Sequence[Fleet]) -> bool:
    """A keeper is wanted, and can be."""
    return sys.platform == "linux" and any(f.spec.gateway.keeper for f in fleets)


def key_files(fleets: Sequence[Fleet], given: Path | None) -> dict[Path, frozenset[str] | None]:
    """Each file of keys with the fleets that its keys open; None: all. `given` is for all. Otherwise keys belong to the
    fleets that name their file, and a fleet that names none and lists no tenants is open to every key that is read."""
    if given is not None:
        return {given: None}
    loose = {f.name for f in fleets if not f.spec.gateway.keys_file and not f.spec.gateway.tenants}
    owners: dict[Path, set[str]] = {}
    for f in fleets:
        if f.spec.gateway.keys_file:
            owners.setdefault(Path(f.spec.gateway.keys_file), set(loose)).add(f.name)
    return {path: frozenset(names) for path, names in owners.items()}
