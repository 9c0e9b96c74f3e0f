"""A snapshot as text or as a live screen: what a person sees of `seawall up` and `seawall status`.

Snapshots in, lines out; nothing is asked or changed here. Everything takes the width it may use: what matters least
is left out on a narrow terminal, and nothing is cut in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from seawall.domain.columns import ALWAYS, Column, Laid, lay_out, parts_wrapped, wrapped
from seawall.domain.units import show_bytes, show_seconds
from seawall.errors import InputError

_STYLE = {"ready": "green", "failed": "red", "draining": "yellow", "starting": "cyan", "proving": "cyan"}
_PHASE = 1

COLUMNS = (
    Column("NAME", ALWAYS), Column("PHASE", ALWAYS), Column("FOR", 80), Column("LOAD", 70), Column("MEMORY", 20),
    Column("ADDRESS", 30), Column("PID", 40), Column("WHY", ALWAYS),
)  # fmt: skip


def only(snapshot: Mapping[str, Any], fleet: str) -> dict[str, Any]:
    """The snapshot with one fleet, its replicas and their events. InputError when none is named so."""
    names = [f["name"] for f in snapshot["fleets"]]
    if fleet not in names:
        raise InputError(f"there is no fleet {fleet!r} here.", f"Running: {', '.join(names)}.")
    replicas = [r for r in snapshot["replicas"] if r["fleet"] == fleet]
    mine = {fleet, *(r["name"] for r in replicas)}
    return {
        **snapshot,
        "fleets": [f for f in snapshot["fleets"] if f["name"] == fleet],
        "replicas": replicas,
        "events": [e for e in snapshot["events"] if e["subject"] in mine],
    }


def replica_rows(snapshot: Mapping[str, Any]) -> list[list[str]]:
    """One row per kept process: name, phase, for how long, load, memory, address, pid, reason."""
    return [_row(r) for r in [snapshot["gateway"], *snapshot["replicas"]] if "name" in r]


def _row(r: Mapping[str, Any]) -> list[str]:
    load = f"{r['running']:.0f} running, {r['waiting']:.0f} waiting" if r.get("running") is not None else ""
    if r.get("phase") == "failed" and r.get("retry_in_s"):
        load = f"again in {show_seconds(r['retry_in_s'])}"
    memory = show_bytes(r["memory_bytes"]) if r.get("memory_bytes") else ""
    age = show_seconds(round(r.get("for_s", 0)))
    why = r.get("reason", "")
    if r.get("stage"):
        usual = r.get("usual_start_s")
        why = r["stage"] + (f" (a start takes about {show_seconds(round(usual))} here)" if usual else "")
    if r.get("phase") == "ready" and r.get("routed_why"):
        why = f"the gateway gives it nothing new: {r['routed_why']}"
    return [r["name"], str(r["phase"]), age, load, memory, r.get("url") or "", str(r.get("pid") or ""), why]


def table(rows: list[list[str]], width: int | None = None) -> Laid:
    """The replicas' rows as a table of at most `width` characters."""
    return lay_out(COLUMNS, rows, width)


def fleet_lines(f: Mapping[str, Any], width: int | None = None) -> list[str]:
    """One fleet: how many are ready, its load, and the scaler's last word."""
    parts = [f"{f['name']}: {f['ready']}/{f['wanted']} ready (min {f['min']}, max {f['max']})"]
    if f.get("pending") is not None:
        parts.append(f"{f['in_flight']} in flight, {f['queued']} queued")
    if f.get("ttft_p50_s"):
        p95 = f"/{show_seconds(f['ttft_p95_s'])}" if f.get("ttft_p95_s") else ""
        parts.append(f"TTFT p50/p95 {show_seconds(f['ttft_p50_s'])}{p95}")
    if f.get("finished_total"):
        parts.append(
            f"{f['finished_total']} answered, {f['failed_total']} failed, {f['rejected_total']} rejected"
        )
    pool = f"; pool {f['pool']}: {f['pool_reason']}" if f.get("pool_reason") else ""
    scale = wrapped(f"scale: {f['scale_reason']}{pool}", width, "  ", "    ")
    return [*parts_wrapped(parts, width, "", "  "), *scale]


