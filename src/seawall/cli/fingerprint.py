"""`seawall fingerprint`: right answers of a fleet's model, so that a replica that answers wrongly is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.files import InputFile, writable
from seawall.cli.numbers import SECONDS
from seawall.cli.output import output_option
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.decide.truth.fingerprint import Fingerprint
    from seawall.decide.truth.learn import Learned
    from seawall.domain.spec import Fleet


@click.command()
@click.argument("spec", metavar="FLEET.yaml", type=InputFile())
@click.option("--fleet", "only", metavar="NAME", help="Which, if the file holds several.")
@click.option(
    "--url", "urls", multiple=True, metavar="URL", help="Replicas that serve; two at least must agree."
)
@click.option("--lock", type=InputFile(".lock"), help="Lockfile of the weights. [FLEET.lock]")
@click.option("--out", type=click.Path(path_type=Path), help="The file. [FLEET.truth.json beside it]")
@click.option(
    "--sweep", type=click.IntRange(0), metavar="IDS",
    help="Token ids, the common ones first, whose own rows are looked at. [the whole vocabulary]",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(2, 100), default=6, show_default=True,
    help="Times that each prompt is asked beside other work, to measure what rounding does.",
)  # fmt: skip
@click.option(
    "--beside", type=click.IntRange(1, 256), default=6, show_default=True,
    help="Requests of other work at a time.",
)  # fmt: skip
@click.option(
    "--startup-budget",
    default=900.0,
    type=SECONDS,
    show_default=True,
    help="Seconds until the engine serves.",
)
@output_option
def command(
    spec: Path, only: str | None, urls: tuple[str, ...], lock: Path | None, out: Path | None, form: str, **how: Any
) -> None:  # fmt: skip
    """Write what a fleet's model answers to pinned prompts, and how far healthy answers are from that.

    Without --url every byte of the weights is compared with the lockfile, and one engine is started from them on this
    machine. With --url replicas that serve already are asked: they must agree, and two wrong ones agree, too.
    The engine key is read from SEAWALL_ENGINE_API_KEY.

    \b
    $ seawall fingerprint llama-70b.yaml
    $ seawall fingerprint llama-70b.yaml --url http://10.0.0.1:8000 --url http://10.0.0.2:8000
    """
    import asyncio

    from seawall.errors import CheckFailed, InputError
    from seawall.weights.truth_file import truth_path, write_truth

    fleet = _fleet(spec, only)
    path = out or truth_path(spec.parent, fleet.name)
    writable(path, "--out")
    if len(urls) == 1:
        raise InputError(
            "one replica agrees with itself.",
            "Name two with --url, or none: then it is made from verified weights.",
        )
    lock = lock or spec.parent / f"{fleet.name}.lock"
    learned = asyncio.run(_from_replicas(fleet, urls, how) if urls else _from_weights(fleet, lock, how))
    if learned.fingerprint is None:
        raise CheckFailed(
            f"{', '.join(learned.others)} answer {', '.join(learned.disagree[:6]) or 'the prompts'} differently: "
            "nothing was written, for one of them is wrong.",
            "Make it from verified weights: leave out --url.",
        )
    write_truth(path, learned.fingerprint)
    body = _told(fleet, path, learned, learned.fingerprint)
    if form:
        output.write(body, form)
        return
    noise = body["noise"]
    say(
        f"{path}: {body['prompts']} prompts, {body['source']}\n"
        f"  healthy answers differ by up to {noise['mean']:.2g} nats in the mean and {noise['worst']:.2g} at worst"
    )
    for name in learned.others:
        say(f"  {name} answers differently: look at its weights, its template and its flags")
    say(f"\nNext: seawall up {spec}     or     seawall render {spec} -o deploy/")


def _fleet(spec: Path, only: str | None) -> Fleet:
    from seawall.config.load import load_fleets
    from seawall.errors import InputError

    fleets = load_fleets(spec)
    found = [f for f in fleets if only in (None, f.name)]
    if len(found) != 1:
        raise InputError(
            f"{spec} holds {', '.join(f.name for f in fleets)}.", "Name one of them with --fleet."
        )
    return found[0]


def _say(text: str) -> None:
    say(text, err=True)


def _measure(how: dict[str, Any]) -> Any:
    import os

    from seawall.local.fingerprint import NoiseMeasure

    return NoiseMeasure(how["rounds"], how["beside"], os.environ.get("SEAWALL_ENGINE_API_KEY"))


async def _from_replicas(fleet: Fleet, urls: tuple[str, ...], how: dict[str, Any]) -> Learned:
    from seawall.decide.truth.prompts import prompts
    from seawall.local.fingerprint import fingerprint_of
    from seawall.weights.truth_file import identity_of

    wanted, given = prompts(), [u.rstrip("/") for u in urls]
    return await fingerprint_of(
        given, fleet.served_names[0], wanted, identity_of(fleet), "", _measure(how), _say
    )


async def _from_weights(fleet: Fleet, lock: Path, how: dict[str, Any]) -> Learned:
    import tempfile

    from seawall.decide.truth.prompts import prompts
    from seawall.drivers import cache
    from seawall.engines.sim.tokens import vocabulary
    from seawall.local import fingerprint
    from seawall.local.prepare import Wish, recipe_of
    from seawall.weights.truth_file import identity_of

    wish = Wish(specs=(), fleets=(fleet,), state_dir=Path(), cache=cache.root())
    recipe = recipe_of(fleet, wish, _say)
    if recipe.engine == "sim":
        digest, source, size = "", "the simulated engine, which has no weights", vocabulary().size
        without: set[int] = set()
    else:
        folder = Path(recipe.model)
        _say(f"comparing every byte of {folder} with what pins it")
        digest, size = fingerprint.verify(folder, lock), fingerprint.vocabulary_of(folder)
        source, without = "verified weights", fingerprint.no_text(folder)
    wanted = prompts(size, size if how["sweep"] is None else how["sweep"], without)
    with tempfile.TemporaryDirectory(prefix="seawall-") as temporary:
        log = Path(temporary) / "engine.log"
        _say("starting an engine from them")
        async with fingerprint.engine(recipe, log, how["startup_budget"]) as url:
            return await fingerprint.fingerprint_of(
                [url], fleet.served_names[0], wanted, identity_of(fleet, digest), source, _measure(how), _say
            )


def _told(fleet: Fleet, path: Path, learned: Learned, made: Fingerprint) -> dict[str, Any]:
    worst = max(k.noise.worst for k in made.known)
    mean = max(k.noise.mean for k in made.known)
    return {
        "fleet": fleet.name,
        "file": str(path),
        "prompts": len(made.known),
        "source": made.source,
        "noise": {"mean": mean, "worst": worst},
        "others": list(learned.others),
    }
