"""Facts -> ranked causes: the entry to this room. Pure; nothing is fetched or printed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from seawall.diagnose import (
    complaints,
    constraints,
    containers,
    hardware,
    images,
    liveness,
    mounts,
    named,
    nodes,
    not_admitted,
    probes,
    refused_pods,
    rollouts,
    routing,
    scaling,
    scheduling,
    starting,
    truth,
    unready,
    volumes,
)
from seawall.diagnose.cause import KINDS, ORDER, RULES, Cause
from seawall.diagnose.controllers import untold
from seawall.diagnose.facts import Facts, name_of
from seawall.domain.columns import wrapped
from seawall.domain.units import counted

FAMILIES = (
    scheduling,
    not_admitted,
    nodes,
    constraints,
    images,
    refused_pods,
    containers,
    liveness,
    truth,
    probes,
    unready,
    starting,
    hardware,
    named,
    mounts,
    complaints,
    volumes,
    rollouts,
    scaling,
    routing,
)


def diagnose(facts: Facts, subject: str = "") -> list[Cause]:
    """Causes before symptoms, surest and gravest first; the same cause of many Pods is told once.

    `subject`: only those of that name."""
    found: dict[tuple[str, str], Cause] = {}
    for check in RULES:
        for cause in check(facts):
            key = (cause.id, cause.what)
            first = found.get(key)
            if first is None:
                found[key] = cause
            elif cause.subject != first.subject and cause.subject not in first.also:
                found[key] = replace(first, also=(*first.also, cause.subject))
    causes = [*found.values(), *_unexplained(facts, found.values())]
    if subject:
        named = [
            c for c in causes if any(s.split("/", 1)[-1].startswith(subject) for s in (c.subject, *c.also))
        ]
        causes = named or causes
    causes.sort(key=lambda c: (KINDS[c.kind], ORDER[c.certainty], -c.weight, c.subject))
    return causes


def _unexplained(facts: Facts, causes: Iterable[Cause]) -> Iterator[Cause]:
    """Pods that are not placed and of which no rule knows why: the scheduler's own words, rather than none."""
    told = {s for c in causes for s in (c.subject, *c.also)}
    surge = any(c.id == "rollout/no-surge-gpu" for c in causes)
    for pod, _, evidence in scheduling.pending(facts):
        if f"Pod/{name_of(pod)}" not in told and not surge:
            yield Cause(
                id="scheduling/unplaced",
                certainty="possible",
                subject=f"Pod/{name_of(pod)}",
                weight=50,
                what="the scheduler places it nowhere, for a reason that is not in the catalogue",
                evidence=(evidence,),
                do=f"kubectl describe pod {name_of(pod)}: the scheduler's message counts the nodes by obstacle",
            )
            told.add(f"Pod/{name_of(pod)}")
    yield from untold(facts, told)


def as_text(causes: list[Cause], facts: Facts, width: int = 110) -> str:
    """One block per cause: rank, certainty, what; evidence; what to do."""
    unread = ", ".join(f"{kind} ({why})" for kind, why in facts.unread.items())
    blind = f"not read: {unread}; ask for the right to list them" if unread else ""
    if not causes:
        return f"no cause found in {_seen(facts)}." + (f"\n{blind}." if blind else "")
    out: list[str] = []
    for n, c in enumerate(causes, 1):
        more = f" (and {len(c.also)} more)" if c.also else ""
        indent = " " * 3
        out += wrapped(f"{n}  ({_how_sure(c)})  {c.subject}{more}: {c.what}", width, "", indent)
        for i, line in enumerate(c.evidence):
            label = "   evidence   " if i == 0 else " " * 14
            out += wrapped(line, width, label, " " * 14)
        out += wrapped(c.do, width, "   do         ", " " * 14)
    out.append(f"{len(causes)} cause{'s' * (len(causes) != 1)} from {_seen(facts)}.")
    if blind:
        out.append(f"{blind}: there may be more causes.")
    out.append(f"Next: seawall diagnose --explain {causes[0].id}")
    return "\n".join(out)


def _how_sure(cause: Cause) -> str:
    return cause.certainty if cause.kind == "cause" else f"{cause.certainty}, a {cause.kind}"


def as_json(causes: list[Cause]) -> list[dict[str, Any]]:
    """Plain data for --json."""
    return [asdict(c) for c in causes]


def _seen(facts: Facts) -> str:
    parts = [
        counted(len(facts.pods), "Pod"),
        counted(len(facts.events), "event"),
        counted(len(facts.logs), "log"),
    ]
    return ", ".join(parts)
