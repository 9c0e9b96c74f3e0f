"""`seawall batch`: files of requests, answered on what interactive traffic leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from seawall.cli import output, serving, terminal
from seawall.cli.files import InputFile, OutputFile
from seawall.cli.numbers import SECONDS
from seawall.cli.output import output_option
from seawall.cli.secret_files import secret, variables
from seawall.cli.terminal import say
from seawall.cli.verbs import VerbGroup
from seawall.domain.columns import ALWAYS, Column, lay_out
from seawall.domain.switches import BATCH

URL = click.option(
    "--url", envvar="SEAWALL_URL", callback=serving.named_or_running, help=f"The gateway.  {serving.CALLED}"
)
KEY = click.option("--api-key", envvar="SEAWALL_API_KEY", help="Sent as a bearer token.")


LISTED = (
    Column("ID", ALWAYS), Column("STATUS", ALWAYS), Column("DONE", ALWAYS, right=True),
    Column("LINES", 2, right=True), Column("ENDPOINT", 1),
)  # fmt: skip

LOOK_S = 1.0
PATIENCE_S = 600.0
"""Seconds without an answer after which nobody waits any longer for a batch."""


@click.group(cls=VerbGroup)
def command() -> None:
    """Run files of requests in the batch lane: each line is answered exactly once.

    \b
    $ seawall batch submit questions.jsonl --window 24h
    $ seawall batch status
    $ seawall batch results batch_... -f answers.jsonl
    """


@command.command()
@click.argument("specs", metavar="FLEET.yaml...", nargs=-1, required=True, type=InputFile(exists=False))
@click.option("--gateway", required=True, metavar="URL", help="Where lines are sent.")
@click.option(
    "--admin", required=True, metavar="URL", help="The gateway's admin port, or that of all gateways."
)
@click.option(
    "--listen", default="127.0.0.1:8100", show_default=True, metavar="HOST:PORT", help="For the gateway."
)
@click.option(
    "--folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Files, and the store."
)
@click.option(
    "--store",
    default=None,
    metavar="ADDRESS",
    envvar="SEAWALL_BATCH_STORE",
    help="postgresql://USER@HOST/NAME, for several workers. Default: SQLite in the folder.",
)
@click.option(
    "--files",
    default=None,
    metavar="ADDRESS",
    envvar="SEAWALL_BATCH_FILES",
    help="s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, for several workers; the folder then holds copies.",
)
@click.option(
    "--secrets",
    default=None,
    type=click.Path(path_type=Path),
    help="Folder whose files are variables, as a mounted Secret: AWS_ACCESS_KEY_ID, ...",
)
@click.option(
    "--grace",
    "grace_s",
    default=30.0,
    type=SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="For lines after SIGTERM.",
)
@click.option(
    "--audit",
    default=None,
    metavar="FILE|-",
    help="One JSON line per file and batch that is made, ended or removed.",
)
@click.option(
    "--planned",
    multiple=True,
    metavar="FLEET=JSON",
    help="What a fleet was planned to do, for finish times until lines are measured. render and up write it.",
)
@click.option("--without", multiple=True, type=click.Choice(BATCH), hidden=True)
def serve(
    specs: tuple[Path, ...],
    gateway: str,
    admin: str,
    listen: str,
    folder: Path,
    store: str | None,
    files: str | None,
    secrets: Path | None,
    grace_s: float,
    audit: str | None,
    planned: tuple[str, ...],
    without: tuple[str, ...],
) -> None:
    """Serve the lane behind a gateway. `seawall up` does so where spec.gateway.batch is set.

    The secret by which the two know each other is read from SEAWALL_BATCH_SECRET, or from the file that
    SEAWALL_BATCH_SECRET_FILE names; so is the store's address from SEAWALL_BATCH_STORE.

    \b
    $ seawall batch serve fleet.yaml --gateway http://127.0.0.1:8000 --admin http://127.0.0.1:9000 --folder lane
    """
    import asyncio
    import logging
    import sys

    from seawall.batch.process import BatchSettings
    from seawall.batch.process import serve as serve_lane
    from seawall.config.load import load_fleets
    from seawall.decide.batch.planned import read_text
    from seawall.decide.batch.rules import rules_of
    from seawall.errors import InputError

    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    shared = secret("SEAWALL_BATCH_SECRET")
    if not shared:
        raise InputError(
            "SEAWALL_BATCH_SECRET is not set.", "Give the gateway and this the same long random value."
        )
    if secrets is not None:
        os.environ.update(variables(secrets))  # clients of clouds read the process's own
    rules = rules_of(f for path in specs for f in load_fleets(path))
    try:
        speeds = dict(map(read_text, planned))
    except ValueError as e:
        raise InputError(
            f"--planned {e} is not what seawall has written.",
            "Leave it out: finish times are told once lines are measured.",
        ) from None
    settings = BatchSettings(
        folder=folder, gateway=gateway, admin=admin, listen=listen,
        store=store or secret("SEAWALL_BATCH_STORE") or rules.spec.store, secret=shared,
        without=frozenset(without), grace_s=grace_s, planned=speeds, files=files or rules.spec.bucket, audit=audit,
    )  # fmt: skip

    def ready(url: str) -> None:
        click.echo(f"seawall batch serves {url}")
        sys.stdout.flush()

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_lane(settings, rules, ready))


@command.command()
@click.argument("path", metavar="LINES.jsonl", type=InputFile())
@click.option("--window", default="24h", show_default=True, help="In which it is to be done, from 10m on.")
@click.option("--endpoint", default=None, help="Such as /v1/embeddings.  [what the file's first line asks]")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Kept with the batch; repeat for more.")
@click.option("--wait", is_flag=True, help="Stay until it is over, and show its progress.")
@click.option("--results", type=OutputFile(), help="With --wait: answers go here.")
@URL
@KEY
@output_option
def submit(
    path: Path, window: str, endpoint: str | None, metadata: tuple[str, ...], wait: bool, results: Path | None,
    url: str, api_key: str | None, form: str,
) -> None:  # fmt: skip
    """Upload LINES.jsonl and make a batch of it.

    A line is {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": ...}}.

    \b
    $ seawall batch submit questions.jsonl --window 24h
    $ seawall batch submit questions.jsonl --wait --results answers.jsonl
    """
    from seawall.batch.client import BatchClient, first_endpoint
    from seawall.errors import CheckFailed, InputError

    pairs = dict(pair.partition("=")[::2] for pair in metadata)
    if any("=" not in pair for pair in metadata):
        raise InputError("--metadata needs KEY=VALUE.", "Such as --metadata run=7.")
    if results is not None and not wait:
        raise InputError("--results goes with --wait.", "Or: seawall batch results ID -f FILE.")
    with BatchClient(url, api_key) as client:
        asked = endpoint or first_endpoint(path)
        batch = client.submit(path, asked, window, pairs)
        if wait and batch["status"] != "failed":
            batch = _watch(client, batch)
        if wait and results is not None and batch["output_file_id"]:
            client.save(batch["output_file_id"], results)
    if form:
        output.write(batch, form)
    else:
        _show(batch)
    if batch["status"] == "failed":
        raise CheckFailed(f"{path} cannot be run: its lines are not right.", "Mend them and submit it again.")
    if batch["status"] in ("expired", "cancelled"):
        raise CheckFailed(
            f"{batch['id']} is {batch['status']}: not all of its lines were answered.",
            f"Those that were not: seawall batch results {batch['id']} --errors",
        )
    if not form:
        verb = "results" if batch["status"] == "completed" else "status"
        say(f"Next: seawall batch {verb} {batch['id']}")


@command.command()
@click.argument("batch", metavar="[ID]", required=False)
@click.option("--wait", is_flag=True, help="Stay until it is over.")
@URL
@KEY
@output_option
def status(batch: str | None, wait: bool, url: str, api_key: str | None, form: str) -> None:
    """Show how far a batch is, at which rate, and when it will be done. Without ID: the newest.

    \b
    $ seawall batch status
    $ seawall batch status batch_4f1c --wait
    """
    from seawall.batch.client import BatchClient
    from seawall.errors import InputError

    with BatchClient(url, api_key) as client:
        if batch is None:
            newest = client.batches(1)
            if not newest:
                raise InputError("there is no batch yet.", "Make one: seawall batch submit LINES.jsonl")
            batch = newest[0]["id"]
        found = client.batch(batch)
        if wait:
            found = _watch(client, found)
    if form:
        output.write(found, form)
    else:
        _show(found)


@command.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="So many.")
@URL
@KEY
@output_option
def list_(limit: int, url: str, api_key: str | None, form: str) -> None:
    """List batches, the newest first.

    \b
    $ seawall batch list
    """
    from seawall.batch.client import BatchClient

    with BatchClient(url, api_key) as client:
        found = client.batches(limit)
    if form:
        output.write({"batches": found}, form)
        return
    rows = []
    for batch in found:
        counts = batch["request_counts"]
        done = counts["completed"] + counts["failed"]
        share = f"{done / counts['total']:.0%}" if counts["total"] else "-"
        rows.append((batch["id"], batch["status"], share, f"{counts['total']:,}", batch["endpoint"]))
    if rows:
        click.echo("\n".join(lay_out(LISTED, rows, terminal.width()).lines()))
        click.echo(f"\nNext: seawall batch status {rows[0][0]}")
    if not found:
        say("No batch yet. Next: seawall batch submit LINES.jsonl")


@command.command()
@click.argument("batch", metavar="ID")
@URL
@KEY
@output_option
def cancel(batch: str, url: str, api_key: str | None, form: str) -> None:
    """End a batch; what was answered is kept.

    \b
    $ seawall batch cancel batch_4f1c
    """
    from seawall.batch.client import BatchClient

    with BatchClient(url, api_key) as client:
        found = client.cancel(batch)
    if form:
        output.write(found, form)
    else:
        say(f"{batch} is {found['status']}. Next: seawall batch results {batch}")


@command.command()
@click.argument("batch", metavar="ID")
@click.option("--file", "-f", "path", type=OutputFile(), help="[standard output]")
@click.option("--errors", is_flag=True, help="The lines that were refused, or came too late, instead.")
@URL
@KEY
def results(batch: str, path: Path | None, errors: bool, url: str, api_key: str | None) -> None:
    """Write the results of a batch that is over, one JSON a line, in the order of its lines.

    \b
    $ seawall batch results batch_4f1c -f answers.jsonl
    """
    from seawall.batch.client import BatchClient
    from seawall.errors import CheckFailed

    with BatchClient(url, api_key) as client:
        found = client.batch(batch)
        file = found["error_file_id" if errors else "output_file_id"]
        if file is None:
            what = "errors" if errors else "results"
            raise CheckFailed(
                f"{batch} is {found['status']} and has no {what}.", f"Look: seawall batch status {batch}"
            )
        client.save(file, path)


def _watch(client: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Shows progress until a batch is over. It goes on without us: a gateway that does not answer is asked again."""
    import time

    from seawall.cli.progress import LineProgress
    from seawall.errors import ClusterError, Stopped

    heard, name = time.monotonic(), batch["id"]
    try:
        with LineProgress(name) as bar:
            bar.at(batch)
            while batch["status"] not in ("completed", "failed", "cancelled", "expired"):
                time.sleep(LOOK_S)
                try:
                    batch, heard = client.batch(name), time.monotonic()
                    bar.at(batch)
                except ClusterError as e:
                    if time.monotonic() - heard > PATIENCE_S:
                        raise ClusterError(
                            e.message, f"The batch goes on: seawall batch status {name}"
                        ) from None
                    bar.away(e.message)
    except KeyboardInterrupt:
        raise Stopped("Nobody waits any more.", f"The batch goes on: seawall batch status {name}") from None
    return batch


def _show(batch: dict[str, Any]) -> None:
    """One batch for people."""
    import time

    from seawall.domain.units import counted, show_seconds

    counts, more = batch["request_counts"], batch.get("seawall", {})
    done = counts["completed"] + counts["failed"]
    say(f"{batch['id']}   {batch['status']}   {done:,} of {counted(counts['total'], 'line')}")
    for error in (batch["errors"] or {"data": []})["data"][:10]:
        where = f"line {error['line']}: " if error["line"] else ""
        say(f"  {where}{error['message']}")
    now = time.time()
    if counts["failed"]:
        say(
            f"  failed     {counted(counts['failed'], 'line')} (seawall batch results {batch['id']} --errors)"
        )
    if more.get("finish_at"):
        left, window = more["finish_at"] - now, batch["expires_at"] - now
        planned = " (planned: no line is measured yet)" if more.get("rate") == "planned" else ""
        say(
            f"  done in    {show_seconds(max(0, left))} at {more['lines_per_second']:g} lines/s{planned}; "
            f"its window ends in {show_seconds(max(0, window))}"
        )
    if more.get("reason"):
        say(f"  why        {more['reason']}")
    usage = batch["usage"]
    if usage["total_tokens"]:
        cost = f"   ${more['cost_usd']:.4f}" if more.get("cost_usd") else ""
        say(f"  tokens     {usage['input_tokens']:,} in, {usage['output_tokens']:,} out{cost}")
    if more.get("ran_twice"):
        say(f"  ran twice  {counted(more['ran_twice'], 'line')}: what ran them broke; each has one result")
