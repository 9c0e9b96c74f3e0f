"""A run against targets for people: one table (terminal, HTML), and a page for each cell that tells what clients saw.

No script, nothing fetched. Forbidden here: another verdict than the cell's own.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from seawall.charts.page import document, facts, table
from seawall.prove.pressure import StreamRecord
from seawall.prove.targets.grid import Cell, Grid, TargetFacts
from seawall.prove.timeline import lanes

SHOWN = 60
"""Streams that a cell's page tells one by one."""
CELL = 17
"""Columns of a cell on the terminal, at least."""


def short(cell: Cell | None) -> str:
    """A cell in a few letters: `ok`, `12 of 80 lost`, `n/a`."""
    if cell is None:
        return ""
    v = cell.verdict
    if v is None:
        return "did not start" if cell.failed else "n/a"
    if v.kept:
        return "ok"
    parts = []
    if v.lost:
        parts.append(f"{v.lost} of {v.started} lost")
    if v.doubled_tokens:
        parts.append(f"{v.doubled_tokens} doubled")
    elif v.wrong_tokens:
        parts.append(f"{v.wrong_tokens} wrong")
    if v.wrong_usage:
        parts.append("wrong usage")
    return ", ".join(parts) or _reason(v.broken)


def _reason(broken: Sequence[str]) -> str:
    said = broken[0].split(",")[0] if broken else "broken"
    return said if len(said) <= CELL else f"{said[: CELL - 1]}…"


def rows(grid: Grid) -> tuple[list[str], list[tuple[str, dict[str, Cell]]]]:
    """Targets in their order, and each scenario with its cell per target."""
    targets = list(dict.fromkeys(c.target for c in grid.cells))
    scenarios: dict[str, dict[str, Cell]] = {}
    for cell in grid.cells:
        if cell.scenario:
            scenarios.setdefault(cell.scenario, {})[cell.target] = cell
    return targets, list(scenarios.items())


def matrix(grid: Grid, width: int = 110) -> Iterator[str]:
    """The table for a terminal; too many targets for its width go into further tables."""
    targets, lines = rows(grid)
    room = max(1, (width - 18) // (CELL + 2))
    for at in range(0, len(targets), room):
        some = targets[at : at + room]
        yield (f"  {'':<16}" + "".join(f"{t:<{CELL + 2}}" for t in some)).rstrip()
        for name, cells in lines:
            yield f"  {name:<16}" + "".join(f"{short(cells.get(t)):<{CELL + 2}}" for t in some).rstrip()
        yield ""


def write_pages(grid: Grid, folder: Path) -> None:
    """`index.html`, and TARGET.SCENARIO.html for each cell that was played."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(_index(grid))
    for cell in grid.cells:
        if cell.verdict is not None:
            (folder / _file(cell)).write_text(_page(cell, grid))


def _file(cell: Cell) -> str:
    return f"{cell.target}.{cell.scenario}.html"


def _index(grid: Grid) -> str:
    targets, lines = rows(grid)
    body = []
    for name, cells in lines:
        title = next(iter(cells.values())).title
        body.append(
            [
                f"{html.escape(title)}<br><small>{html.escape(name)}</small>",
                *(_link(cells.get(t)) for t in targets),
            ]
        )
    parts = [table(("scenario", *targets), body)]
    parts += [_about(grid.facts[t]) for t in targets if t in grid.facts]
    return document("Gateways under the same faults", parts)


def _link(cell: Cell | None) -> str:
    text = html.escape(short(cell))
    if cell is None or cell.verdict is None:
        why = html.escape(cell.not_applicable) if cell else ""
        return f'<span class="note" title="{why}">{text}</span>'
    return f'<a class={"kept" if cell.verdict.kept else "broken"} href="{_file(cell)}">{text}</a>'


def _about(known: TargetFacts) -> str:
    lines = "".join(f"<li>{html.escape(s)}</li>" for s in known.settings)
    files = "".join(
        f"<details><summary>{html.escape(n)}</summary><pre>{html.escape(t)}</pre></details>"
        for n, t in known.files.items()
    )
    head = f"{known.title} {known.version}".strip()
    command = f"<pre>{html.escape(' '.join(known.command))}</pre>" if known.command else ""
    return f"<h2>{html.escape(head)}</h2><p>{html.escape(known.source)}</p><ul>{lines}</ul>{command}{files}"


def _page(cell: Cell, grid: Grid) -> str:
    v = cell.verdict
    assert v is not None
    records = grid.records.get((cell.target, cell.scenario), [])
    wasted = "not known: some clients never read" if cell.wasted is None else f"{cell.wasted:,}"
    told = [
        ("verdict", "kept" if v.kept else "; ".join(v.broken)),
        ("started", f"{v.started:,}"), ("whole", f"{v.finished:,}"), ("rejected", f"{v.rejected:,}"),
        ("left on purpose", f"{v.left:,}"), ("lost", f"{v.lost:,}"), ("wrong tokens", f"{v.wrong_tokens:,}"),
        ("of them doubled", f"{v.doubled_tokens:,}"), ("cut though healthy", f"{cell.cut:,}"),
        ("worst stall", f"{v.worst_stall_s:.1f} s"), ("wasted engine tokens", wasted),
        ("reasons of the losses", ", ".join(f"{k} {n}" for k, n in v.losses.items()) or "none"),
    ]  # fmt: skip
    notes = "".join(f"<p class=note>{html.escape(n)}</p>" for n in v.notes)
    parts = [
        facts(told), lanes(v, records), notes, "<h2>What clients saw</h2>", _clients(records),
        '<p><a href="index.html">All cells</a></p>',
    ]  # fmt: skip
    return document(f"{cell.target}: {cell.title}", parts)


def _clients(records: Sequence[StreamRecord]) -> str:
    """The streams that did not come whole and right, then others, one a line."""
    if not records:
        return ""
    start = min(r.outcome.intended_s for r in records)
    wrong = [r for r in records if not _good(r)]
    some = [*wrong, *(r for r in records if _good(r))][:SHOWN]
    left_out = (
        f"<p class=note>{len(records) - len(some):,} more are not listed.</p>"
        if len(some) < len(records)
        else ""
    )
    lines = [
        [f"{html.escape(r.case.name)}: {html.escape(_told(r))}", f"{r.outcome.intended_s - start:.1f} s"]
        for r in some
    ]
    return table(("what came", "asked at"), lines) + left_out


def _good(r: StreamRecord) -> bool:
    return r.outcome.ok and not (r.checked and (r.checked.wrong_tokens or r.checked.wrong_usage))


def _told(r: StreamRecord) -> str:
    """One sentence: what came, how it ended, what was wrong about it."""
    o = r.outcome
    came = f"{len(o.event_s)} events" if r.case.streams else f"status {o.status or 'none'}"
    after = f" in {max(0.0, (o.ended_s or o.intended_s) - o.intended_s):.1f} s"
    if not o.ok:
        return f"{came}{after}, then {o.error}: {o.detail}"
    return (
        f"{came}{after}, whole; {r.checked.note}"
        if r.checked and r.checked.note
        else f"{came}{after}, whole and right"
    )
