"""`seawall engine`: install the real engine's environment, or run a simulated engine."""

from __future__ import annotations

import importlib

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


@command.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def sim(flags: tuple[str, ...]) -> None:
    """Run a simulated vLLM server (flags as `vllm serve` has them; --help lists them)."""
    importlib.import_module("seawall.testing.engine").main(list(flags))
