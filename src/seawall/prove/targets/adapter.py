"""The adapter: what a proof has to know of a gateway that is not ours. All else of it is a process and an address.

Forbidden here: naming a target.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from seawall.drivers import cache


class Need(StrEnum):
    """Something that not every gateway can do, or let us do. Its value says what is missing where it is not."""

    REPLICAS = "its list of engines cannot be changed while it runs"
    SUCCESSOR = "it has no way to be replaced while it serves"
    PROCESS = "there is no gateway whose process could be killed"
    KEEPER = "it has no keeper"
    BATCH = "it has no batch lane here"
    SUPERVISOR = "the supervisor and the scaler of `seawall up` are no part of it"
    STORE = "several of it share nothing that a proof could take away"


@dataclass(kw_only=True)
class TargetPlace:
    """Where one target runs, and what it is to serve."""

    folder: Path
    port: int
    engines: Sequence[str]
    """Addresses of the engines: `http://127.0.0.1:9001`."""
    names: Sequence[str]
    """Names of the model; the first is the one that clients use."""
    program: Path | None = None
    """What `install` returned."""
    spare_ports: Sequence[int] = ()
    """Two more that are free, for metrics and the like."""
    fleet: Path | None = None
    """The Fleet that is proven, as a file."""
    fleet_name: str = ""
    api_key: str | None = None
    """What clients show to it."""
    generation: int = 0
    """How many times the list of engines has been changed."""
    folder_for_sockets: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="sw-")))
    """A short path: the address of a Unix socket has 107 bytes."""

    @property
    def hosts(self) -> list[str]:
        """The engines as HOST:PORT."""
        return [urlsplit(url).netloc for url in self.engines]

    def write(self, files: Mapping[str, str]) -> None:
        """Replaces files in the folder, each at once."""
        for name, text in files.items():
            cache.write_atomic(self.folder / name, text)


class TargetAdapter:
    """One gateway. Most of it is words; a subclass fills in what its gateway can do."""

    name = ""
    title = ""
    """The name for people."""
    source = ""
    """Where its program comes from: `PyPI smg==1.13.0`."""
    can: frozenset[Need] = frozenset()
    settings: tuple[str, ...] = ()
    """What its configuration follows, and what was changed in its favour: one sentence each."""
    start_s = 60.0
    """Seconds until it must serve."""

    def install(self) -> Path | None:
        """The program, put into the cache if it is not there. None: none is needed. InputError: it cannot be had."""
        return None

    def version(self, program: Path | None) -> str:
        """The version, as the program says itself."""
        return ""

    def files(self, place: TargetPlace) -> dict[str, str]:
        """The configuration: names of files in the target's folder -> text."""
        return {}

    def argv(self, place: TargetPlace) -> list[str]:
        """The command; empty: nothing is started."""
        return []

    def companions(self, place: TargetPlace) -> dict[str, list[str]]:
        """Processes that run beside it and outlive it: name -> command. They are started again when they die."""
        return {}

    async def companion_ready(self, place: TargetPlace, pid: int) -> bool:
        """Whether a companion that has been started, as this process, does its work."""
        return True

    def env(self, place: TargetPlace) -> dict[str, str]:
        """Variables beside those of this process."""
        return {}

    def addresses(self, place: TargetPlace) -> list[str]:
        """Where clients go; of several each takes one in turn."""
        return [f"http://127.0.0.1:{place.port}"]

    def admin_url(self, place: TargetPlace) -> str:
        """Where it tells its state as ours does; empty: nowhere."""
        return ""

    async def reload(self, place: TargetPlace, pid: int) -> None:
        """Makes the engines of `place` the target's, from now on. `pid`: the process of `argv`."""
        raise NotImplementedError

    async def replace(self, place: TargetPlace, pid: int) -> bool:
        """A successor serves new requests from now on; what runs is finished. True: `argv` is to be started again
        beside the old process, which then gets SIGTERM; False: it has been done."""
        raise NotImplementedError


def tell(pid: int, number: signal.Signals) -> None:
    """One of the signals by which servers are told to read their configuration again, or to hand over."""
    os.kill(pid, number)
