"""Every way in which a vLLM server was seen to fail, on command: `POST /sim/fault {"kind": ..., ...}`.

Stream faults break streams: `eof`, `reset` (half a chunk, then RST), `abort` (finish_reason abort), `done-only`
([DONE] without a finish_reason), `error` (error event, then [DONE]), `freeze` (that stream stays open, silent).
  {"kind": "eof"}                              now, every open stream
  {"kind": "eof", "after_tokens": 5}           the next request, after its fifth token
  {"kind": "eof", "after_tokens": 5, "count": 3}
Process faults: `die` (kill -9), `engine-dead` (error events, then exit), `hang` (no step, /health 200),
`black-hole` (nothing is answered), `blind` (/metrics answers 500), `refuse` (connections refused), `fail`
(generation answers 500, /health 200), `slow` ({"factor": 10}), `wrong-weights` (other tokens, all well
otherwise), `wrong-template` (chats become other prompts), `nan` (who asks for logprobs gets the 400 that vLLM 0.32
gives for NaN, everybody else tokens). With `"seconds"` they end by themselves;
`{"kind": "clear"}` ends them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.engines.sim.asks import ApiRefusal, Json

STREAM_KINDS = frozenset({"eof", "reset", "abort", "done-only", "error", "freeze"})
PROCESS_KINDS = frozenset(
    {"die", "engine-dead", "hang", "black-hole", "blind", "refuse", "fail", "slow", "wrong-weights"}
    | {"wrong-template", "nan", "clear"}
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One order to fail."""

    kind: str
    after_tokens: int | None = None
    count: int = 1
    seconds: float | None = None
    factor: float = 10.0
    status: int = 500


def read_fault(data: Json) -> Fault:
    """Raises Refused when the order is not understood."""
    kind = data.get("kind")
    if kind not in STREAM_KINDS | PROCESS_KINDS:
        raise ApiRefusal(
            f"kind must be one of {', '.join(sorted(STREAM_KINDS | PROCESS_KINDS))}; got {kind!r}"
        )
    known = {k: v for k, v in data.items() if k in ("after_tokens", "count", "seconds", "factor", "status")}
    unknown = set(data) - set(known) - {"kind"}
    if unknown:
        raise ApiRefusal(f"unknown field of a fault: {sorted(unknown)[0]}")
    return Fault(kind=kind, **known)


class Armed:
    """Stream faults that wait for the next requests, and the process faults in force."""

    def __init__(self) -> None:
        self.next: list[Fault] = []
        self.active: dict[str, Fault] = {}

    def has(self, kind: str) -> bool:
        return kind in self.active

    def arm(self, fault: Fault) -> None:
        self.next.extend([fault] * fault.count)

    def take(self) -> Fault | None:
        """The fault that a new request has drawn."""
        return self.next.pop(0) if self.next else None

    def slowdown(self) -> float:
        return self.active["slow"].factor if "slow" in self.active else 1.0

    def clear(self) -> None:
        self.next.clear()
        self.active.clear()
