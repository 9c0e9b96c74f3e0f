#!/usr/bin/env python3
"""docs/comparison.md: every gateway that ships as a target, under every scenario of `seawall prove`.

    scripts/comparison.py [--target NAME ...] [--scenario NAME ...] [--jobs N] [--streams N]
    scripts/comparison.py --draw

Runs are kept, cell by cell, in the cache folder (comparison/cells.json), so that a long comparison can be made in
pieces; the page is drawn from all that is there, each row with its day. Exit code 0 even where cells are red: that is
what the page is for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seawall.domain.units import counted
from seawall.drivers import cache
from seawall.prove.scenarios import SCENARIOS
from seawall.prove.targets.known import MISSING, TARGETS
from seawall.prove.targets.run import PACE, SILENT_S, STALL_BOUND_S

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/comparison.md"
STORE = cache.root() / "comparison" / "cells.json"
FLEET = "examples/smollm2.yaml"
Cells = dict[str, Any]


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument(
        "--target", action="append", choices=list(TARGETS), help="only this one; repeat for more"
    )
    args.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="only this one; repeat for more"
    )
    args.add_argument("--jobs", type=int, default=14, help="cells at once")
    args.add_argument("--streams", type=int, default=10, help="clients of a cell")
    args.add_argument("--draw", action="store_true", help="only draw the page from what is kept")
    asked = args.parse_args()
    if not asked.draw:
        play(asked)
    kept = read()
    PAGE.write_text("\n".join(page(kept)) + "\n")
    print(f"{PAGE.relative_to(ROOT)}: {len(kept['cells'])} cells")


def read() -> Cells:
    """All that is kept."""
    kept: Cells = json.loads(STORE.read_text()) if STORE.exists() else {"cells": {}, "targets": {}}
    return kept


def play(asked: argparse.Namespace) -> None:
    """One run of `seawall prove --target`, and its cells into the store; another run may be writing to it, too."""
    names = [f for name in asked.target or TARGETS for f in ("--target", name)]
    names += [f for name in asked.scenario or [] for f in ("--scenario", name)]
    argv = [sys.executable, "-m", "seawall", "prove", FLEET, "--json", "--jobs", str(asked.jobs)]
    argv += ["--streams", str(asked.streams), *names]
    began, load = time.monotonic(), [os.getloadavg()[0]]
    done = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    # A run that is ended early tells what it has seen until then.
    signal.signal(signal.SIGTERM, lambda *_: done.terminate())
    out, _ = done.communicate()
    load.append(os.getloadavg()[0])
    try:
        told = json.loads(out)
    except ValueError:
        sys.exit(f"seawall prove ended with {done.returncode} and no answer")
    how = {
        "day": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", "jobs": asked.jobs, "streams": asked.streams,
        "load": [round(x, 1) for x in load], "minutes": round((time.monotonic() - began) / 60, 1),
    }  # fmt: skip
    with cache.locked(STORE.with_suffix(".lock")):
        kept = read()
        for cell in told["cells"]:
            kept["cells"][f"{cell['target']}/{cell['scenario']}"] = cell | {"how": how}
        kept["targets"] |= told["targets"]
        kept["machine"] = f"{os.cpu_count()} cores, {_cpu()}, Python {platform.python_version()}"
        cache.write_atomic(STORE, json.dumps(kept))


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def page(kept: Cells) -> Iterator[str]:
    """The page, line by line."""
    cells: list[dict[str, Any]] = [c for c in kept["cells"].values() if c["scenario"]]
    targets = [t for t in TARGETS if any(c["target"] == t for c in cells)]
    scenarios = [s for s in SCENARIOS if any(c["scenario"] == s for c in cells)]
    by = {(c["target"], c["scenario"]): c for c in cells}
    yield from _head(kept, cells, targets)
    yield "| scenario | " + " | ".join(targets) + " |"
    yield "|---|" + "---|" * len(targets)
    for name in scenarios:
        row = " | ".join(short(by.get((t, name))) for t in targets)
        yield f"| {SCENARIOS[name].title} (`{name}`) | {row} |"
    yield ""
    yield READING
    yield from _programs(kept["targets"], targets)
    yield from _missing(kept, targets)
    yield "## Every cell"
    yield ""
    for name in scenarios:
        yield from _numbers(name, [by[t, name] for t in targets if (t, name) in by])


HEAD = """\
# What gateways lose under the same faults

Made by `make comparison` (`scripts/comparison.py`), {when}; not written by hand. Whoever disagrees can run it again.

- **Machine**: {machine}. Load average while it ran: {load}
  ({jobs} cells at once). Above the number of cores other work ran beside it, and stalls are longer than they need be.
- **Time**: {minutes:.0f} minutes in {runs}.
- **Load**: {streams} clients a cell, each of which asks again when its answer has ended; simulated engines that take
  0.12 s for a token, three to a cell unless the scenario says otherwise. Answers are compared token by token.
- **Clients** give up after {patience:.0f} s of silence; a stall may last {stall:.0f} s; `healthy-slow` is silent
  for {silent:.0f} s. No target's own time-outs are shortened, ours neither.
