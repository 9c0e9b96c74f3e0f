"""`seawall up`: serve fleets on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from seawall.cli.files import InputFile
from seawall.domain.switches import GATEWAY, LOCAL


@click.command()
@click.argument("specs", metavar="[FLEET.yaml]...", nargs=-1, type=InputFile(exists=False))
@click.option(
    "--engine",
    type=click.Choice(["vllm", "sim"]),
    help="Overrides the spec. `sim` answers with made-up text.",
)
@click.option("--port", default=8000, show_default=True, help="The gateway's port. 0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 serves the whole network.")
@click.option(
    "--admin-port", default=0, help="The gateway's /metrics and /debug/state. Default: any free one."
)
@click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Default: `up` in the cache."
)
@click.option(
    "--startup-budget", default=900.0, show_default=True, help="Seconds until a replica must serve."
)
@click.option("--plain", is_flag=True, help="Log lines instead of the live screen.")
@click.option("--without", multiple=True, type=click.Choice([*LOCAL, *GATEWAY]), hidden=True)
def command(
    specs: tuple[Path, ...], engine: str | None, port: int, host: str, admin_port: int, state_dir: Path | None,
    startup_budget: float, plain: bool, without: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve fleets on this machine: replicas, gateway, autoscaling.

    Without FLEET.yaml it serves SmolLM2-135M-Instruct on vLLM's CPU engine. The first run installs the engine
    and converts the weights (2.5 GB in the cache); later runs need no network. Ctrl-C drains and stops.

    \b
    $ seawall up
    $ seawall up my.yaml --port 8001
    $ seawall up --engine sim
    """
    from seawall.drivers import cache
    from seawall.local import control, session
    from seawall.local.prepare import Wish

    paths = specs or (session.default_spec(cache.root()),)
    wish = Wish(
        specs=paths, fleets=session.load(paths), state_dir=control.state_dir(state_dir), cache=cache.root(),
        engine=engine, host=host, port=port, admin_port=admin_port, startup_s=startup_budget,
        without=frozenset(without),
    )  # fmt: skip
    session.run(wish, live=not plain and sys.stdout.isatty())
