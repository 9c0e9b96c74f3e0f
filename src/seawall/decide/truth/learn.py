"""A fingerprint from replicas: those that agree say what is right, and one that stands alone says nothing.

The trap is a truth that was learned from two wrong replicas. So who can (`seawall fingerprint`) makes it from weights
that were verified against the lockfile; otherwise more than half of at least two replicas must agree on every prompt,
and what was learned says from whom. Forbidden here: clocks, chance, I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from seawall.decide.truth.fingerprint import (
    Distance,
    Fingerprint,
    Identity,
    KnownAnswer,
    PinnedPrompt,
    TruthAnswer,
    distance,
    noise_of,
)

Replies = Mapping[str, Sequence[TruthAnswer]]
"""Prompt -> what one replica answered to it, alone and while it did other work, the quietest first."""


@dataclass(frozen=True)
class Learned:
    """A fingerprint, or why there is none."""

    fingerprint: Fingerprint | None = None
    agreed: tuple[str, ...] = ()
    """Replicas that agree on every prompt."""
    others: tuple[str, ...] = ()
    """Those that do not agree with them."""
    disagree: tuple[str, ...] = field(default=())
    """Prompts on which no majority agrees."""


def learn(
    prompts: Sequence[PinnedPrompt], heard: Mapping[str, Replies], identity: Identity, source: str = ""
) -> Learned:
    """`heard`: replica -> its answers. With one replica, whose weights are verified, `source` must say so."""
    names = sorted(heard)
    quiet = {n: {p.name: heard[n][p.name][0] for p in prompts} for n in names}
    own = {n: widest(noise_of(heard[n][p.name]) for p in prompts) for n in names}
    groups: list[list[str]] = []
    for n in names:
        for group in groups:
            first = group[0]
            if all(agree(quiet[first][p.name], quiet[n][p.name], own[first], own[n]) for p in prompts):
                group.append(n)
                break
        else:
            groups.append([n])
    best = max(groups, key=len, default=[])
    others = tuple(n for n in names if n not in best)
    if not best or 2 * len(best) <= len(names) or (len(best) < 2 and not source):
        apart = tuple(p.name for p in prompts if _apart(p, names, quiet, own))
        return Learned(None, (), tuple(names), apart)
    right = quiet[best[0]]
    noise = widest(noise_of([right[p.name], *(a for n in best for a in heard[n][p.name])]) for p in prompts)
    known = tuple(KnownAnswer(p, right[p.name], noise) for p in prompts)
    made = Fingerprint(identity, source or f"agreed by {', '.join(best)}", known)
    return Learned(made, tuple(best), others)


def widest(noises: Iterable[Distance]) -> Distance:
    """The largest noise of all prompts, which holds for each: one that rounding left alone while it was measured, by
    the luck of its numbers and its company, would take another company's rounding for damage."""
    all_of = tuple(noises)
    return Distance(max((d.mean for d in all_of), default=0.0), max((d.worst for d in all_of), default=0.0))


def agree(one: TruthAnswer, other: TruthAnswer, noise: Distance, others_noise: Distance) -> bool:
    """Two replicas' answers to one prompt are as near as each one's own are under load."""
    bound = Distance(max(noise.mean, others_noise.mean), max(noise.worst, others_noise.worst)).times()
    return not distance(one, other).beyond(bound)


def _apart(
    prompt: PinnedPrompt,
    names: Sequence[str],
    quiet: Mapping[str, Mapping[str, TruthAnswer]],
    own: Mapping[str, Distance],
) -> bool:
    first = names[0] if names else ""
    return any(
        not agree(quiet[first][prompt.name], quiet[n][prompt.name], own[first], own[n]) for n in names[1:]
    )
