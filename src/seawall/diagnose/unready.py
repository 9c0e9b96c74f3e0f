"""Pods that run and serve nobody: init containers that never end, servers that do not get ready. Pure rules.

Nothing has died here, so there is no exit status and often no error in a log: the words of the failing probe and the
time that has passed are the evidence. Forbidden here: to call a model that still loads within its budget a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from seawall.diagnose.cause import Cause, CauseCertainty, rule
from seawall.diagnose.facts import Facts, Object, name_of, part, seconds_between, shown
from seawall.diagnose.fetchers import GO_ON, fetches
from seawall.diagnose.probes import SERVED, about
from seawall.diagnose.states import ended, statuses
from seawall.domain.units import show_seconds

PATIENCE_S = 300.0
"""How long a server may be refused connections before it is worth a word: loading looks the same."""
_LONG_INIT_S = 600.0
_SERVER = re.compile(r"proxy|router|sidecar|envoy|agent|exporter|gateway", re.I)
_WAITS = re.compile(r"waiting for the weights: ([^\n]{1,200})")
_LOCAL = re.compile(
    r"(?:Uvicorn running on|Starting vLLM API server(?: \d+)? on) https?://(127\.0\.0\.1|localhost|\[?::1)"
)


@rule
def endless_inits(facts: Facts) -> Iterator[Cause]:
    """Init containers that run and run: what stands behind them, vLLM among it, is never started."""
    for pod in facts.pods:
        if part(pod, "metadata").get("deletionTimestamp"):
            continue
        for status, spec, init in statuses(pod):
            began = part(status, "state", "running").get("startedAt")
            if not init or not began or spec.get("restartPolicy") == "Always":
                continue
            name = str(status.get("name"))
            since = seconds_between(began, facts.taken_at)
            log = facts.logs.get(f"{name_of(pod)}/{name}", "")
            waits = _WAITS.findall(log)
            if waits:
                yield _waits(pod, name, waits[-1].strip(), since)
            elif since is not None and since >= _LONG_INIT_S:
                yield _never_ends(pod, name, str(spec.get("image") or ""), since, fetches(name, log))


def _waits(pod: Object, name: str, missing: str, since: float | None) -> Cause:
    return Cause(
        id="weights/waiting",
        certainty="certain",
        subject=f"Pod/{name_of(pod)}",
        weight=82,
        what="the engine is not started because its weights are not there yet"
        + (f", for {show_seconds(since)} now" if since else ""),
        evidence=(f"log of {name}: waiting for the weights: {missing}",),
        do="kubectl get jobs: does the Job that loads them run, and what does its log say? It is the claim of this Pod "
        "that it has to fill",
    )


def _never_ends(pod: Object, name: str, image: str, since: float, fetching: bool) -> Cause:
    server = not fetching and bool(_SERVER.search(f"{name} {image}"))
    certainty: CauseCertainty = "likely" if server else "possible"
    return Cause(
        id="init/never-ends",
        certainty=certainty,
        subject=f"Pod/{name_of(pod)}",
        weight=84,
        what=f"the init container {name} runs for {show_seconds(since)} and does not end, so vLLM is never started"
        + (
            ": it is a server, and has no restartPolicy: Always that would make it a sidecar"
            if server
            else ""
        ),
        evidence=(f"initContainers: {name}, running, image {image or 'unknown'}",),
        do="set restartPolicy: Always on it (Kubernetes 1.29 and later), or move it to containers"
        if server
        else GO_ON.replace("POD", name_of(pod), 1).replace("NAME", name, 1)
        if fetching
        else f"kubectl logs {name_of(pod)} -c {name}: does it still download, or wait for something that never comes?",
    )


@rule
def not_ready(facts: Facts) -> Iterator[Cause]:
    """Containers that run, have not died, and fail a probe: by what the probe says."""
    for pod in facts.pods:
        if part(pod, "metadata").get("deletionTimestamp"):
            continue
        for status, spec, init in statuses(pod):
            running = part(status, "state", "running")
            if init or not running or status.get("ready") is not False or ended(status):
                continue
            event = next(
                (e for e in facts.events_of(pod, "Unhealthy") if about(e, str(status.get("name")))), None
            )
            if event is not None:
                since = seconds_between(running.get("startedAt"), facts.taken_at)
                yield from _by_words(facts, pod, status, spec, event, since)


@dataclass(frozen=True)
class ProbeWord:
    """What a kubelet or a probe's own program says, and what it means."""

    id: str
    pattern: str
    what: str
    """May use {probe}, the pattern's named groups, and {timeout} (the probe's timeoutSeconds)."""
    do: str
    certainty: CauseCertainty = "certain"


