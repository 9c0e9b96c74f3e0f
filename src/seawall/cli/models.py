"""`seawall models`: the registry of weights that fleets refer to by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from seawall.cli import complete, output
from seawall.cli.files import InputFile, InputFolder, writable_folder
from seawall.cli.output import output_option
from seawall.cli.terminal import say
from seawall.cli.verbs import VerbGroup
from seawall.domain.spec import Quantization

if TYPE_CHECKING:
    from seawall.weights.lockfile import Lock

_REGISTRY = click.option(
    "--registry", type=InputFolder(), default=Path("models"), show_default=True,
    envvar="SEAWALL_MODELS", help="Folder of Model documents.",
)  # fmt: skip


@click.group(cls=VerbGroup)
def command() -> None:
    """Name weights once, pinned and verified; fleets then say `source: model://name`.

    \b
    $ seawall models add qwen3-8b hf://Qwen/Qwen3-8B --to /models/qwen3-8b
    $ seawall models list
    """


@command.command("list")
@_REGISTRY
@click.option(
    "--specs", type=InputFolder(exists=True), default=Path(), help="Folder of specs: who uses what. [.]"
)
@output_option
def list_models(registry: Path, specs: Path, form: str) -> None:
    """List models with size, licence, quantization and the fleets that use them.

    \b
    $ seawall models list
    """

    from seawall.cli import terminal
    from seawall.config.registry import read_models, users
    from seawall.domain.columns import ALWAYS, Column, lay_out
    from seawall.domain.units import show_bytes

    models = read_models(registry)
    used = users(models, sorted(specs.glob("*.yaml")))
    if form:
        rows = [
            {"name": n, "source": m.spec.source, "size": m.spec.size, "usedBy": used[n]}
            for n, m in models.items()
        ]
        output.write({"models": rows}, form)
        return
    if not models:
        say(f"no model in {registry}\n\nNext: seawall models add NAME SOURCE --to DIR")
        return
    columns = [Column("NAME", ALWAYS), Column("SOURCE", 2), Column("SIZE", 4), Column("LICENCE", 1), Column("QUANT", 3),
               Column("USED BY", ALWAYS)]  # fmt: skip
    lines: list[tuple[str, ...]] = []
    for name, m in models.items():
        size = show_bytes(m.spec.size) if m.spec.size else "?"
        facts = (m.spec.licence or "?", m.spec.quantization or "-", ", ".join(used[name]) or "-")
        lines.append((name, m.spec.source, size, *facts))
    click.echo("\n".join(lay_out(columns, lines, terminal.width()).lines()))


@command.command()
@click.argument("name", metavar="MODEL", shell_complete=complete.models)
@_REGISTRY
def show(name: str, registry: Path) -> None:
    """Print one Model document.

    \b
    $ seawall models show qwen3-8b
    """
    from seawall.config.registry import read_models
    from seawall.errors import InputError

    models = read_models(registry)
    if name not in models:
        near = difflib.get_close_matches(name, models, 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"{registry} has no model {name!r:.80}.", f"{hint}See: seawall models list")
    click.echo((registry / f"{name}.yaml").read_text("utf-8"), nl=False)


@command.command()
@click.argument("name")
@click.argument("source")
@click.option(
    "--to", "directory", type=click.Path(file_okay=False, path_type=Path), help="Pull and verify into here."
)
@click.option(
    "--lock", type=InputFile(".lock"), help="A lockfile: what it pins is entered, nothing is pulled."
)
@click.option("--revision", help="Commit, tag or branch (hf://, oci://).")
@click.option("--licence", help="SPDX name, such as Apache-2.0.")
@click.option(
    "--quantization",
    type=click.Choice(get_args(Quantization)),
    help="Of the weights, where their config does not say.",
)
@_REGISTRY
def add(
    name: str, source: str, directory: Path | None, lock: Path | None, revision: str | None, licence: str | None,
    quantization: Quantization | None, registry: Path,
) -> None:  # fmt: skip
    """Verify weights and enter them into the registry, with revision, size and lock digest.

    \b
    $ seawall models add qwen3-8b hf://Qwen/Qwen3-8B --to /models/qwen3-8b --licence Apache-2.0
    """
    import json

    from seawall.config.registry import check_name, write_model
    from seawall.domain.registry import ModelDocument, ModelFacts
    from seawall.domain.spec import Metadata
    from seawall.errors import InputError
    from seawall.weights.lockfile import read_lock

    check_name(name)  # before gigabytes are fetched for it
    if (directory is None) == (lock is None):
        raise InputError(
            "what shall be verified?",
            f"Pull it: seawall models add {name:.60} {source:.200} --to models/{name:.60}\n"
            "Or take what a lockfile pins: --lock FILE.",
        )
    config = None
    writable_folder(directory, "--to")
    writable_folder(registry, "--registry")
    if directory is not None:
        pinned = _pull(source, directory, revision)
        if (directory / "config.json").is_file():
            config = json.loads((directory / "config.json").read_bytes())
    else:
        assert lock is not None
        pinned = read_lock(lock)
    facts = ModelFacts(
        source=source, revision=pinned.revision, lock_digest=pinned.digest, size=pinned.total_bytes,
        licence=licence, quantization=quantization, config=config,
    )  # fmt: skip
    path = write_model(registry, ModelDocument(metadata=Metadata(name=name), spec=facts))
    say(f"wrote {path}\n\nNext: in a Fleet, model: {{source: model://{name}}}")


def _pull(source: str, directory: Path, revision: str | None) -> Lock:
    import os

    from seawall.cli.progress import PullProgress
    from seawall.weights.pull import Order, pull

    with PullProgress("pulling", None) as progress:
        order = Order(source, directory, directory / "seawall.lock", revision)
        return pull(order, dict(os.environ), progress, progress.total).lock
