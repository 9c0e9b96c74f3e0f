"""Engines that may hang while their HTTP server answers, judged by the decision that the gateway, `seawall up` and the
probes go by (`decide/route/evidence.py`): what moved between two looks, what work explains, what gateways have seen.

Forbidden here: a second opinion of what is a sign of life.
"""

from __future__ import annotations

from collections.abc import Iterator

from seawall.decide.route.evidence import Pace, Patience, Pulse, Sight, Verdict, bound_s, look
from seawall.decide.route.pace import UNPLANNED
from seawall.decide.truth.standing import WRONG
from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts
from seawall.domain.told import read
from seawall.domain.units import counted
from seawall.engines.vllm import metrics as vllm
from seawall.engines.vllm.load import ENOUGH_TOKENS

PATIENCE = Patience()
OUT = ("evicted", "probing")
"""States in which a gateway asks a replica for a token, and has not got one."""


@rule
def hung(facts: Facts) -> Iterator[Cause]:
    """Engines that owe answers and show no sign of life."""
    told = _out(facts)
    for pod, busy in facts.metrics.get(vllm.RUNNING, {}).items():
        before, now = _marks(facts, pod)
        if busy <= 0 or not now:
            continue
        out = told.get(pod, ())
        pace = _pace(facts, pod)
        sight = Sight(marks=now, answered=False if out else None)
        pulse = Pulse(sign_s=0.0, marks=before, looks=PATIENCE.looks)
        opinion, after = look(pulse, sight, pace, PATIENCE, facts.metrics_apart_s)
        if not after.looks:
            continue  # it has shown a sign
        running = counted(round(busy), "request runs", "requests run")
        silent = f"{running} and nothing has moved for {facts.metrics_apart_s:.0f} s"
        evidence = (f"no statistic of a step has moved: {opinion.reason}", *out)
        if out or opinion.verdict is not Verdict.ALIVE:
            yield Cause(
                id="engine/hung",
                certainty="likely",
                subject=f"Pod/{pod}",
                weight=95,
                what=f"{silent}: the engine hangs (its /health can still say 200)",
                evidence=evidence,
                do=f"kubectl delete pod {pod} (the gateway resumes its streams); py-spy dump before, if you can",
            )
        else:
            explained = bound_s(pace, PATIENCE, sight)
            yield Cause(
                id="engine/hung",
                certainty="possible",
                subject=f"Pod/{pod}",
                weight=60,
                what=f"{silent}: it hangs, or computes a long prompt in one step, which shows nothing either",
                evidence=evidence,
                do=f"look again: its work explains up to {explained:.0f} s of silence; the probe and the gateway end "
                "what lasts longer",
            )


def _marks(facts: Facts, pod: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Statistics of steps that are known from both looks: before, now."""
    pairs = [
        (facts.metrics_before[name][pod], facts.metrics[name][pod])
        for name in vllm.MARKS
        if pod in facts.metrics_before.get(name, {}) and pod in facts.metrics.get(name, {})
    ]
    return tuple(before for before, _ in pairs), tuple(now for _, now in pairs)


def _pace(facts: Facts, pod: str) -> Pace:
    """The pace that its metrics show; else that of a slow device."""
    tokens = facts.metrics.get(vllm.PREFILLED_TOKENS, {}).get(pod, 0.0)
    seconds = facts.metrics.get(vllm.PREFILL_S, {}).get(pod)
    if seconds is None or tokens < ENOUGH_TOKENS:
        return UNPLANNED
    return Pace(prompt_token_s=seconds / tokens, seen=True)


def _out(facts: Facts) -> dict[str, tuple[str, ...]]:
    """Replica -> what each gateway that has taken it out says of it."""
    found: dict[str, list[str]] = {}
    for gateway, document in {**facts.gateways, "gateway": facts.gateway}.items():
        if gateway == "gateway" and facts.gateways:
            continue  # the sum of the others
        try:
            replicas = read(document).replicas
        except ValueError:
            continue
        for name, replica in replicas.items():
            if replica.state in OUT and WRONG not in replica.reason:
                found.setdefault(name, []).append(f"{gateway}: {replica.reason or replica.state}")
    return {name: tuple(sorted(said)[:3]) for name, said in found.items()}
