"""`seawall gateway`: serve fleets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from seawall.cli.files import InputFile
from seawall.cli.numbers import SECONDS
from seawall.cli.secret_files import path_in, secret
from seawall.cli.terminal import say
from seawall.domain.switches import GATEWAY
from seawall.drivers.store_client import parse_address, shown
from seawall.errors import InputError

PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("specs", metavar="FLEET.yaml...", nargs=-1, required=True, type=InputFile(exists=False))
@click.option(
    "--discovery",
    default="kubernetes",
    show_default=True,
    metavar="WHERE",
    help="Where replicas are found: file:PATH, static:URL,URL (or FLEET=URL), or kubernetes.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8000",
    show_default=True,
    metavar="HOST:PORT",
    help="For clients. Port 0: any free port.",
)
@click.option(
    "--admin",
    default="127.0.0.1:9090",
    show_default=True,
    metavar="HOST:PORT",
    help="For /console /healthz /readyz /metrics /debug/state. Keep tenants away from it.",
)
@click.option(
    "--grace",
    "grace_s",
    default=120.0,
    type=SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="After SIGTERM: how long running requests may take to finish.",
)
@click.option(
    "--keys",
    default=None,
    type=PATH,
    metavar="FILE",
    help="API keys (`seawall keys add`). Default: the specs' gateway.keysFile.",
)
@click.option(
    "--audit", default=None, metavar="FILE|-", help="One JSON line per request; - is standard output."
)
@click.option(
    "--usage", default=None, type=PATH, metavar="FILE", help="Keeps tenants' totals across restarts."
)
@click.option(
    "--tls-cert",
    default=None,
    type=PATH,
    metavar="FILE",
    help="Serve TLS with this certificate (renewals are noticed).",
)
@click.option(
    "--tls-key",
    default=None,
    type=PATH,
    metavar="FILE",
    help="The certificate's key, if it is not in the same file.",
)
@click.option(
    "--engine-ca",
    default=None,
    type=PATH,
    metavar="FILE",
    help="CA of replicas that are spoken to over https.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that share the port, the caps and the queue bounds.",
)
@click.option(
    "--keeper",
    default=None,
    type=PATH,
    metavar="SOCKET",
    help="Of a keeper: what runs goes on when this process dies.  [with --workers: one is started]",
)
@click.option(
    "--store",
    default=None,
    metavar="ADDRESS",
    envvar="SEAWALL_STORE",
    help="What several gateways share their limits through: valkey://HOST:6379/0. Default: the specs' gateway.store.",
)
@click.option(
    "--batch",
    default=None,
    metavar="HOST:PORT",
    envvar="SEAWALL_BATCH",
    help="Where `seawall batch serve` listens: /v1/files and /v1/batches go there.",
)
@click.option("--board", default=None, type=PATH, hidden=True)
@click.option("--supervisor", default=None, type=PATH, hidden=True)
@click.option("--without", multiple=True, type=click.Choice(GATEWAY), hidden=True)
def command(
    specs: tuple[Path, ...],
    discovery: str,
    listen: str,
    admin: str,
    grace_s: float,
    keys: Path | None,
    audit: str | None,
    usage: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    engine_ca: Path | None,
    workers: int,
    keeper: Path | None,
    store: str | None,
    batch: str | None,
    board: Path | None,
    supervisor: Path | None,
    without: tuple[str, ...],
) -> None:
    """Serve fleets: one OpenAI-compatible address that loses no request.

    \b
    Example, in front of two vLLM servers that run already:
    $ seawall gateway examples/smollm2.yaml --discovery static:http://127.0.0.1:8001,http://127.0.0.1:8002

    The key that engines ask for (their --api-key) is read from SEAWALL_ENGINE_API_KEY, the
    store's password from SEAWALL_STORE_PASSWORD, or from the files that these with _FILE
    at their end name (the password at every connection). SIGHUP reads the specs
    again; SIGTERM finishes what runs, then exits 0.
    """
    import logging

    from seawall.gateway import compiled

    compiled.use()
    from seawall.gateway.process.server import run
    from seawall.gateway.process.settings import Settings

    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )

    if workers > 1 and board is None:
        from seawall.gateway.process.settings import keeps, read_specs
        from seawall.gateway.process.workers import run_workers

        sys.exit(
            run_workers(
                workers, sys.argv[1:], listen, admin, _announce, keeper is None and keeps(read_specs(specs))
            )
        )
    worker = int(os.environ.get("SEAWALL_GATEWAY_WORKER", "0")) if board else 0
    settings = Settings(
        specs=specs,
        discovery=discovery,
        listen=listen,
        admin=admin,
        grace_s=grace_s,
        keys=keys,
        audit=audit,
        usage=usage.with_name(f"{usage.name}.{worker}") if usage and board else usage,
        board=board,
        store=_store(store),
        store_password=lambda: secret("SEAWALL_STORE_PASSWORD"),
        store_ca=path_in("SEAWALL_STORE_CA_FILE"),
        supervisor=supervisor,
        batch=batch or None,
        batch_secret=secret("SEAWALL_BATCH_SECRET"),
        worker=worker,
        workers=workers,
        keeper=keeper,
        seat=f"worker {worker}" if board else "gateway",
        parent=int(os.environ.get("SEAWALL_GATEWAY_PARENT", "0")) if board else 0,
        tls_cert=tls_cert,
        tls_key=tls_key,
        engine_ca=engine_ca,
        without=frozenset(without),
        engine_key=secret("SEAWALL_ENGINE_API_KEY"),
    )

    sys.exit(run(settings, _announce if board is None else _announce_worker))


def _store(named: str | None) -> str | None:
    """The store's address. Who lists processes sees arguments: none holds a password."""
    source = click.get_current_context().get_parameter_source("store")
    if named and source is ParameterSource.COMMANDLINE and parse_address(named).password:
        raise InputError(
            f"--store {shown(named)}: holds a password, which whoever lists processes sees.",
            "Leave it out, and name its file: SEAWALL_STORE_PASSWORD_FILE=PATH.",
        )
    return named or secret("SEAWALL_STORE")


def _announce(url: str, admin_url: str) -> None:
    _announce_worker(url, admin_url)
    say(f"Next: curl {url}/v1/models")
    sys.stdout.flush()


def _announce_worker(url: str, admin_url: str) -> None:
    click.echo(f"seawall gateway serves {url}   admin {admin_url}")
    sys.stdout.flush()
