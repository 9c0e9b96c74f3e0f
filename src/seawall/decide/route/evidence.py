"""Evidence of life: whether a replica is alive, suspect or dead, and why. Silence alone is never death.

A replica that prefills a long prompt shows nothing for as long as one step takes: no byte, no token, no counter. So
silence is weighed against what the replica was given to do and how fast it is known to be. Death takes positive
evidence (its process or Pod is gone; it owes an answer and its processes use no CPU), or silence well beyond what the
work explains. No work explains that its HTTP server, which computes nothing, answers nothing at all. A suspect gets no
new work and keeps what it has.

Signs of life are made by the engine alone: bytes of an answer, statistics that it writes after each step, the answer
to a direct ask for one token. What we ask or abort is not: an ask that we give up raises vLLM's counters of requests,
so these are not among the `marks`.

One decision for every shell: the gateway, the supervisor of `seawall up`, and the probe script that runs inside a Pod,
beside which this very file is mounted. Forbidden here, therefore: any import but the standard library's, awaiting,
clocks, files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Verdict(str, Enum):  # noqa: UP042  (the container's Python may be older than StrEnum)
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


@dataclass(frozen=True)
class Pace:
    """How fast a replica works. Seconds per token; planned until seen on this very replica."""

    prompt_token_s: float
    """One prompt token's share of a step."""
    prompt_pair_s: float = 0.0
    """Attention of one prompt token to one token before it."""
    step_tokens: int = 8192
    """Most prompt tokens in one step (`--max-num-batched-tokens`)."""
    context: int = 0
    """Longest context (`--max-model-len`); 0: attention is left out."""
    seen: bool = False

    def prefill_s(self, tokens: float) -> float:
        """Seconds in which so many prompt tokens are computed, with attention to the longest context."""
        return tokens * (self.prompt_token_s + self.context * self.prompt_pair_s)


@dataclass(frozen=True)
class Patience:
    """How long silence is borne. Times are seconds."""

    quiet_s: float = 10.0
    """Without a sign for so long it is asked for one token."""
    still_s: float = 15.0
    """Owing an answer and using no CPU for so long: dead."""
    planned_slack: float = 10.0
    """A plan may be wrong by so much: another machine, neighbours, another kernel."""
    seen_slack: float = 4.0
    """The pace that was seen may get worse by so much."""
    busy_slack: float = 5.0
    """While its processes are seen to compute, the work may take so many times longer still."""
    reads_s: float = 120.0
    """While the process that answers HTTP is seen to compute, it reads a prompt: 142,000 tokens at 20,000 a second,
    on a machine with 17 others at work."""
    looks: int = 3
    """Death takes so many looks in a row without a sign: a watcher that slept has seen nothing."""


LEFT = Patience(quiet_s=5.0, still_s=8.0)
"""The gateway's, shorter than that of those who kill: a replica is only left."""
STILL = 0.02
"""Share of one core: who uses less computes nothing."""
READ_TOKEN_S = 5e-5
"""Seconds for a token of a prompt that is text still: as tokenizers that are written in Python take. No step of the
engine, and so no statistics of it, show them."""
WORKING = 0.10
"""Share of one core: who uses more computes. On two cores at load 20 a thread still gets this much."""


@dataclass(frozen=True)
class Sight:
    """What one look at a replica showed."""

    gone: str = ""
    """Positive evidence that its process or Pod has ended, in words; empty: none."""
    marks: tuple[float, ...] | None = None
    """Statistics that the engine writes after each step; None: they could not be read."""
    deaf: bool = False
    """The question for them was not answered in time, by whatever: its HTTP server stands still."""
    heard_s: float = 0.0
    """When bytes of an answer last came, on the watcher's clock."""
    answered: bool | None = None
    """Whether the direct ask that ended since the last look was answered; None: none has ended."""
    prompt_tokens: int | None = None
    """Tokens of prompts that it holds and that have brought no token yet; None: not known."""
    unread_tokens: int = 0
    """Tokens of prompts that it may be reading still, before any step: it was given them and has shown nothing."""
    cpu_s: float | None = None
    """CPU time of the processes that compute (not of the one that answers HTTP), since their start; None: not known."""
    server_cpu_s: float | None = None
    """CPU time of the one that answers HTTP, and turns text into tokens."""


@dataclass(frozen=True)
class Pulse:
    """What is remembered between looks. Plain data: it survives in a file, or in a status."""

    sign_s: float
    """When the last sign of life was seen."""
    marks: tuple[float, ...] = ()
    cpu_s: float | None = None
    """At the last sign."""
    server_cpu_s: float | None = None
    """Likewise."""
    looks: int = 0
    """Since the last sign."""
    unanswered: int = 0
    """Direct asks since the last sign that brought nothing."""
    deaf: int = 0
    """Looks in a row at which its HTTP server was deaf, too."""


