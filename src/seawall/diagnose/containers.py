"""Why a container does not run: images, configuration, exits and probes, read with its last log. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.deaths import unexplained
from seawall.diagnose.facts import (
    Facts,
    Object,
    condition,
    items,
    name_of,
    part,
    seconds_between,
    whole,
)
from seawall.diagnose.fetchers import LESS_MEMORY, fetches
from seawall.diagnose.hardware import refined
from seawall.diagnose.last_words import at_fault, from_exception, from_logged, from_sign, vague
from seawall.diagnose.out_of_memory import when_it_ran_out
from seawall.diagnose.probes import by_probe
from seawall.diagnose.programs import no_program
from seawall.diagnose.states import ended, statuses
from seawall.domain.units import counted
from seawall.engines.vllm import metrics as vllm
from seawall.engines.vllm.raised import exception, explains, first_logged, nearer
from seawall.engines.vllm.signs import Said, read

LONG_AGO_S = 3600.0


@rule
def exits(facts: Facts) -> Iterator[Cause]:
    """Containers that died: what killed them, and what the log says."""
    for pod in facts.pods:
        for status, spec, init in statuses(pod):
            end = ended(status)
            if not end or (end.get("exitCode") == 0 and not _comes_back(status, init)):
                continue
            if _recovered(facts, status, end):
                continue
            log = facts.log(pod, str(status.get("name")))
            said = read(log) or read(
                str(end.get("message") or "")
            )  # the runtime's own words, or the log's tail
            yield from _ended(facts, pod, status, spec, init, end, said)


def _comes_back(status: Object, init: bool) -> bool:
    """Whether an end with exit status 0 is none: a server that ends is started again, and backs off."""
    waiting = part(status, "state", "waiting")
    return not init and (
        waiting.get("reason") == "CrashLoopBackOff" or ended(status).get("reason") == "OOMKilled"
    )


def _recovered(facts: Facts, status: Object, end: Object) -> bool:
    """Whether a container died long ago and has been ready since: history, not a cause."""
    ago = seconds_between(end.get("finishedAt"), facts.taken_at)
    return bool(status.get("ready")) and ago is not None and ago > LONG_AGO_S


def _ended(
    facts: Facts, pod: Object, status: Object, spec: Object, init: bool, end: Object, said: Said | None
) -> Iterator[Cause]:
    subject = f"Pod/{name_of(pod)}"
    restarts = whole(status.get("restartCount"))
    again = f", restarted {counted(restarts, 'time')}" if restarts else ""
    fact = f"{status.get('name')}: {end.get('reason') or 'ended'} (exit {end.get('exitCode')}){again}"
    if end.get("reason") == "OOMKilled":
        limit = part(spec, "resources", "limits").get("memory") or "none"
        yield Cause(
            id="memory/oom-killed",
            certainty="certain",
            subject=subject,
            weight=100,
            what=f"the kernel killed it: the container used more host memory than its limit ({limit}); "
            "this is not GPU memory",
            evidence=(fact,),
            do=LESS_MEMORY
            if init and fetches(str(status.get("name")), facts.log(pod, str(status.get("name"))))
            else "raise the memory limit; /dev/shm (emptyDir Memory), pinned buffers and KV offloading count into it",
        )
        return
    program = no_program(str(end.get("message") or ""))
    if program:
        yield Cause(
            id=program[2],
            certainty="certain",
            subject=subject,
            weight=98,
            what=program[0],
            evidence=(fact, str(end.get("message"))[-240:]),
            do=program[1],
        )
        return
    killed = by_probe(facts, pod, status, spec, end, fact)
    if killed is not None:
        yield killed
        if said is None or said.sign.weight < 50:
            return
    log = facts.log(pod, str(status.get("name")))
    raised = exception(log)
    if raised is not None and said is not None:
        said = nearer(said, log, raised)
    if raised is None and said is not None and said.sign.id == "engine/died":
        yield from_logged(from_sign(subject, end, said, fact, sure=False), first_logged(log))
    elif raised is not None and killed is None and (said is None or vague(said, raised)):
        yield from_exception(subject, end, raised, fact, log, str(status.get("name")) if init else "")
    elif said is not None:
        sure = said.sign.certain and (raised is None or explains(said, log, raised))
        cause = refined(facts, pod, spec, said, from_sign(subject, end, said, fact, sure))
        yield at_fault(when_it_ran_out(cause, log), raised, log)
    elif killed is None or init:
        yield unexplained(pod, status, end, init, probed=killed is not None, fact=fact, log=log)


@rule
def evicted(facts: Facts) -> Iterator[Cause]:
    """Pods that the kubelet pushed out."""
    for pod in facts.pods:
        status = part(pod, "status")
        if status.get("reason") != "Evicted":
            continue
        message = str(status.get("message") or "")
        what = re.search(r"low on resource: ([\w.-]+)", message)
        replaced = _replaced(facts, pod)
        own, low = "exceed" in message, what[1] if what else "resources"
        yield Cause(
            id="node/evicted",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=85,
            what="the kubelet evicted it: "
            + ("it used more ephemeral storage than its limit" if own else f"the node ran low on {low}"),
            evidence=(message[:240],),
            do="request ephemeral-storage and memory equal to the limits (Guaranteed); put caches on volumes",
            kind="risk" if replaced else "cause",
        )


def _replaced(facts: Facts, pod: Object) -> bool:
    """Whether a ready Pod of the same owner serves in its place: what is left of it is history."""
    owners = {o.get("uid") or o.get("name") for o in items(pod, "metadata", "ownerReferences")} - {None}
    return any(
        condition(p, "Ready").get("status") == "True"
        and owners & {o.get("uid") or o.get("name") for o in items(p, "metadata", "ownerReferences")}
        for p in facts.pods
    )


@rule
def overload(facts: Facts) -> Iterator[Cause]:
    """Replicas that are not broken but too small: a queue, a full KV cache, preemptions."""
    cache = facts.metrics.get(vllm.KV_USAGE, {})
    waiting = facts.metrics.get(vllm.WAITING, {})
    full = [p for p, v in cache.items() if v >= 0.95 and waiting.get(p, 0) > 0]
    if full:
        yield Cause(
            id="load/kv-full",
            certainty="certain",
            subject=f"Pod/{full[0]}",
            also=tuple(f"Pod/{p}" for p in full[1:]),
            weight=40,
            what="the KV cache is full and requests wait: more load than these replicas hold",
            evidence=(f"KV cache {cache[full[0]]:.0%}, {waiting[full[0]]:.0f} waiting",),
            do="more replicas (scaling.max), fp8 KV cache, or a shorter max_model_len; seawall "
            "simulate shows which",
        )


@rule
def slow_death(facts: Facts) -> Iterator[Cause]:
    """Pods that stay Terminating: finalizers, a dead node, a long drain."""
    for pod in facts.pods:
        told = part(pod, "metadata").get("deletionTimestamp")
        late = seconds_between(told, facts.taken_at)
        if told and late is not None and late > 60:
            unready = condition(pod, "Ready").get("status") == "Unknown"
            yield Cause(
                id="pod/stuck-terminating",
                certainty="likely",
                subject=f"Pod/{name_of(pod)}",
                weight=50,
                what=f"it should have gone {late:.0f} s ago"
                + (": its node does not answer" if unready else ""),
                evidence=(
                    f"deletionTimestamp {told}, finalizers {part(pod, 'metadata').get('finalizers') or 'none'}",
                ),
                do="node gone: kubectl delete node NODE; a finalizer: who set it?",
            )
