"""What a person sees of `seawall up` and `seawall status`: a snapshot as text, or as a live screen on a terminal.

Snapshots in, lines out; nothing is asked or changed here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from seawall.domain.units import show_bytes, show_seconds

_STYLE = {"ready": "green", "failed": "red", "draining": "yellow", "starting": "cyan", "proving": "cyan"}


def replica_rows(snapshot: Mapping[str, Any]) -> list[list[str]]:
    """One row per kept process: name, phase, for how long, load, address and pid, reason."""
    rows = []
    for r in [snapshot["gateway"], *snapshot["replicas"]]:
        if "name" not in r:
            continue
        load = (
            f"{r['running']:.0f} running, {r['waiting']:.0f} waiting" if r.get("running") is not None else ""
        )
        where = r.get("url") or ""
        if r.get("phase") == "failed" and r.get("retry_in_s"):
            load = f"again in {show_seconds(r['retry_in_s'])}"
        memory = show_bytes(r["memory_bytes"]) if r.get("memory_bytes") else ""
        age = show_seconds(round(r.get("for_s", 0)))
        rows.append(
            [r["name"], r["phase"], age, load, memory, where, str(r.get("pid") or ""), r.get("reason", "")]
        )
    return rows


HEADS = ["NAME", "PHASE", "FOR", "LOAD", "MEMORY", "ADDRESS", "PID", "WHY"]


def fleet_line(f: Mapping[str, Any]) -> str:
    """One fleet in one line."""
    parts = [f"{f['ready']}/{f['wanted']} ready (min {f['min']}, max {f['max']})"]
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
    return f"{f['name']}: " + "   ".join(parts) + f"\n  scale: {f['scale_reason']}{pool}"


def table(rows: list[list[str]]) -> list[str]:
    """Aligned columns, the last one free."""
    widths = [max(len(row[i]) for row in [HEADS, *rows]) for i in range(len(HEADS) - 1)]
    return [
        "  ".join([c.ljust(w) for c, w in zip(r, widths, strict=False)] + [r[-1]]).rstrip()
        for r in [HEADS, *rows]
    ]


def status_text(snapshot: Mapping[str, Any], events: int = 5) -> str:
    """`seawall status`."""
    lines = [f"serving {snapshot['gateway']['url']}   engine {snapshot['engine']}   pid {snapshot['pid']}"]
    if snapshot["engine"] == "sim":
        lines.append(SIM_WARNING)
    lines += ["", *(fleet_line(f) for f in snapshot["fleets"]), "", *table(replica_rows(snapshot)), ""]
    lines += [event_line(e) for e in list(snapshot["events"])[-events:]] if events else []
    return "\n".join(lines)


def event_line(e: Mapping[str, Any]) -> str:
    """`14:02:11  smollm2-0  ready: proved itself ...`"""
    return f"{time.strftime('%H:%M:%S', time.localtime(e['at']))}  {e['subject']:<12} {e['text']}"


SIM_WARNING = "SIMULATED ENGINE: no model runs, the text is made up. For the real one leave out --engine sim."


def snippets(url: str, model: str) -> str:
    """What to paste first: curl, and the official openai client."""
    return f"""\
curl -sN {url}/v1/chat/completions -H 'content-type: application/json' -d '{{
  "model": "{model}", "stream": true, "temperature": 0, "max_tokens": 40,
  "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="none")
for chunk in client.chat.completions.create(model="{model}", stream=True,
        messages=[{{"role": "user", "content": "What is the capital of France?"}}]):
    print(chunk.choices[0].delta.content or "", end="")"""


def screen(snapshot: Mapping[str, Any], height: int) -> Any:
    """The live screen: where to send requests, fleets, replicas, and as many events as fit."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, expand=True)
    for head in HEADS:
        grid.add_column(head, no_wrap=True, ratio=1 if head == "WHY" else None, overflow="ellipsis")
    for row in replica_rows(snapshot):
        style = _STYLE.get(row[1], "")
        grid.add_row(row[0], Text(row[1], style=style), *(Text(c) for c in row[2:]))
    fleets = [Text(fleet_line(f), no_wrap=True, overflow="ellipsis") for f in snapshot["fleets"]]
    room = max(3, height - len(grid.rows) - 2 * len(fleets) - 8)
    events = [
        Text(event_line(e), style="dim", no_wrap=True, overflow="ellipsis")
        for e in snapshot["events"][-room:]
    ]
    title = Text(f"seawall up   {snapshot['gateway']['url']}", style="bold")
    title.append("   Ctrl-C drains and stops; `seawall status` in another shell", style="dim")
    warn = [Text(SIM_WARNING, style="bold black on yellow")] if snapshot["engine"] == "sim" else []
    return Group(title, *warn, Text(""), *fleets, Text(""), grid, Text(""), *events)
