"""A proof against a cluster: what happens there, and in which order. What may be touched is in `cluster`.

A control run without any event comes first: engines whose greedy answers differ by themselves under load (kernels that
round by batch size) are found there, and their tokens are then not held against a scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from seawall.drivers.kube import POD
from seawall.errors import EngineError
from seawall.load.client import ClientPatience, LoadClient
from seawall.prove.cases import ask_reference, requests
from seawall.prove.cluster import ClusterFleet, ClusterStage
from seawall.prove.run import CONTROL, Proof, ProofPace, Result, forgiven, play
from seawall.prove.scenarios import Scenario
from seawall.prove.stage import Stage
from seawall.prove.verdict import Expectation, ScenarioVerdict

PACE = ProofPace(
    settle_s=2.0, after_s=1.5, patience=ClientPatience(first_s=90, stall_s=60, total_s=600), end_s=400.0
)


@dataclass(frozen=True, kw_only=True)
class ClusterQuestions:
    """The length of the questions that are asked of a cluster."""

    last_s: float
    """How long each should take at least: longer than a killed Pod lives (1 s, which its kubelet rounds up to 2)."""
    context: int
    """Tokens of a prompt and its answer that every replica takes."""


async def _evict(stage: Stage) -> None:
    on, victim = cast(ClusterStage, stage), await stage.victim()
    stage.mark(f"evict {victim.name}")
    if await on.evict(victim.name):
        await on.replaced([victim.name])
        stage.mark("replaced")


async def _kill(stage: Stage) -> None:
    on, victim = cast(ClusterStage, stage), await stage.victim()
    stage.mark(f"delete {victim.name} with a grace period of 1 s")
    # Not 0: that takes the object away at once and leaves the container its whole grace period (kubernetes #120449).
    target = on.fleet.target
    await on.fleet.kube.delete(POD, target.namespace, victim.name, grace_s=1)
    await on.replaced([victim.name])
    stage.mark("replaced")


async def _roll(stage: Stage) -> None:
    on, before = cast(ClusterStage, stage), [r.name for r in await stage.ready()]
    stage.mark("rollout restart")
    await stage.order(do="restart")
    await on.replaced(before)
    stage.mark("all replaced")


async def _scale(stage: Stage) -> None:
    on = cast(ClusterStage, stage)
    count = on.fleet.target.replicas
    try:
        stage.mark(f"scale to {count + 1}")
        await stage.order(do="scale", replicas=count + 1)
        await on.settled(count + 1)
    finally:
        stage.mark(f"scale to {count}")
        await stage.order(do="scale", replicas=count)
    await on.settled(count)


async def _gateway(stage: Stage) -> None:
    on = cast(ClusterStage, stage)
    before = set(await on.fleet.gateways())
    stage.mark("rollout restart of the gateway")
    await stage.order(do="restart-gateway")

    async def replaced() -> bool:
        now = set(await on.fleet.gateways())
        return bool(now) and not now & before

    await stage.until("a new gateway", replaced, on.wait_s)
    stage.mark("new gateway")


_STALL = Expectation(worst_stall_s=60.0)
CLUSTER: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(name="evict", title="eviction of a replica", play=_evict, expectation=_STALL),
        Scenario(name="kill", title="a Pod killed after 1 s", play=_kill, expectation=_STALL),
        Scenario(name="rolling-update", title="rolling update of all replicas", play=_roll, expectation=_STALL),
        Scenario(name="scale", title="one replica more, one less", play=_scale, expectation=_STALL),
        Scenario(name="gateway-restart", title="rolling restart of the gateway", play=_gateway,
                 expectation=_STALL),
    )
}  # fmt: skip


async def prove_cluster(
    proof: Proof,
    fleet: ClusterFleet,
    model: str,
    wait_s: float,
    answers: ClusterQuestions,
    result: Result,
    say: Callable[[str], None],
    done: Callable[[ScenarioVerdict], None],
    pace: ProofPace = PACE,
) -> None:
    """The control, then each scenario, one at a time. Raises EngineError when the address gives no right answers."""
    say(f"learning the right answers from {fleet.url}")
    tokens = await _tokens(proof, fleet.url, model, answers)
    cases = await ask_reference(fleet.url, requests(model, tokens, 8), api_key=proof.api_key)
    result.shortened = {}
    exact = True
    for scenario in (CONTROL, *proof.scenarios):
        say(scenario.title)
        verdict, records = await play(proof, scenario, fleet, cases, ClusterStage(fleet, wait_s), pace)
        if scenario is CONTROL:
            exact = not verdict.wrong_tokens
        if not exact:
            verdict = forgiven(verdict)
        if scenario.name == "kill" and not verdict.resumed + verdict.retried:
            note = "no gateway counted a broken stream: the kill met none, or /debug/state could not be read"
            verdict = replace(verdict, notes=(note, *verdict.notes))
        result.verdicts.append(verdict)
        result.records[scenario.name] = records
        done(verdict)
        if scenario is CONTROL and not verdict.kept:
            say("the control failed: nothing was disturbed")
            return


async def _tokens(proof: Proof, url: str, model: str, answers: ClusterQuestions) -> tuple[int, ...]:
    """Answer lengths, in tokens, that take the wanted time here; measured by one answer on an idle fleet."""
    client = LoadClient(url, api_key=proof.api_key)
    try:
        _, path, payload = requests(model, (32,), 1)[0]
        alone = await client.request(path, payload)
    finally:
        client.close()
    if alone.tpot_s is None:
        raise EngineError(f"{url} gave no answer: {alone.error} {alone.detail}", "Try: seawall bench " + url)
    least = max(16, min(round(answers.last_s / max(alone.tpot_s, 1e-4)), answers.context // 4, 2048))
    return least, least * 3 // 2, least * 2, least * 5 // 4
