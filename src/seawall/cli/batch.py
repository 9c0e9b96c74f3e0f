"""`seawall batch`: files of requests, answered on what interactive traffic leaves."""

from __future__ import annotations

import os
from pathlib import Path

import click

from seawall.cli.files import InputFile

URL = click.option(
    "--url", default="http://127.0.0.1:8000", show_default=True, envvar="SEAWALL_URL", help="The gateway."
)
KEY = click.option("--api-key", envvar="SEAWALL_API_KEY", help="Sent as a bearer token.")


@click.group()
def command() -> None:
    """Run files of requests in the batch lane: each line is answered exactly once.

    \b
    Example:
      seawall batch submit questions.jsonl --window 24h
      seawall batch status
      seawall batch results batch_... -o answers.jsonl
    """


@command.command()
@click.argument("specs", metavar="FLEET.yaml...", nargs=-1, required=True, type=InputFile(exists=False))
@click.option("--gateway", required=True, metavar="URL", help="Where lines are sent.")
@click.option(
    "--admin", required=True, metavar="URL", help="The gateway's admin port, or that of all gateways."
)
@click.option(
    "--listen", default="127.0.0.1:8100", show_default=True, metavar="HOST:PORT", help="For the gateway."
)
@click.option(
    "--folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Files, and the store."
)
@click.option(
    "--store",
    default=None,
    metavar="ADDRESS",
    envvar="SEAWALL_BATCH_STORE",
    help="postgresql://USER@HOST/NAME, for several workers. Default: SQLite in the folder.",
)
@click.option(
    "--grace", "grace_s", default=30.0, show_default=True, metavar="SECONDS", help="For lines after SIGTERM."
)
def serve(
    specs: tuple[Path, ...],
    gateway: str,
    admin: str,
    listen: str,
    folder: Path,
    store: str | None,
    grace_s: float,
) -> None:
    """Serve the lane behind a gateway. `seawall up` does so where spec.gateway.batch is set.

    The secret by which the two know each other is read from SEAWALL_BATCH_SECRET.
    """
    import asyncio
    import logging
    import sys

    from seawall.batch.process import BatchSettings
    from seawall.batch.process import serve as serve_lane
    from seawall.batch.rules import rules_of
    from seawall.config.load import load_fleets
    from seawall.errors import InputError

    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    secret = os.environ.get("SEAWALL_BATCH_SECRET")
    if not secret:
        raise InputError(
            "SEAWALL_BATCH_SECRET is not set.", "Give the gateway and this the same long random value."
        )
    rules = rules_of(f for path in specs for f in load_fleets(path))
    settings = BatchSettings(
        folder=folder, gateway=gateway, admin=admin, listen=listen,
        store=store or rules.spec.store, secret=secret, grace_s=grace_s,
    )  # fmt: skip

    def ready(url: str) -> None:
        click.echo(f"seawall batch serves {url}")
        sys.stdout.flush()

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_lane(settings, rules, ready))
