"""One `seawall up` from its command to its last line: the state folder's lock, signals, and what is printed.

Blocking; owns the event loop. What it prints goes to standard output, decision first.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seawall.config import examples
from seawall.config.load import load_fleets
from seawall.config.together import check_together
from seawall.decide.replica import ReplicaPhase
from seawall.domain.columns import folded
from seawall.domain.spec import Fleet
from seawall.drivers import cache
from seawall.errors import InputError
from seawall.local import view
from seawall.local.prepare import Wish, prepare
from seawall.local.services import read_json
from seawall.local.snapshot import snapshot
from seawall.local.supervisor import Supervisor, UpEvent


def default_spec(root: Path) -> Path:
    """examples/smollm2.yaml of a clone; of an installed package, its copy in the cache."""
    clone = Path(__file__).resolve().parents[3] / "examples" / f"{examples.DEFAULT}.yaml"
    if clone.is_file():
        return clone
    path = cache.make_dir(root) / clone.name
    cache.write_atomic(path, examples.text(examples.DEFAULT))
    return path


def load(paths: tuple[Path, ...]) -> tuple[Fleet, ...]:
    """Every fleet of every file; InputError when two have one name, or two models do."""
    fleets = tuple(f for p in paths for f in load_fleets(p))
    check_together(fleets)
    return fleets


def run(wish: Wish, live: bool, width: int | None = None) -> None:
    """Serves until Ctrl-C or SIGTERM drains everything; a second one kills. Returns when no process is left. The caller
    is `sole`. `width`: columns of the terminal that it prints to."""

    def tell(text: str) -> None:
        say(folded(text, width))

    tell("seawall up: " + ", ".join(f.name for f in wish.fleets))
    setup = prepare(wish, tell)
    if setup.recipes[0].engine == "sim":
        tell(view.SIM_WARNING)
    tell(f"gateway on {setup.place.url}; state and logs in {wish.state_dir}")
    asyncio.run(_serve(Supervisor(setup, on_event=lambda e: None if live else _line(e)), live))
    say("stopped; nothing is left running")


def say(line: str) -> None:
    """One line of progress, seen at once even through a pipe. Whether anybody can read it (a closed pipe, a full disk)
    is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


@contextlib.contextmanager
def sole(folder: Path) -> Iterator[None]:
    """The lock of a state folder: one `seawall up` at a time, which alone may write there. The kernel frees it when the
    process dies."""
    cache.make_private(folder)
    with (folder / "lock").open("a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = (read_json(folder / "state.json") or {}).get("pid", "unknown")
            raise InputError(
                f"`seawall up` is running already (pid {pid}).",
                "See `seawall status`, or use another --state-dir and --port.",
            ) from None
        yield


def _line(e: UpEvent) -> None:
    say(view.event_line({"at": e.at, "subject": e.subject, "text": e.text}))


async def _serve(supervisor: Supervisor, live: bool) -> None:
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sig, supervisor.stop)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_live(supervisor) if live else _plain(supervisor))
        await supervisor.run()
        watch.cancel()


def _first_ready(supervisor: Supervisor) -> bool:
    gateway = supervisor.gateway
    up = gateway is not None and gateway.life.phase is ReplicaPhase.READY
    return up and any(
        k.life.phase is ReplicaPhase.READY for f in supervisor.fleets for k in f.keepers.values()
    )


def _ready_text(supervisor: Supervisor) -> str:
    url, fleet = supervisor.setup.place.url, supervisor.fleets[0].fleet
    gateways = [f.fleet.spec.gateway for f in supervisor.fleets]
    keyed = [g for g in gateways if g.keys_file or g.tenants]
    lines = ["", f"serving {url}. Try:", ""]
    if keyed:
        keys, tenant = (
            keyed[0].keys_file or "keys.json",
            next((t.name for g in keyed for t in g.tenants), "me"),
        )
        lines += [f"# It asks for an API key. One more: {called()} keys add {tenant} --file {keys}",
                  f"export {view.KEY_VARIABLE}=...   # as `keys add` shows it", ""]  # fmt: skip
    lines.append(view.snippets(url, fleet.served_names[0], keyed=bool(keyed)))
    lines += ["", f"In another shell: {called()} chat   (or console, status, down)"]
    return "\n".join([*lines, ""])


def called(argv0: str | None = None, found: Callable[[str], str | None] = shutil.which) -> str:
    """What a person types to run this program from where it was started: `seawall` where the shell finds it, else its
    path."""
    me = Path(argv0 or sys.argv[0])
    if (there := found("seawall")) and Path(there).resolve() == me.resolve():
        return "seawall"
    if me.name != "seawall" or not me.is_file():
        return "seawall" if there else f"{sys.executable} -m seawall"
    with contextlib.suppress(ValueError):
        return str(me.absolute().relative_to(Path.cwd()))
    return str(me.absolute())


async def _plain(supervisor: Supervisor) -> None:
    while not _first_ready(supervisor):
        await asyncio.sleep(0.3)
    say(_ready_text(supervisor))


async def _live(supervisor: Supervisor) -> None:
    """The screen while it starts; then, once, what to paste, as it is and not through the screen, which would fold it;
    then the screen again below it."""
    from rich.console import Console
    from rich.live import Live

    console = Console()

    def picture() -> Any:
        return view.screen(snapshot(supervisor), console.width, min(console.height, 40))

    def screen() -> Live:
        return Live(picture(), console=console, auto_refresh=False, redirect_stderr=False)

    with screen() as starting:
        while not _first_ready(supervisor):
            starting.update(picture(), refresh=True)
            await asyncio.sleep(0.5)
        starting.transient = True
    say(_ready_text(supervisor))
    with screen() as serving:
        while True:
            serving.update(picture(), refresh=True)
            await asyncio.sleep(0.5)
