"""Facts -> ranked causes. The front door; pure, nothing is fetched or printed here."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, replace
from typing import Any

from seawall.diagnose import constraints, containers, images, rollouts, routing, scaling, scheduling, volumes
from seawall.diagnose.cause import ORDER, RULES, Cause
from seawall.diagnose.facts import Facts

FAMILIES = (scheduling, constraints, images, containers, volumes, rollouts, scaling, routing)


def diagnose(facts: Facts, subject: str = "") -> list[Cause]:
    """Causes, surest and gravest first; the same cause of many Pods is told once. `subject`: only of that name."""
    found: dict[tuple[str, str], Cause] = {}
    for check in RULES:
        for cause in check(facts):
            key = (cause.id, cause.what)
            first = found.get(key)
            if first is None:
                found[key] = cause
            elif cause.subject != first.subject and cause.subject not in first.also:
                found[key] = replace(first, also=(*first.also, cause.subject))
    causes = list(found.values())
    if subject:
        named = [
            c for c in causes if any(s.split("/", 1)[-1].startswith(subject) for s in (c.subject, *c.also))
        ]
        causes = named or causes
    causes.sort(key=lambda c: (ORDER[c.certainty], -c.weight, c.subject))
    return causes


def as_text(causes: list[Cause], facts: Facts, width: int = 110) -> str:
    """One block per cause: rank, certainty, what; evidence; what to do."""
    if not causes:
        return f"no cause found in {_seen(facts)}."
    out: list[str] = []
    for n, c in enumerate(causes, 1):
        more = f" (and {len(c.also)} more)" if c.also else ""
        indent = " " * 3
        out += textwrap.wrap(
            f"{n}  ({c.certainty})  {c.subject}{more}: {c.what}", width, subsequent_indent=indent
        )
        for i, line in enumerate(c.evidence):
            label = "   evidence   " if i == 0 else " " * 14
            out += textwrap.wrap(line, width - 14, initial_indent=label, subsequent_indent=" " * 14)
        out += textwrap.wrap(c.do, width - 14, initial_indent="   do         ", subsequent_indent=" " * 14)
    out.append(f"{len(causes)} cause{'s' * (len(causes) != 1)} from {_seen(facts)}.")
    return "\n".join(out)


def as_json(causes: list[Cause]) -> list[dict[str, Any]]:
    """Plain data for --json."""
    return [asdict(c) for c in causes]


def _seen(facts: Facts) -> str:
    parts = [f"{len(facts.pods)} Pods", f"{len(facts.events)} events", f"{len(facts.logs)} logs"]
    return ", ".join(parts)