- **Command**: `seawall prove {fleet} {targets}`
- **An engine** that dies comes back at its address in about two seconds, as a container does. **A gateway** that dies
  is started again at once.

This suite is Seawall's own, and its scenarios are the faults that Seawall was built for: read it as such. Where ours
fails its cell is red like any other.
"""
READING = """\
**ok**: nothing lost, wrong or doubled, and no stall beyond the bound. **lost**: started and not finished whole, for
whatever reason but a 429 with Retry-After (in an overload, any 429 or 503 before the first byte). **n/a**: the fault
needs something that the target does not have; never counted against it. `lost` counts requests: of a gateway that is
away, each client asks again about once a second. In `overload` the engine itself refuses what it cannot queue (vLLM's
bound on queued requests, as the Fleet plans it), whoever stands before it.
"""


def _head(kept: Cells, cells: list[dict[str, Any]], targets: list[str]) -> Iterator[str]:
    hows = [c["how"] for c in cells]
    days = sorted({h["day"] for h in hows})
    loads = [x for h in hows for x in h["load"]]
    runs = {json.dumps(h): float(h["minutes"]) for h in hows}
    yield HEAD.format(
        when=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}", machine=kept.get("machine", ""),
        load=f"{min(loads)} to {max(loads)}", jobs=_span(h["jobs"] for h in hows),
        minutes=sum(runs.values()), runs=counted(len(runs), "run"),
        streams=_span(h["streams"] for h in hows), patience=PACE.patience.stall_s, stall=STALL_BOUND_S,
        silent=SILENT_S, fleet=FLEET, targets=" ".join(f"--target {t}" for t in targets),
    )  # fmt: skip


def _span(values: Iterable[int]) -> str:
    some = sorted(set(values))
    return str(some[0]) if len(some) == 1 else f"{some[0]} to {some[-1]}"


def short(cell: dict[str, Any] | None) -> str:
    """A cell in a few letters."""
    if cell is None:
        return "not run"
    if cell["state"] == "not applicable":
        return "n/a"
    if cell["state"] == "failed":
        return "**did not start**"
    if cell["state"] == "kept":
        return "ok"
    parts = []
    if cell["lost"]:
        parts.append(f"{cell['lost']} of {cell['started']} lost")
    if cell["doubled_tokens"]:
        parts.append(f"{cell['doubled_tokens']} tokens doubled")
    elif cell["wrong_tokens"]:
        parts.append(f"{cell['wrong_tokens']} tokens wrong")
    if not parts:
        parts = [b for b in cell["broken"] if b][:1]
    return f"**{'; '.join(parts)}**"


def _programs(facts: dict[str, Any], targets: list[str]) -> Iterator[str]:
    yield "## What was run"
    yield ""
    for name in targets:
        known = facts.get(name)
        if known is None:
            continue
        yield f"### {known['title']} {known['version']}".rstrip()
        yield ""
        yield f"From: {known['source']}. `--target {name}`."
        yield ""
        yield from (f"- {s}" for s in known["settings"])
        yield ""
        if known["command"]:
            yield from ("```", " ".join(known["command"]), "```", "")
        for file, text in known["files"].items():
            yield from (
                f"<details><summary>{file}</summary>",
                "",
                "```",
                text.rstrip(),
                "```",
                "",
                "</details>",
                "",
            )


def _missing(kept: Cells, targets: list[str]) -> Iterator[str]:
    yield "### What could not be had"
    yield ""
    failed = {
        c["target"]: c["why"]
        for c in kept["cells"].values()
        if not c["scenario"] and c["target"] not in targets
    }
    yield from (f"- `{name}`: {_plain(why)}" for name, why in (MISSING | failed).items())
    yield ""


def _numbers(name: str, cells: list[dict[str, Any]]) -> Iterator[str]:
    yield f"### {SCENARIOS[name].title} (`{name}`)"
    yield ""
    heads = ("started", "whole", "rejected", "lost", "wrong", "doubled", "cut though healthy", "worst stall")
    yield f"| target | {' | '.join(heads)} | wasted tokens | why |"
    yield f"|---|{'---:|' * len(heads)}---:|---|"
    for c in cells:
        if "started" not in c:
            yield f"| {c['target']} | | | | | | | | | | {c['state']}: {_plain(c['why'])} |"
            continue
        wasted = "" if c["wasted_engine_tokens"] is None else f"{c['wasted_engine_tokens']:,}"
        why = [*c["broken"], *(f"{n} {kind}" for kind, n in c["losses"].items())]
        counts = [c[k] for k in ("started", "finished", "rejected", "lost", "wrong_tokens", "doubled_tokens")]
        row = [c["target"], *counts, c["cut_though_healthy"], f"{c['worst_stall_s']:.1f} s", wasted]
        yield f"| {' | '.join(map(str, row))} | {_plain('; '.join(why))} |"
    yield ""


def _plain(text: str) -> str:
    """A cell of a table: on one line, without a bar, and without this machine's paths."""
    for path, word in ((ROOT, "."), (cache.root(), "CACHE"), (Path.home(), "~")):
        text = text.replace(str(path), word)
    return text.replace("|", "/").replace("\n", " ")[:240]


if __name__ == "__main__":
    main()