@dataclass(frozen=True)
class Opinion:
    """The verdict on a replica, its reason in one sentence, and what to do to know more."""

    verdict: Verdict
    reason: str
    ask: bool = False
    """Ask it for one token now, if no ask is under way."""
    next_look_s: float = 1.0


def look(pulse: Pulse, sight: Sight, pace: Pace, patience: Patience, now: float) -> tuple[Opinion, Pulse]:
    """One look. `now` and `Sight.heard_s`: seconds on one clock, any origin."""
    if sight.gone:
        return Opinion(Verdict.DEAD, sight.gone), pulse
    sign = _sign(pulse, sight)
    if sign:
        heard = sight.heard_s if sign == "bytes" else now
        marks = pulse.marks if sight.marks is None else sight.marks
        return Opinion(Verdict.ALIVE, f"shows {sign}"), Pulse(
            max(heard, pulse.sign_s), marks, sight.cpu_s, sight.server_cpu_s
        )
    failed = pulse.unanswered + (sight.answered is False)
    deaf = pulse.deaf + 1 if sight.deaf else 0
    pulse = replace(pulse, looks=pulse.looks + 1, unanswered=failed, deaf=deaf)
    return _weigh(pulse, sight, pace, patience, now - pulse.sign_s), pulse


def _sign(pulse: Pulse, sight: Sight) -> str:
    if sight.answered:
        return "a token"
    if sight.heard_s > pulse.sign_s:
        return "bytes"
    if sight.marks is not None and sight.marks != pulse.marks:
        return "steps"
    return ""


def _weigh(pulse: Pulse, sight: Sight, pace: Pace, patience: Patience, silent_s: float) -> Opinion:
    """What silence says."""
    if silent_s < patience.quiet_s:
        return Opinion(Verdict.ALIVE, f"silent for {silent_s:.0f} s", next_look_s=patience.quiet_s - silent_s)
    if not pulse.unanswered:
        held = " and holds work" if sight.prompt_tokens else ""
        return Opinion(Verdict.ALIVE, f"silent for {silent_s:.0f} s{held}; it is asked for a token", ask=True)
    share = _share(pulse.cpu_s, sight.cpu_s, silent_s)
    server = _share(pulse.server_cpu_s, sight.server_cpu_s, silent_s)
    reads = server is not None and server >= WORKING
    enough = pulse.looks >= patience.looks
    asks = f"no sign for {silent_s:.0f} s, {pulse.unanswered} ask{'s'[: pulse.unanswered > 1]} for one token unanswered"
    if enough and share is not None and share < STILL and not reads and silent_s >= patience.still_s:
        return Opinion(Verdict.DEAD, f"{asks}, and its processes use no CPU", ask=True)
    working = reads or (share is not None and share >= WORKING)
    if pulse.deaf >= patience.looks and not working:
        bound, asks = (
            2 * patience.still_s + _reading_s(pace, patience, sight),
            f"{asks}, nor any other question",
        )
    else:
        bound = max(bound_s(pace, patience, sight, working=working), patience.reads_s if reads else 0.0)
    if silent_s <= bound:
        return Opinion(Verdict.ALIVE, f"{asks}; its work explains up to {bound:.0f} s", ask=True)
    if silent_s <= 1.5 * bound or not enough:
        return Opinion(Verdict.SUSPECT, f"{asks}; its work explains {bound:.0f} s", ask=True)
    return Opinion(Verdict.DEAD, f"{asks}; its work explains {bound:.0f} s", ask=True)


def bound_s(pace: Pace, patience: Patience, sight: Sight, *, working: bool = False) -> float:
    """The silence that a replica's work explains. Where its step statistics can be read the longest step counts, else
    all that it holds. Twice `still_s` at least; a hung replica is dead after one and a half times this, at most."""
    held, step = sight.prompt_tokens, pace.step_tokens
    if sight.marks is not None:
        tokens = step if held is None else min(step, held)
    else:
        tokens = max(step, pace.context) if held is None else held
    slack = patience.seen_slack if pace.seen else patience.planned_slack
    explained = pace.prefill_s(tokens) * (patience.busy_slack if working else 1.0)
    return 2 * patience.still_s + explained * slack + _reading_s(pace, patience, sight)


def _reading_s(pace: Pace, patience: Patience, sight: Sight) -> float:
    """Seconds in which its HTTP server may read prompts, and answer nothing else meanwhile."""
    slack = patience.seen_slack if pace.seen else patience.planned_slack
    return min(patience.reads_s, sight.unread_tokens * READ_TOKEN_S * slack)


def _share(before_s: float | None, now_s: float | None, silent_s: float) -> float | None:
    """The share of a core that was used since the last sign."""
    if now_s is None or before_s is None or silent_s <= 0:
        return None
    return max(0.0, now_s - before_s) / silent_s
