"""What is thought of one replica's answers, and which prompt it is asked next, and when.

    true      nothing moved
    doubted   a prompt moved once: it is asked the same again at once
    suspect   it moved again: nothing new goes there, other prompts are asked at once, some of each kind
    wrong     a second prompt moved too: it is taken out, with what moved as evidence, and what is wrong has a name
    odd       one prompt moves every time and all others are as known: suspect still, and a person must look

A routine look costs a share of the replica's time that is stated; a look on evidence is not kept waiting for it.
Forbidden here: clocks, chance, I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seawall.decide.truth.fingerprint import COVERING, WORDS, Deviation, Fingerprint, PinnedPrompt, kind_of

WRONG = "it answers wrongly"
"""How the reason begins for which such a replica is suspect or out."""
LEAST_S = 0.25
"""Between two routine asks of one replica."""
MOST_S = 60.0
"""However long a prompt takes, the next comes after so long: a busy replica is asked seldom, not never."""
SICK_S = 5.0
"""A stream that looks sick brings an ask at once, so often at most."""
BLAMED = ("suspect", "odd", "wrong")
SHOWN = 4
OF_EACH = 2
"""Prompts of each kind (chat, text) that are asked before what is wrong is named."""


@dataclass(frozen=True)
class TruthStanding:
    """What is known of one life of one replica. Times are seconds on the watcher's clock."""

    state: str = "true"
    evidence: tuple[Deviation, ...] = ()
    """Moves that stand, the newest of each prompt."""
    asked: tuple[Deviation, ...] = ()
    """All answers since the first of the evidence, the newest of each prompt."""
    turn: int = 0
    """Routine asks so far: they go round."""
    due_s: float = 0.0
    """No routine ask before."""
    asked_s: float = float("-inf")
    """The end of the last ask."""
    sick_s: float = float("-inf")

    @property
    def urgent(self) -> bool:
        return self.state in ("doubted", "suspect")

    @property
    def kind(self) -> str:
        """What is wrong, once it is known."""
        return kind_of(self.asked) if self.state in ("wrong", "odd") else ""

    @property
    def reason(self) -> str:
        """One sentence for status, logs and events; empty while nothing stands against it."""
        moved = [m for m in self.evidence if m.moved]
        shown = "; ".join(map(str, moved[:SHOWN]))
        if self.state == "suspect":
            return f"{WRONG}, perhaps: {shown}"
        if not self.kind:
            return ""
        of = f"{len(moved)} of {len(self.asked)} prompts moved"
        return f"{WRONG}: {WORDS[self.kind]} ({of}: {shown})"


def next_prompt(
    standing: TruthStanding, known: Sequence[PinnedPrompt], now: float, hot: Sequence[str] = ()
) -> str | None:
    """The prompt to ask now; None: it is not time. `known`: the fingerprint's, most telling first. `hot`: sweeps whose
    tokens this fleet's traffic is made of."""
    if standing.state == "doubted":
        return standing.evidence[0].prompt
    if standing.state == "suspect":
        kinds = _lacking(standing.asked, known)
        left = _left(standing.asked, known)
        return next((p.name for p in left if p.kind in kinds), next((p.name for p in left), None))
    if now < standing.due_s or not known:
        return None
    if standing.state in ("odd", "wrong"):
        return standing.evidence[0].prompt
    return routine(standing.turn, known, hot)


