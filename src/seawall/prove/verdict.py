"""From records to a verdict: what was promised, what was seen, and how much a count of zero is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from seawall.domain.units import counted
from seawall.load.measure import at_most
from seawall.prove.pressure import StreamRecord


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a scenario may do to its clients. Everything else is a broken promise."""

    may_reject: bool = False
    """Overload: 429 with Retry-After is the right answer."""
    any_refusal: bool = False
    """A bare 429 or 503 before the first byte is as good, whoever says it."""
    worst_stall_s: float | None = None
    worst_ttft_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class TimelineMark:
    """Something that happened, for the timeline. Seconds from the scenario's start."""

    at_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class ScenarioVerdict:
    """One scenario's outcome."""

    name: str
    title: str
    started: int
    finished: int
    resumed: int
    retried: int
    wasted_tokens: int
    """Tokens that retries and resumes made engines compute again, or lost; prompts and answers."""
    wasted_gpu_s: float
    """GPU-seconds of attempts that broke and were not continued; a CPU counts as one GPU."""
    rejected: int
    left: int
    """Clients that left on purpose."""
    lost: int
    wrong_tokens: int
    wrong_usage: int
    worst_stall_s: float
    worst_ttft_s: float
    duration_s: float
    kept: bool
    broken: tuple[str, ...] = ()
    """Why the promise is broken, one sentence each."""
    doubled_tokens: int = 0
    """Those of the wrong ones that came once more."""
    losses: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    marks: tuple[TimelineMark, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def excused(record: StreamRecord) -> StreamRecord:
    """A record whose wrong tokens count as right: nobody could know yet."""
    if record.checked is None or not record.checked.wrong_tokens:
        return record
    return replace(record, checked=replace(record.checked, wrong_tokens=0, note=""))


def judge(
    name: str,
    title: str,
    records: Sequence[StreamRecord],
    expectation: Expectation,
    *,
    duration_s: float,
    resumed: int,
    retried: int,
    wasted_tokens: int = 0,
    wasted_gpu_s: float = 0.0,
    marks: Sequence[TimelineMark] = (),
    broken: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ScenarioVerdict:
    """A stream that started and did not end whole is lost, whatever the reason, unless it was told 429 with
    Retry-After before its first byte, or its own client left."""
    left = [r for r in records if r.behaviour == "leaver" and r.outcome.error == "cancelled"]
    rejected = [r for r in records if _told_to_wait(r, expectation)]
    whole = [r for r in records if r.outcome.ok]
    lost = [r for r in records if not r.outcome.ok and r not in left and r not in rejected]
    steady = [r for r in whole if r.behaviour == "reader"]
    wrong = sum(r.checked.wrong_tokens for r in whole if r.checked)
    usage = sum(r.checked.wrong_usage for r in whole if r.checked)
    stall = max((r.outcome.worst_gap_s for r in steady), default=0.0)
    first = max((r.outcome.ttft_s or 0.0 for r in steady if r.case.streams), default=0.0)
    reasons = [*broken]
    if lost:
        reasons.append(f"{counted(len(lost), 'stream')} lost")
    if wrong:
        reasons.append(counted(wrong, "wrong token"))
    if usage:
        reasons.append(f"{counted(usage, 'answer')} with a wrong usage")
    if not whole:
        reasons.append("not one stream finished")
    reasons += _beyond(expectation, len(rejected), stall, first)
    examples = [f"{r.case.name}: {r.outcome.error}: {r.outcome.detail}" for r in lost[:3]]
    examples += [f"{r.case.name}: {r.checked.note}" for r in whole if r.checked and r.checked.note][:3]
    return ScenarioVerdict(
        name=name,
        title=title,
        started=len(records),
        finished=len(whole),
        resumed=resumed,
        retried=retried,
        wasted_tokens=wasted_tokens,
        wasted_gpu_s=round(wasted_gpu_s, 2),
        rejected=len(rejected),
        left=len(left),
        lost=len(lost),
        wrong_tokens=wrong,
        wrong_usage=usage,
        worst_stall_s=round(stall, 3),
        worst_ttft_s=round(first, 3),
        duration_s=round(duration_s, 1),
        kept=not reasons,
        broken=tuple(reasons),
        doubled_tokens=sum(r.checked.doubled_tokens for r in whole if r.checked),
        losses=dict(Counter(str(r.outcome.error) for r in lost)),
        notes=(*notes, *examples),
        marks=tuple(marks),
    )


def _told_to_wait(record: StreamRecord, expected: Expectation) -> bool:
    outcome = record.outcome
    if outcome.error == "http-429" and outcome.retry_after_s is not None:
        return True
    return expected.may_reject and expected.any_refusal and outcome.error in ("http-429", "http-503")


def _beyond(expected: Expectation, rejected: int, stall_s: float, first_s: float) -> Iterator[str]:
    """What the scenario does not allow: rejections, the worst stall, the worst wait for a first token."""
    if rejected and not expected.may_reject:
        yield f"{counted(rejected, 'request')} rejected though there was room"
    if expected.worst_stall_s is not None and stall_s > expected.worst_stall_s:
        yield f"a stall of {stall_s:.1f} s, more than {expected.worst_stall_s:.0f} s"
    if expected.worst_ttft_s is not None and first_s > expected.worst_ttft_s:
        yield f"an admitted request waited {first_s:.1f} s, more than {expected.worst_ttft_s:.0f} s"


def overall(verdicts: Sequence[ScenarioVerdict]) -> dict[str, Any]:
    """The last line: streams, lost, and the bound that the count supports at 95%."""
    counted = sum(v.finished + v.lost for v in verdicts)
    lost = sum(v.lost for v in verdicts)
    return {
        "kept": all(v.kept for v in verdicts) and bool(verdicts),
        "scenarios": len(verdicts),
        "streams": counted,
        "lost": lost,
        "wrong_tokens": sum(v.wrong_tokens for v in verdicts),
        "wasted_tokens": sum(v.wasted_tokens for v in verdicts),
        "wasted_gpu_s": round(sum(v.wasted_gpu_s for v in verdicts), 2),
        "lost_share_at_most": at_most(lost, counted),
        "confidence": 0.95,
    }