def status_text(snapshot: Mapping[str, Any], events: int = 5, width: int | None = None) -> str:
    """`seawall status`."""
    head = [f"serving {snapshot['gateway']['url']}", f"engine {snapshot['engine']}", f"pid {snapshot['pid']}"]
    lines = parts_wrapped(head, width)
    if snapshot["engine"] == "sim":
        lines += wrapped(SIM_WARNING, width)
    lines += ["", *(line for f in snapshot["fleets"] for line in fleet_lines(f, width))]
    if snapshot["gateway"].get("store"):
        lines += wrapped(f"store: {snapshot['gateway']['store']}", width, "", "  ")
    lines += ["", *table(replica_rows(snapshot), width).lines(), ""]
    for e in list(snapshot["events"])[-events:] if events > 0 else []:
        lines += event_lines(e, width)
    return "\n".join(lines)


def event_line(e: Mapping[str, Any]) -> str:
    """`14:02:11  smollm2-0  ready: proved itself ...`"""
    return event_lines(e, None)[0]


def event_lines(e: Mapping[str, Any], width: int | None) -> list[str]:
    """An event on as many lines as it needs, the later ones below its text."""
    text = f"{time.strftime('%H:%M:%S', time.localtime(e['at']))}  {e['subject']:<12} {e['text']}"
    return wrapped(text, width, "", " " * 10)


SIM_WARNING = (
    "SIMULATED ENGINE: no model runs, the text is made up. For a real one: seawall up --engine vllm."
)
KEY_VARIABLE = "SEAWALL_API_KEY"
"""The environment variable that the printed snippets read a key from, where the gateway asks for one."""


def snippets(url: str, model: str, keyed: bool = False) -> str:
    """What to paste first: curl, and the official openai client. No line is so long that a terminal of 80 columns
    folds it. `keyed`: the gateway asks for a key, which is read from the environment."""
    bearer = f'  -H "authorization: Bearer ${KEY_VARIABLE}" \\\n' if keyed else ""
    key = f'os.environ["{KEY_VARIABLE}"]' if keyed else '"none"'
    imports, gap = ("import os\n", "\n    ") if keyed else ("", " ")
    return f"""\
curl -sN {url}/v1/chat/completions \\
{bearer}  -H 'content-type: application/json' -d '{{
  "model": "{model}",
  "stream": true, "temperature": 0, "max_tokens": 40,
  "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

{imports}from openai import OpenAI
client = OpenAI(base_url="{url}/v1",{gap}api_key={key})
answer = client.chat.completions.create(
    model="{model}", stream=True,
    messages=[{{"role": "user", "content": "What is the capital of France?"}}])
for chunk in answer:
    print(chunk.choices[0].delta.content or "", end="")"""


def screen(snapshot: Mapping[str, Any], width: int, height: int) -> Any:
    """The live screen: where to send requests, fleets, replicas, and as many events as fit below them."""
    from rich.text import Text

    title = [f"seawall up   {snapshot['gateway']['url']}", "Ctrl-C drains and stops",
             "`seawall status` in another shell"]  # fmt: skip
    lines = [
        Text(line, style="bold" if i == 0 else "dim") for i, line in enumerate(parts_wrapped(title, width))
    ]
    if snapshot["engine"] == "sim":
        lines += [Text(line, style="bold black on yellow") for line in wrapped(SIM_WARNING, width)]
    lines.append(Text(""))
    lines += [Text(line) for f in snapshot["fleets"] for line in fleet_lines(f, width)]
    lines += [Text(""), *_coloured(table(replica_rows(snapshot), width)), Text("")]
    room = height - len(lines) - 1
    told: list[str] = []
    for e in reversed(list(snapshot["events"])):
        more = event_lines(e, width)
        if len(told) + len(more) > room:
            break
        told = more + told
    lines += [Text(line, style="dim") for line in told]
    return Text("\n").join(lines[: max(1, height - 1)])


def _coloured(laid: Laid) -> list[Any]:
    from rich.text import Text

    out = [Text("  ".join(laid.heads).rstrip(), style="bold")]
    for cells, below in zip(laid.rows, laid.below, strict=True):
        line = Text()
        for i, (column, cell) in enumerate(zip(laid.kept, cells, strict=True)):
            line.append("  " if i else "")
            line.append(cell, style=_STYLE.get(cell.strip(), "") if column == _PHASE else "")
        line.rstrip()
        out += [line, *(Text(b) for b in below)]
    return out
