"""Why a container does not run: images, configuration, exits and probes, read with its last log. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import (
    Facts,
    Object,
    condition,
    items,
    name_of,
    part,
    seconds_between,
    shown,
    whole,
)
from seawall.engines.vllm import metrics as vllm
from seawall.engines.vllm.signs import Said, read

LONG_AGO_S = 3600.0


def statuses(pod: Object) -> Iterator[tuple[Object, Object, bool]]:
    """(container status, container spec, init?) of every container of a Pod."""
    for key, specs, init in (
        ("initContainerStatuses", "initContainers", True),
        ("containerStatuses", "containers", False),
    ):
        by_name = {c.get("name"): c for c in items(pod, "spec", specs)}
        for status in items(pod, "status", key):
            yield status, by_name.get(status.get("name"), {}), init


def ended(status: Object) -> Object:
    """The last end of a container: `state.terminated`, else `lastState.terminated`."""
    return part(status, "state", "terminated") or part(status, "lastState", "terminated")


def probe_budget_s(probe: Object) -> float:
    period = whole(probe.get("periodSeconds"), 10)
    return whole(probe.get("initialDelaySeconds"), 0) + period * whole(probe.get("failureThreshold"), 3)


@rule
def exits(facts: Facts) -> Iterator[Cause]:
    """Containers that died: what killed them, and what the log says."""
    for pod in facts.pods:
        for status, spec, init in statuses(pod):
            end = ended(status)
            if not end or (end.get("exitCode") == 0 and end.get("reason") != "OOMKilled"):
                continue
            if _recovered(facts, status, end):
                continue
            said = read(facts.log(pod, str(status.get("name"))))
            yield from _ended(facts, pod, status, spec, init, end, said)


def _recovered(facts: Facts, status: Object, end: Object) -> bool:
    """Whether a container died long ago and has been ready since: history, not a cause."""
    ago = seconds_between(end.get("finishedAt"), facts.taken_at)
    return bool(status.get("ready")) and ago is not None and ago > LONG_AGO_S


def _ended(
    facts: Facts, pod: Object, status: Object, spec: Object, init: bool, end: Object, said: Said | None
) -> Iterator[Cause]:
    subject = f"Pod/{name_of(pod)}"
    again = f", restarted {status.get('restartCount')} times" if status.get("restartCount") else ""
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
            do="raise the memory limit; /dev/shm (emptyDir Memory), pinned buffers and KV "
            "offloading count into it",
        )
        return
    killed = _by_probe(facts, pod, status, spec, end, fact)
    if killed is not None:
        yield killed
        if said is None or said.sign.weight < 50:
            return
    if said is not None:
        yield Cause(
            id=said.sign.id,
            certainty="certain" if said.sign.certain else "likely",
            subject=subject,
            weight=said.sign.weight,
            what=said.what,
            evidence=(fact, f"log: {said.line}"),
            do=said.sign.do,
        )
        return
    if killed is None or init:
        yield _unexplained(pod, status, end, init, probed=killed is not None, fact=fact)


def _unexplained(pod: Object, status: Object, end: Object, init: bool, *, probed: bool, fact: str) -> Cause:
    """The cause of a death whose log says nothing, from its exit code and the place where it happened."""
    logs = f"kubectl logs {name_of(pod)} -c {status.get('name')} --previous"
    deleted = part(pod, "metadata").get("deletionTimestamp") is not None
    if not probed and end.get("exitCode") == 137 and not deleted:
        return Cause(
            id="container/killed",
            certainty="possible",
            subject=f"Pod/{name_of(pod)}",
            weight=60,
            what="it was killed with SIGKILL: the node's memory ran out, or a probe or grace period ended",
            evidence=(fact,),
            do="kubectl describe pod (events); dmesg on the node",
        )
    if init:
        return Cause(
            id="init/crash",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=90,
            what=f"the init container {status.get('name')} fails, so vLLM never starts",
            evidence=(fact,),
            do=logs,
        )
    hint = " (argument error: vLLM refuses its command line)" if end.get("exitCode") == 2 else ""
    return Cause(
        id="container/crash",
        certainty="possible",
        subject=f"Pod/{name_of(pod)}",
        weight=70,
        what=f"it ends by itself{hint}; the log at hand does not say why",
        evidence=(fact,),
        do=logs,
    )


def _by_probe(
    facts: Facts, pod: Object, status: Object, spec: Object, end: Object, fact: str
) -> Cause | None:
    """A container that a probe killed; for the startup probe, one that died at exactly its budget."""
    events = list(facts.events_of(pod, "Unhealthy", "Killing"))
    startup = next((e for e in events if "Startup probe failed" in str(e.get("message"))), None)
    live = next((e for e in events if "Liveness probe failed" in str(e.get("message"))), None)
    killing = next(
        (e for e in events if re.search(r"failed (startup|liveness) probe", str(e.get("message")))), None
    )
    probe = part(spec, "startupProbe")
    lived = seconds_between(end.get("startedAt"), end.get("finishedAt"))
    budget = probe_budget_s(probe) if probe else None
    at_budget = bool(
        budget and lived and abs(lived - budget) <= max(30.0 + 10, 0.15 * budget) and lived >= budget - 15
    )
    subject = f"Pod/{name_of(pod)}"
    if budget and (startup or (killing and "startup" in str(killing.get("message")))) and at_budget:
        return Cause(
            id="probe/startup-too-short",
            certainty="certain",
            subject=subject,
            weight=98,
            what=f"the startup probe killed it after {lived:.0f} s, its budget of {budget:.0f} s: the "
            "model was still loading, and it begins again",
            evidence=(fact, shown(startup or killing or {})),
            do=f"raise startupProbe.failureThreshold to {int(2 * budget / whole(probe.get('periodSeconds'), 10))} "
            "or more (seawall plan shows the start-up budget)",
        )
    if at_budget and end.get("exitCode") in (137, 143):
        return Cause(
            id="probe/startup-too-short",
            certainty="likely",
            subject=subject,
            weight=95,
            what=f"it died at its startup probe's budget of {budget:.0f} s: probably still loading",
            evidence=(fact, f"lived {lived:.0f} s"),
            do="raise startupProbe.failureThreshold (seawall plan shows the start-up budget)",
        )
    if live is not None and end.get("exitCode") in (137, 143, 0):
        return Cause(
            id="probe/liveness",
            certainty="likely",
            subject=subject,
            weight=85,
            what="the liveness probe killed it: hung, or too busy to answer in time",
            evidence=(fact, shown(live)),
            do="were counters moving before? If yes raise timeoutSeconds and failureThreshold; if "
            "not it hung: look at the log",
        )
    return None


@rule
def probes(facts: Facts) -> Iterator[Cause]:
    """Probes that ask the wrong port: refused for ever, while the log says that the server listens elsewhere."""
    for pod in facts.pods:
        for status, spec, init in statuses(pod):
            event = next(
                (
                    e
                    for e in facts.events_of(pod, "Unhealthy")
                    if "connection refused" in str(e.get("message"))
                ),
                None,
            )
            if init or event is None:
                continue
            asked = re.search(
                r":(\d+)/?\S*\": dial tcp [^ ]+:(\d+): connect: connection refused", str(event.get("message"))
            )
            log = facts.logs.get(f"{name_of(pod)}/{status.get('name')}", "")
            listens = re.findall(
                r"(?:Uvicorn running on|Starting vLLM(?: API)? server(?: \d+)? on) https?://[^:\s]+:(\d+)",
                log,
            )
            if asked and listens and asked[1] != listens[-1]:
                yield Cause(
                    id="probe/port-mismatch",
                    certainty="certain",
                    subject=f"Pod/{name_of(pod)}",
                    weight=95,
                    what=f"the probe asks port {asked[1]} and vLLM listens on {listens[-1]}",
                    evidence=(shown(event), f"log: listens on {listens[-1]}"),
                    do="make the probe's port, the container port and --port agree (a named port once)",
                )
            del spec


@rule
def evicted(facts: Facts) -> Iterator[Cause]:
    """Pods that the kubelet pushed out."""
    for pod in facts.pods:
        status = part(pod, "status")
        if status.get("reason") != "Evicted":
            continue
        message = str(status.get("message") or "")
        what = re.search(r"low on resource: ([\w.-]+)", message)
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
        )


@rule
def hung(facts: Facts) -> Iterator[Cause]:
    """Engines whose HTTP server answers while their scheduler hangs: requests run, and no token counter moves."""
    running, tokens = (
        facts.metrics.get(vllm.RUNNING, {}),
        facts.metrics.get(vllm.GENERATION_TOKENS, {}),
    )
    before = facts.metrics_before.get(vllm.GENERATION_TOKENS, {})
    prompt, prompt_before = (m.get(vllm.PROMPT_TOKENS, {}) for m in (facts.metrics, facts.metrics_before))
    for pod, busy in running.items():
        if (
            busy > 0
            and pod in tokens
            and tokens[pod] == before.get(pod)
            and prompt.get(pod) == prompt_before.get(pod)
        ):
            yield Cause(
                id="engine/hung",
                certainty="likely",
                subject=f"Pod/{pod}",
                weight=95,
                what=f"{busy:.0f} requests run and not one token was made since the sample before: the "
                "engine hangs (its /health can still say 200)",
                evidence=(f"{vllm.GENERATION_TOKENS} stands at {tokens[pod]:.0f}",),
                do=f"kubectl delete pod {pod} (the gateway resumes its streams); py-spy dump before, if "
                "you can",
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


@rule
def gpu_faults(facts: Facts) -> Iterator[Cause]:
    """Xid errors that node-problem detectors and DCGM report as events or conditions."""
    for event in facts.events:
        message = str(event.get("message") or "")
        m = re.search(r"Xid[^\d]{0,30}(\d+)", message)
        if m and part(event, "involvedObject").get("kind") != "Pod":
            node = part(event, "involvedObject").get("name")
            yield Cause(
                id="gpu/xid",
                certainty="certain",
                subject=f"Node/{node}",
                weight=95,
                what=f"the GPU driver reports Xid {m[1]}: {_xid(int(m[1]))}",
                evidence=(shown(event),),
                do=f"kubectl cordon {node}; dcgmi diag -r 3; reset or replace the GPU",
            )


def _xid(number: int) -> str:
    known = {
        13: "a graphics engine exception (often software)",
        31: "a memory page fault (often software)",
        43: "the GPU stopped processing",
        45: "preemptive cleanup after another error",
        48: "a double-bit ECC error",
        63: "row remapping pending: a reset is needed",
        64: "row remapping failed: replace the GPU",
        74: "an NVLink error",
        79: "the GPU has fallen off the bus",
        94: "a contained ECC error",
        95: "an uncontained ECC error: reset the GPU",
        119: "the GSP firmware timed out",
        120: "the GSP firmware failed",
    }
    return known.get(number, "see NVIDIA's Xid catalogue")
