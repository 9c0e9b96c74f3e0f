"""`seawall engine`: install the real engine's environment, or run a simulated engine."""

from __future__ import annotations

import sys

import click

from seawall.cli.terminal import say
from seawall.cli.verbs import VerbGroup


@click.group(cls=VerbGroup)
def command() -> None:
    """Install the engine's environment, or run a simulated engine.

    \b
    $ seawall engine install
    $ seawall engine sim --port 8001 --model-name smollm2
    """


@command.command()
@click.option(
    "--for",
    "build",
    type=click.Choice(["auto", "cpu", "cuda", "rocm"]),
    default="auto",
    show_default=True,
    help="Which vLLM; auto: by the GPUs of this machine.",
)
@click.option(
    "--find-links", multiple=True, metavar="DIR", help="A folder of wheels (besides those pip is told)."
)
@click.option(
    "--torch-index", metavar="URL", envvar="SEAWALL_TORCH_INDEX", help="An index with torch's CPU builds."
)
@click.option("--index", metavar="URL", help="An index with vLLM's build for your GPUs (ROCm needs it).")
@click.option("--offline", is_flag=True, help="Use only what is on this machine.")
def install(
    build: str, find_links: tuple[str, ...], torch_index: str | None, index: str | None, offline: bool
) -> None:
    """Make an environment for vLLM in the cache: for this machine's GPUs, else for the CPU (2.1 GB, pinned by hash).

    `seawall up` does this by itself. A second run does nothing and needs no network. A vLLM of your own ($SEAWALL_VLLM,
    or `vllm` on the PATH) is never changed, and goes before ours for fleets on GPUs.

    \b
    $ seawall engine install
    $ seawall engine install --for cuda
    """
    from seawall.drivers import cache
    from seawall.local import engine_env
    from seawall.local.gpu_engine import build_for, own_vllm

    chosen: engine_env.Build = build_for() if build == "auto" else build  # type: ignore[assignment]  # click's choice
    if build == "auto" and chosen != "cpu" and (own := own_vllm()) is not None:
        say(f"fleets on GPUs are served by your own vLLM: {own}")
        say("Next: seawall up MODEL; for ours beside it: seawall engine install --for " + chosen)
        return
    sources = engine_env.WheelSources(
        find_links=find_links, torch_index=torch_index, index=index, offline=offline
    )
    env = engine_env.install(cache.root(), lambda line: say(line, err=True), chosen, sources)
    say(f"vLLM {env.version} ({env.build.upper()}) is ready: {env.folder}")
    say("Next: seawall up")


@command.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sim(arguments: tuple[str, ...]) -> None:
    """Run the simulated vLLM server (no model, honest queue, every failure on command).

    It takes vLLM's own flags and some of its own; `seawall engine sim --help` lists them.

    \b
    $ seawall engine sim --port 8001 --model-name smollm2 --max-num-seqs 64
    """
    from seawall.engines.sim.server import main

    sys.exit(main(list(arguments)))
