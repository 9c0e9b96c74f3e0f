"""`seawall init`: a commented Fleet to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from seawall.cli.files import OutputFile
from seawall.domain.spec import Hardware


def _clouds() -> list[str]:
    from typing import get_type_hints

    return list(get_args(get_type_hints(Hardware)["cloud"]))


def _examples() -> list[str]:
    from seawall.config import examples

    return examples.names()


def _alone(model: str | None) -> None:
    """InputError where flags beside --example would be ignored in silence."""
    from click.core import ParameterSource

    from seawall.errors import InputError

    context = click.get_current_context()
    given = [n for n in context.params if context.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    beside = [n for n in given if n not in ("model", "example", "file", "force")]
    if model or beside:
        what = f"--{beside[0].replace('most', 'max')}" if beside else f"the model {model}"
        raise InputError(
            f"--example is a whole Fleet: {what} would not be used.", "Leave it out, and edit the file."
        )


@click.command()
@click.argument("model", required=False)
@click.option(
    "--example", type=click.Choice(_examples()), help="A Fleet that the package carries, instead of a model."
)
@click.option("--name", help="The fleet's name.  [the model's]")
@click.option("-n", "--namespace", help="Kubernetes namespace.")
@click.option("--gpu", default="auto", show_default=True, help="A catalogue name, cpu, or auto: planned.")
@click.option("--gpus", type=click.IntRange(1, 1024), metavar="N", help="GPUs per replica.  [planned]")
@click.option("--cloud", type=click.Choice(_clouds()), help="Where it will run.")
@click.option("--context", metavar="TOKENS", help="The longest context, such as 16k.  [the model's own]")
@click.option("--replicas", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option(
    "--max", "most", type=click.IntRange(1, 1000), metavar="N", help="Replicas at most.  [--replicas]"
)
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]))
@click.option("-w", "--write", "file", type=OutputFile(), help="[NAME.yaml; -: stdout]")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def command(model: str | None, example: str | None, file: Path | None, force: bool, **wished: Any) -> None:
    """Write a commented Fleet: a model, its hardware, how it scales; the rest is planned or defaulted.

    MODEL is a hub name, a folder, or hf://, pypi://, s3://. Without one it is the model of `seawall up`, on the CPU.

    \b
    $ seawall init Qwen/Qwen3-8B --gpu L40S --cloud gke
    $ seawall init Qwen/Qwen3-8B -w -
    $ seawall init --example canary
    """
    from seawall.config import examples
    from seawall.config.from_model import FleetWish, fleet_text, label_of, source_of
    from seawall.config.load import parse_fleets
    from seawall.drivers import cache
    from seawall.errors import InputError

    if example is not None:
        _alone(model)
    if model is None:
        name = example or wished["name"] or examples.DEFAULT
        text = examples.text(example or examples.DEFAULT)
    else:
        if wished["gpu"] == "cpu" and wished["cloud"] is None:
            wished["cloud"] = "local"
        name = wished["name"] or label_of(source_of(model))
        text = fleet_text(model, FleetWish(**wished))
    (fleet,) = parse_fleets(text, "the new Fleet")
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    path = file or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already.", "Name another with --write, or replace it with --force."
        )
    try:
        cache.write_atomic(path, text)
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}.", "Name another place with --write.") from None
    click.echo(f"wrote {path}: {fleet.name}\n\nNext: seawall plan {path}")