def routine(turn: int, known: Sequence[PinnedPrompt], hot: Sequence[str] = ()) -> str:
    """Name of the prompt whose turn it is. Of four asks one is the first chat, one of the other texts, one a sweep of
    tokens in use, and one the next sweep:
    what is wrong in a layer shows in each of them, a template only in a chat. Rows are asked before traffic only:
    beside others' requests for logprobs vLLM 0.32 would mix up whose are whose."""
    texts = [p.name for p in known if not p.covers]
    sweeps = [p.name for p in known if p.kind == "ids"] or texts[1:] or texts
    first, rest = texts[:1] or sweeps, texts[1:] or sweeps
    n = turn // 4
    match turn % 4:
        case 0:
            return first[0]
        case 2:
            return rest[n % len(rest)]
        case 1 if hot:
            return hot[n % len(hot)]
        case _:
            return sweeps[n % len(sweeps)] if hot else sweeps[(turn // 2) % len(sweeps)]


HOT = 64
"""Sweeps of tokens in use that take turns, at most."""


def hot_sweeps(used: Mapping[int, int], known: Sequence[PinnedPrompt]) -> tuple[str, ...]:
    """Sweeps that meet the tokens that traffic is made of, the most used first. `used`: token id -> how often."""
    by_id = {i: p.name for p in known if p.kind == "ids" for i in p.given if isinstance(i, int)}
    count: Counter[str] = Counter()
    for i, times in used.items():
        if i in by_id:
            count[by_id[i]] += times
    return tuple(name for name, _ in count.most_common(HOT))


def heard(
    standing: TruthStanding,
    move: Deviation,
    known: Sequence[PinnedPrompt],
    took_s: float,
    share: float,
    now: float,
) -> TruthStanding:
    """An answer has come, after `took_s`. `share`: of the replica's time for routine asks."""
    pause = min(MOST_S, max(LEAST_S, took_s / share)) if share > 0 else MOST_S
    later = replace(standing, turn=standing.turn + 1, due_s=now + pause, asked_s=now)
    match standing.state:
        case "true":
            if not move.moved:
                return later
            return replace(later, state="doubted", evidence=(move,), asked=(move,))
        case "doubted":
            if not move.moved:
                return replace(later, state="true", evidence=(), asked=())
            return replace(later, state="suspect", evidence=(move,), asked=(move,))
        case "suspect":
            asked = (*(m for m in standing.asked if m.prompt != move.prompt), move)
            evidence = tuple(m for m in asked if m.moved)
            later = replace(later, asked=asked, evidence=evidence)
            if _left(asked, known) and (len(evidence) < 2 or _lacking(asked, known)):
                return later
            return replace(later, state="wrong" if len(evidence) > 1 or move.how == "absurd" else "odd")
        case _:
            if not move.moved and move.prompt == standing.evidence[0].prompt:
                return replace(later, state="true", evidence=(), asked=())
            return later


def _left(asked: Sequence[Deviation], known: Sequence[PinnedPrompt]) -> list[PinnedPrompt]:
    """Prompts that may tell more. Sweeps do not: each meets tokens of its own."""
    done = {m.prompt for m in asked}
    return [p for p in known if p.name not in done and not p.covers]


def _lacking(asked: Sequence[Deviation], known: Sequence[PinnedPrompt]) -> set[str]:
    """Kinds of which too few have been asked to tell what is wrong."""
    done = {m.prompt for m in asked}
    few = set()
    for kind in ("chat", "text"):
        left = [p for p in known if p.kind == kind and p.name not in done]
        if left and sum(m.kind == kind for m in asked) < OF_EACH:
            few.add(kind)
    return few


def looks_sick(standing: TruthStanding, now: float) -> TruthStanding:
    """A stream of it looks sick: the next routine ask is due now, unless one was for that just before."""
    if now - standing.sick_s < SICK_S:
        return standing
    return replace(
        standing, due_s=min(standing.due_s, now), sick_s=now, turn=standing.turn + -standing.turn % 4
    )


def told_all(
    standing: TruthStanding, moves: Sequence[Deviation], confirmed: Sequence[Deviation] = ()
) -> TruthStanding:
    """All prompts have been asked at once, as before a replica is given traffic, or before it comes back. `confirmed`:
    answers to what moved, asked again. A sweep that moved twice is enough: no second prompt meets its tokens."""
    moved = tuple(m for m in moves if m.moved)
    twice = {m.prompt for m in confirmed if m.moved}
    sure = len(moved) > 1 or any(
        m.how == "absurd" or (m.kind in COVERING and m.prompt in twice) for m in moved
    )
    state = "true" if not moved else "wrong" if sure else "odd"
    return replace(standing, state=state, evidence=moved, asked=tuple(moves))


def may_leave(standing: TruthStanding, others: Sequence[TruthStanding]) -> bool:
    """Whether a replica that is not `true` may be taken out, beside `others` of its fleet, in service or out.

    As many must answer as known as do not. Otherwise the known answers may be what is out of date, or a rollout to
    other weights is under way, and a fleet that is all out serves nobody: then only who makes no sense goes."""
    if standing.state not in BLAMED:
        return False
    right = sum(s.state == "true" for s in others)
    wrong = 1 + sum(s.state in BLAMED for s in others)
    return right >= wrong or any(m.how in ("absurd", "senseless") for m in standing.evidence)


def prompts_of(fingerprint: Fingerprint) -> tuple[PinnedPrompt, ...]:
    return tuple(k.prompt for k in fingerprint.known)
