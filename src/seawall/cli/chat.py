"""`seawall chat`: talk to a served model in the terminal."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seawall.cli import complete, serving
from seawall.cli.numbers import Finite

if TYPE_CHECKING:
    from seawall.local.talk import Talk

HELP = """/system TEXT  what the model is told before everything else; without TEXT: nothing
/model NAME   another model; without NAME: which there are
/new          forget what was said
/quit         end (as Ctrl-D does); Ctrl-C ends an answer"""


@click.command()
@click.argument("model", required=False, shell_complete=complete.fleets)
@click.option("--url", help=f"The server.  {serving.CALLED}")
@click.option(
    "--api-key", envvar="SEAWALL_API_KEY", help="Sent as a bearer token; better in SEAWALL_API_KEY."
)
@click.option("--system", help="What the model is told before everything else.")
@click.option("--max-tokens", type=click.IntRange(1), help="The longest answer.  [the server's]")
@click.option("--temperature", type=Finite(0, 2), help="0: always the likeliest.  [the model's]")
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Of that `seawall up`.")
def command(
    model: str | None, url: str | None, api_key: str | None, system: str | None, max_tokens: int | None,
    temperature: float | None, state_dir: Path | None,
) -> None:  # fmt: skip
    """Talk to a served model. Answers stream; below each stands how fast it came, and whether it was resumed.

    Input that does not come from a keyboard is one question: its answer goes to standard output, and nothing else does.

    \b
    $ seawall chat
    $ seawall chat smollm2 --system 'Answer in one sentence.'
    $ echo 'What is the capital of France?' | seawall chat
    """
    from seawall.local.talk import Talk

    where = (url or serving.address(state_dir) or serving.USUAL).rstrip("/").removesuffix("/v1")
    talk = Talk(url=where, model=model or "", key=api_key, max_tokens=max_tokens, temperature=temperature)
    names = talk.models()
    if not names:
        from seawall.errors import InputError

        raise InputError(f"{where} serves no model.", "See `seawall status`.")
    talk.model = _chosen(model, names)
    if system:
        talk.system(system)
    if sys.stdin.isatty():
        _converse(talk, state_dir, bool(url))
    else:
        question = sys.stdin.read(2**20).strip()
        if not question:
            from seawall.errors import InputError

            raise InputError(
                "standard input is empty.", "Pipe a question into it, or call it from a terminal."
            )
        _answer(talk, question, None)


def _chosen(wanted: str | None, names: list[str]) -> str:
    import difflib

    from seawall.errors import InputError

    if wanted is None:
        return names[0]
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(wanted, names, 1)
    raise InputError(
        f"no model {wanted!r:.80} is served.",
        f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names[:10])}.",
    )


def _converse(talk: Talk, state_dir: Path | None, elsewhere: bool) -> None:
    from seawall.errors import SeawallError

    _history()
    click.echo(f"{talk.model} at {talk.url}   /help tells more, Ctrl-D ends\n")
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if line in ("/quit", "/exit", "/bye"):
            return
        if not line:
            continue
        try:
            if line.startswith("/"):
                _command(talk, line)
            else:
                _answer(talk, line, None if elsewhere else _Resumed(state_dir, talk.model))
        except SeawallError as e:
            click.echo(f"seawall: {e.message}\n  {e.cure}", err=True)


def _command(talk: Talk, line: str) -> None:
    word, _, rest = line.partition(" ")
    match word:
        case "/system":
            talk.system(rest.strip())
            click.echo("from the next answer on" if rest.strip() else "no system text any more")
        case "/model":
            names = talk.models()
            if rest.strip():
                talk.model = _chosen(rest.strip(), names)
            click.echo("\n".join(f"{'*' if n == talk.model else ' '} {n}" for n in names))
        case "/new" | "/clear":
            talk.anew()
            click.echo("forgotten")
        case _:
            click.echo(HELP)


def _answer(talk: Talk, question: str, resumed: _Resumed | None) -> None:
    """Prints the answer as it comes; on a keyboard also how it came. Ctrl-C ends it there."""
    from seawall.local.talk import TalkTiming

    timing, talking = TalkTiming(), resumed is not None or sys.stdin.isatty()
    pieces = talk.ask(question, timing)
    try:
        with contextlib.closing(pieces):  # type: ignore[type-var]  # a generator: closing it ends the request
            for piece in pieces:
                click.echo(piece, nl=False)
                sys.stdout.flush()
    except KeyboardInterrupt:
        if not talking:
            raise
        click.echo("\n(stopped)", nl=False)
    click.echo()
    if talking:
        told = resumed.told() if resumed else ""
        click.echo(click.style(f"  {timing.told()}{told}\n", dim=True))


class _Resumed:
    """Whether the gateway resumed streams of this model's fleet while an answer came: its own count, asked before and
    after (what `status` shows may be a second old)."""

    def __init__(self, state_dir: Path | None, model: str) -> None:
        self._address = self._fleet = None
        status = serving.status(state_dir)
        if status is not None:
            self._address = f"{status['gateway']['admin_url']}/debug/state"
            self._fleet = next((f["name"] for f in status["fleets"] if model in f["models"]), None)
        self._before = self._count()

    def _count(self) -> int | None:
        import httpx2

        if self._address is None or self._fleet is None:
            return None
        try:
            page = httpx2.get(self._address, timeout=2, trust_env=False).json()
            return int(page["fleets"][self._fleet]["resumed_total"])
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return None

    def told(self) -> str:
        """`; a replica failed meanwhile, another continued 1 stream`; empty when none was resumed."""
        now = self._count()
        if self._before is None or now is None or now <= self._before:
            return ""
        from seawall.domain.units import counted

        return f"; a replica failed meanwhile, another continued {counted(now - self._before, 'stream')}"


def _history() -> None:
    """Arrow keys, and the questions of earlier conversations, where Python has readline."""
    with contextlib.suppress(ImportError, OSError):
        import atexit
        import readline

        from seawall.drivers import cache

        file = cache.root() / "chat_history"
        if file.exists():
            readline.read_history_file(file)
        readline.set_history_length(1000)

        def keep() -> None:
            with contextlib.suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(0o600)
                readline.write_history_file(file)

        atexit.register(keep)
