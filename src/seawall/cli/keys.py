"""`seawall keys`: API keys for the gateway's tenants."""

from __future__ import annotations

from pathlib import Path

import click

from seawall.cli import output, serving
from seawall.cli.files import ChangedFile, InputFile
from seawall.cli.output import output_option
from seawall.cli.terminal import say
from seawall.cli.verbs import VerbGroup

_HELP = "The keys file that the gateway watches (--keys FILE)."
FILE = click.option("--file", "path", required=True, type=ChangedFile(), help=_HELP)
READ = click.option("--file", "path", required=True, type=InputFile(".json", exists=False), help=_HELP)


@click.group(cls=VerbGroup)
def command() -> None:
    """Make, list and revoke API keys. The file holds hashes only; a key is shown once.

    \b
    $ seawall keys add team-a --file keys.json --models llama-70b --requests-per-minute 600
    $ seawall gateway fleet.yaml --keys keys.json --discovery static:http://127.0.0.1:8001
    """


@command.command()
@click.argument("tenant")
@FILE
@click.option("--models", default="", metavar="A,B", help="Models it may use. Default: all of its tenant.")
@click.option("--requests-per-minute", type=click.IntRange(1), default=None, help="Default: no limit.")
@click.option("--tokens-per-minute", type=click.IntRange(1), default=None, help="Default: no limit.")
@click.option("--token-quota", type=click.IntRange(1), default=None, help="Tokens in all.")
@click.option("--expires", default=None, metavar="DURATION", help="Such as 30d. Default: never.")
@click.option("--note", default="", help="For you: what it is for.")
@output_option
def add(tenant: str, path: Path, models: str, expires: str | None, form: str, **limits: object) -> None:
    """Make a key for TENANT and show it, once.

    \b
    $ seawall keys add team-a --file keys.json
    $ seawall keys add team-a --file keys.json --models llama-70b --expires 30d
    """
    import time

    from seawall.domain.tenant_names import TENANT, TENANT_CURE
    from seawall.domain.units import parse_seconds
    from seawall.errors import InputError
    from seawall.gateway.tell import keyring

    if not TENANT.fullmatch(tenant):
        raise InputError(
            f"{tenant!r:.80} is no name for a tenant.", f"{TENANT_CURE[0].upper()}{TENANT_CURE[1:]}."
        )
    until = None
    if expires is not None:
        try:
            until = int(time.time() + parse_seconds(expires))
        except ValueError as e:
            raise InputError(
                f"--expires {expires!r}: {e}.",
                f"For example: seawall keys add {tenant} --file {path} --expires 30d",
            ) from None
    allowed = tuple(m.strip() for m in models.split(",") if m.strip())
    secret, key = keyring.make(tenant, models=allowed, expires=until, **limits)
    keyring.change(path, add=key)
    if form:
        output.write({"id": key.id, "tenant": tenant, "key": secret}, form)
        return
    click.echo(f"{secret}\n")
    say(f"Shown only this once: {path} keeps a hash. A running gateway knows it within a second.")
    say(f"Undo: seawall keys revoke {key.id} --file {path}")
    where = serving.address()
    click.echo(f"Next: curl -H 'Authorization: Bearer KEY' {where or 'ADDRESS'}/v1/models")
    if where is None:
        say("      ADDRESS: what `seawall up` or `seawall gateway` has printed")


@command.command(name="list")
@READ
@output_option
def list_(path: Path, form: str) -> None:
    """List keys: ids, tenants and limits; the keys themselves are kept nowhere.

    \b
    $ seawall keys list --file keys.json
    """
    import time

    from seawall.cli import terminal
    from seawall.domain.columns import ALWAYS, Column, lay_out
    from seawall.gateway.tell import keyring

    keys = keyring.read(path, new=True).keys
    if form:
        rows = [{n: getattr(k, n) for n in k.__struct_fields__ if n != "sha256"} for k in keys]
        output.write({"keys": rows}, form)
        return
    columns = [Column("ID", ALWAYS), Column("TENANT", ALWAYS), Column("STATE", ALWAYS), Column("MADE", 1),
               Column("MODELS", 2), Column("NOTE", ALWAYS)]  # fmt: skip
    table: list[tuple[str, ...]] = []
    for k in keys:
        state = "expired" if k.expires and k.expires < time.time() else "valid"
        made = time.strftime("%Y-%m-%d", time.gmtime(k.created))
        models = ",".join(k.models) or "all models"
        table.append((k.id, k.tenant, state, made, models, k.note))
    if keys:
        click.echo("\n".join(lay_out(columns, table, terminal.width()).lines()))
    else:
        say(f"No key yet. Next: seawall keys add TENANT --file {path}")


@command.command()
@click.argument("ident", metavar="ID")
@FILE
@output_option
def revoke(ident: str, path: Path, form: str) -> None:
    """Revoke a key by its id (in `list`, in the audit log, and in the key itself).

    \b
    $ seawall keys revoke 3f9c2a71 --file keys.json
    """
    from seawall.errors import InputError
    from seawall.gateway.tell import keyring

    if keyring.change(path, revoke=ident) is None:
        raise InputError(f"no key has the id {ident:.80}.", f"See: seawall keys list --file {path}")
    if form:
        output.write({"id": ident, "revoked": True}, form)
        return
    say(f"{ident} is revoked; a running gateway refuses it within a second.")
