"""`seawall rollout`: restart or scale what `seawall up` runs; canaries on a cluster (rollout_canary.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from seawall.cli import complete, output
from seawall.cli.numbers import SECONDS
from seawall.cli.output import output_option
from seawall.cli.rollout_canary import add_to
from seawall.cli.terminal import say
from seawall.cli.verbs import VerbGroup
from seawall.domain.units import counted

_STATE = click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`."
)
_FLEET = click.option("--fleet", "named", shell_complete=complete.fleets, help="Which, if several run.")
_TIMEOUT = click.option("--timeout", default=1800.0, type=SECONDS, show_default=True, help="Seconds to wait.")


@click.group(cls=VerbGroup)
def command() -> None:
    """Replace replicas without dropping a request: restart and scale here, canaries on a cluster.

    \b
    $ seawall rollout restart
    $ seawall rollout scale 2
    $ seawall rollout start examples/canary.yaml --context prod
    """


@command.command()
@click.argument("fleet", required=False, shell_complete=complete.fleets)
@_FLEET
@_STATE
@_TIMEOUT
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until every replica is replaced.")
@output_option
def restart(
    fleet: str | None, named: str | None, state_dir: Path | None, timeout: float, wait: bool, form: str
) -> None:
    """Replace every replica: start one more, prove it, drain an old one, until none is old.

    \b
    $ seawall rollout restart
    $ seawall rollout restart llama-70b        when several fleets run
    """
    from seawall.local import control

    folder = control.state_dir(state_dir)
    began = control.ask(folder, do="restart", fleet=_one(fleet, named))
    tell: Callable[[str], None] = _nothing if form else say
    with _goes_on(began["fleet"], "the restart"):
        tell(f"{began['fleet']}: rolling restart, generation {began['generation']}")
        if wait:
            _settle(folder, began["fleet"], timeout, tell)
    if form:
        output.write(began | {"done": wait}, form)


@command.command()
@click.argument("words", metavar="[FLEET] REPLICAS", nargs=-1, required=True, shell_complete=complete.scaled)
@_FLEET
@_STATE
@_TIMEOUT
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until so many are ready.")
@output_option
def scale(
    words: tuple[str, ...], named: str | None, state_dir: Path | None, timeout: float, wait: bool, form: str
) -> None:
    """Set the number of replicas by hand, or give it back to the autoscaler with `auto`.

    \b
    $ seawall rollout scale 2
    $ seawall rollout scale auto
    $ seawall rollout scale llama-70b 2        when several fleets run
    """
    from seawall.errors import InputError
    from seawall.local import control

    folder = control.state_dir(state_dir)
    *fleets, replicas = words
    if len(fleets) > 1:
        raise InputError(
            f"{' '.join(words)!r:.80}: too many words.", "Write: seawall rollout scale [FLEET] REPLICAS"
        )
    if replicas != "auto" and not (replicas.isascii() and replicas.isdigit()):
        raise InputError(
            f"{replicas!r:.80} is not a number of replicas.",
            f"Write a number, or `auto`; for example: seawall rollout scale {fleets[0] if fleets else replicas:.80} 2",
        )
    count = None if replicas == "auto" else int(replicas)
    answer = control.ask(folder, do="scale", fleet=_one(*fleets, named), replicas=count)
    tell: Callable[[str], None] = _nothing if form else say
    what = "scaled by demand" if count is None else f"{counted(count, 'replica')} wanted"
    with _goes_on(answer["fleet"], "the change"):
        tell(f"{answer['fleet']}: {what}")
        if wait and count is not None:
            _settle(folder, answer["fleet"], timeout, tell)
    if form:
        output.write(answer, form)


def _nothing(text: str) -> None:
    """What is said to a program that wants data only."""


def _one(*names: str | None) -> str | None:
    """The fleet that was named, as a word or by --fleet."""
    from seawall.errors import InputError

    given = list(dict.fromkeys(n for n in names if n))
    if len(given) > 1:
        raise InputError(f"two fleets are named: {given[0]} and {given[1]}.", "Name one.")
    return given[0] if given else None


@command.command()
@_STATE
@output_option
def gateway(state_dir: Path | None, form: str) -> None:
    """Restart the gateway: a new one takes the port over, the old finishes what it has accepted.

    \b
    $ seawall rollout gateway
    """
    from seawall.local import control

    control.ask(control.state_dir(state_dir), do="restart-gateway")
    if form:
        output.write({"gateway": "replaced"}, form)
        return
    say("a new gateway takes over; the old one finishes what it has accepted")


@contextmanager
def _goes_on(fleet: str, what: str) -> Iterator[None]:
    """Ctrl-C ends the looking, and says so: what was begun goes on."""
    from seawall.errors import Stopped

    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(
            f"no longer watching; {what} of {fleet} goes on by itself.",
            f"Look at it: seawall status {fleet} -w",
        ) from None


def _settle(folder: Path, fleet: str, timeout: float, tell: Callable[[str], None]) -> None:
    """Prints the events of the change as they come; returns when the fleet has settled."""
    from seawall.errors import CheckFailed
    from seawall.local import control, view

    end, last = time.monotonic() + timeout, time.time()
    while True:
        status = control.ask(folder, do="status")
        for e in status["events"]:
            if e["at"] > last:
                last = e["at"]
                tell("  " + view.event_line(e))
        mine = next(f for f in status["fleets"] if f["name"] == fleet)
        if mine["settled"]:
            tell(f"done: {mine['ready']} of {mine['wanted']} ready, generation {mine['generation']}")
            return
        if time.monotonic() > end:
            raise CheckFailed(
                f"{fleet} has not settled after {timeout:.0f} s.",
                "See `seawall status`; it goes on by itself.",
            )
        time.sleep(0.5)


add_to(command)