_WORDS = (
    ProbeWord(
        "probe/command-missing",
        r'exec: \\?"(?P<program>[^"\\]+)\\?": (?:executable file not found|stat [^:\n]*: no such file|no such file)'
        r"|(?:sh|bash|ash): (?:line )?\d*:? ?(?P<word>[\w./-]+): (?:command )?not found",
        "the {probe} probe calls {program}{word}, which the image does not have: it can never succeed",
        "use httpGet on /health, or a program of the image (vLLM's has python3 and curl, and no jq)",
    ),
    ProbeWord(
        "probe/wrong-path",
        r"statuscode: 404",
        "the {probe} probe asks for a path that the server does not have (404): the Pod never gets ready",
        "ask for /health (vLLM's), on vLLM's port",
    ),
    ProbeWord(
        "probe/unauthorized",
        r"statuscode: (?P<code>401|403)",
        "the {probe} probe asks for a path that wants the API key ({code}): the Pod never gets ready",
        "ask for /health, which needs no key (/v1/models does)",
    ),
    ProbeWord(
        "probe/scheme",
        r"HTTP response to HTTPS client|first record does not look like a TLS|malformed HTTP response",
        "the {probe} probe and the server do not speak the same protocol: one HTTP, the other HTTPS",
        "httpGet.scheme: HTTPS where vLLM has --ssl-certfile, else leave it out",
    ),
    ProbeWord(
        "probe/unreachable",
        r"i/o timeout|no route to host|host is unreachable",
        "the kubelet does not reach the Pod: the {probe} probe's connection gets no answer at all",
        "the Pod network of that node, a host firewall, or a policy that shuts the node out: do other Pods of the node "
        "get ready?",
        "likely",
    ),
    ProbeWord(
        "probe/slow",
        r"deadline exceeded|Client\.Timeout|timed out",
        "the server accepts the {probe} probe and does not answer within its timeoutSeconds ({timeout})",
        "raise timeoutSeconds to 5 or more; a starved CPU (throttling, a small limit) answers late, too",
        "likely",
    ),
)
"""In this order: the first that matches is taken."""


def _by_words(
    facts: Facts, pod: Object, status: Object, spec: Object, event: Object, since: float | None
) -> Iterator[Cause]:
    kind, _, said = str(event.get("message") or "").partition(": ")
    probe = kind.split(" ")[0].lower()
    log = facts.logs.get(f"{name_of(pod)}/{status.get('name')}", "")
    subject, evidence = f"Pod/{name_of(pod)}", (shown(event),)
    for word in _WORDS:
        m = re.search(word.pattern, said)
        if m is not None:
            named = {k: v or "" for k, v in m.groupdict().items()}
            timeout = part(spec, f"{probe}Probe").get("timeoutSeconds", 1)
            what = word.what.format(probe=probe, timeout=timeout, **named)
            yield Cause(
                id=word.id,
                certainty=word.certainty,
                subject=subject,
                weight=88,
                what=what,
                evidence=evidence,
                do=word.do,
            )
            return
    refused, local = "connection refused" in said, _LOCAL.search(log)
    if refused and local:
        yield Cause(
            id="probe/localhost",
            certainty="certain",
            subject=subject,
            weight=88,
            what=f"vLLM listens on {local[1]} only: the {probe} probe asks the Pod's address and is refused",
            evidence=(*evidence, f"log: listens on {local[1]}"),
            do="remove --host, or write --host 0.0.0.0",
        )
    elif refused and SERVED.search(log):
        return  # it listens on another port: `probes.wrong_port` says so
    elif since is None or since >= PATIENCE_S or not (refused or "statuscode: 503" in said):
        yield _symptom(subject, status, probe, said, since, evidence)


def _symptom(
    subject: str, status: Object, probe: str, said: str, since: float | None, evidence: tuple[str, ...]
) -> Cause:
    line = " ".join(said.split())[:160]
    return Cause(
        id="probe/not-ready",
        certainty="likely",
        subject=subject,
        weight=36,
        what=f"it runs{f' for {show_seconds(since)}' if since else ''} and does not get ready: its {probe} probe says "
        f"`{line or 'nothing'}`",
        evidence=evidence,
        do=f"kubectl logs {subject.removeprefix('Pod/')} -c {status.get('name')}: what does it do now?",
        kind="symptom",
    )
