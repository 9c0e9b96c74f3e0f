"""`seawall engine`: install the real engine's environment, or run a simulated engine."""

from __future__ import annotations

import sys

import click


@click.group()
def command() -> None:
    """Install the engine's environment, or run a simulated engine."""


@command.command()
@click.option(
    "--find-links", multiple=True, metavar="DIR", help="A folder of wheels (besides those pip is told)."
)
@click.option(
    "--torch-index", metavar="URL", envvar="SEAWALL_TORCH_INDEX", help="An index with torch's CPU builds."
)
@click.option("--offline", is_flag=True, help="Use only what is on this machine.")
def install(find_links: tuple[str, ...], torch_index: str | None, offline: bool) -> None:
    """Make vLLM's own environment (CPU, 2.1 GB) in the cache, pinned by hash.

    `seawall up` does this by itself. A second run does nothing and needs no network.

    \b
    $ seawall engine install
    """
    from seawall.drivers import cache
    from seawall.local import engine_env

    env = engine_env.install(
        cache.root(), lambda line: click.echo(line, err=True), find_links=find_links, torch_index=torch_index,
        offline=offline,
    )  # fmt: skip
    click.echo(f"vLLM {env.version} (CPU) is ready: {env.folder}")
    click.echo("Next: seawall up")


@command.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sim(arguments: tuple[str, ...]) -> None:
    """Run the simulated vLLM server (no model, honest queue, every failure on command).

    It takes vLLM's own flags and some of its own; `seawall engine sim --help` lists them.

    \b
    Example:
      seawall engine sim --port 8001 --model-name smollm2 --max-num-seqs 64
    """
    from seawall.engines.sim.server import main

    sys.exit(main(list(arguments)))
