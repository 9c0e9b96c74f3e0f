"""Containers that a probe killed, and probes that ask for what is not there. Pure rules.

The kubelet's own event is the evidence: it says which container it restarts and for which probe, whatever the exit
status then is (a server that stops cleanly ends with 0). Life times only count where no such event is at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, Object, count, name_of, part, seconds_between, shown, when, whole
from seawall.diagnose.states import ended, statuses

_LISTENS = re.compile(
    r"(?:Uvicorn running on|Starting vLLM(?: API)? server(?: \d+)? on) https?://[^:\s]+:(\d+)"
)
SERVED = re.compile(r"Application startup complete|Uvicorn running on")
_BY_SIGNAL = (0, 137, 143)
_STALE_S = 5.0


def budget_s(probe: Object) -> float:
    """Seconds that a failing probe leaves: initialDelay + period x failureThreshold."""
    period = whole(probe.get("periodSeconds"), 10)
    return whole(probe.get("initialDelaySeconds"), 0) + period * whole(probe.get("failureThreshold"), 3)


def about(event: Object, container: str) -> bool:
    """Whether an event of a Pod is about this container of it; True when it names none."""
    field = str(part(event, "involvedObject").get("fieldPath") or "")
    named = re.search(r"\{([^}]+)\}", field) or re.match(r"Container (\S+) ", str(event.get("message") or ""))
    return named is None or named[1] == container


def _fresh(event: Object, end: Object) -> bool:
    """Whether an event is of the life that ended, not of one before."""
    since = seconds_between(end.get("startedAt"), when(event))
    return since is None or since >= -_STALE_S


def by_probe(facts: Facts, pod: Object, status: Object, spec: Object, end: Object, fact: str) -> Cause | None:
    """The cause of an end that a probe brought about; None when none did."""
    container = str(status.get("name"))
    events = [
        e for e in facts.events_of(pod, "Unhealthy", "Killing") if about(e, container) and _fresh(e, end)
    ]

    def said(pattern: str) -> Object | None:
        return next((e for e in events if re.search(pattern, str(e.get("message") or ""), re.I)), None)

    startup, live = said("^Startup probe (failed|errored)"), said("^Liveness probe (failed|errored)")
    subject, probe = f"Pod/{name_of(pod)}", part(spec, "startupProbe")
    lived, budget = (
        seconds_between(end.get("startedAt"), end.get("finishedAt")),
        budget_s(probe) if probe else None,
    )
    if said("failed startup probe"):
        wrong = _asks_wrongly(facts, pod, container, startup)
        if wrong is not None:
            return wrong
        return _too_short(subject, probe, lived, budget, (fact, shown(said("failed startup probe") or {})))
    if said("failed liveness probe"):
        return _liveness(subject, spec, lived, (fact, shown(live or said("failed liveness probe") or {})))
    at_budget = bool(budget and lived and budget - 15 <= lived <= budget + max(40.0, 0.15 * budget))
    if startup is not None and _exhausted(startup, probe, end, at_budget):
        wrong = _asks_wrongly(facts, pod, container, startup)
        return wrong or _too_short(subject, probe, lived, budget, (fact, shown(startup)))
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
    if live is not None and end.get("exitCode") in _BY_SIGNAL:
        return _liveness(subject, spec, lived, (fact, shown(live)))
    return None


def _exhausted(startup: Object, probe: Object, end: Object, at_budget: bool) -> bool:
    """Whether failures of a startup probe, without the kubelet's word of the kill, explain an end."""
    if at_budget:
        return True
    return end.get("exitCode") in _BY_SIGNAL and count(startup) >= whole(probe.get("failureThreshold"), 3)


def _asks_wrongly(facts: Facts, pod: Object, container: str, event: Object | None) -> Cause | None:
    """A startup probe of a server that was up: it asks another port or path than the server has."""
    message = str((event or {}).get("message") or "")
    log = facts.log(pod, container)
    if "statuscode: 404" in message:
        return Cause(
            id="probe/wrong-path",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=96,
            what="the startup probe asks for a path that the server does not have (404), and the server is "
            "killed for it",
            evidence=(shown(event or {}),),
            do="ask for /health (vLLM's), on vLLM's port",
        )
    asked, listens = (
        re.search(r"dial tcp [^ ]+:(\d+): connect: connection refused", message),
        _LISTENS.findall(log),
    )
    if SERVED.search(log) and asked and listens and asked[1] != listens[-1]:
        return _port(pod, event or {}, asked[1], listens[-1])
    return None


def _too_short(
    subject: str, probe: Object, lived: float | None, budget: float | None, evidence: tuple[str, ...]
) -> Cause:
    after = f" after {lived:.0f} s" if lived else ""
    of = f", its budget of {budget:.0f} s" if budget else ""
    more = int(2 * budget / max(1, whole(probe.get("periodSeconds"), 10))) if budget else 0
    return Cause(
        id="probe/startup-too-short",
        certainty="certain",
        subject=subject,
        weight=98,
        what=f"the startup probe killed it{after}{of}: the model was still loading, and it begins again",
        evidence=evidence,
        do=(
            f"raise startupProbe.failureThreshold to {more} or more"
            if more
            else "raise startupProbe.failureThreshold"
        )
        + " (seawall plan shows the start-up budget)",
    )


def _liveness(subject: str, spec: Object, lived: float | None, evidence: tuple[str, ...]) -> Cause:
    probe = part(spec, "livenessProbe")
    loading = not part(spec, "startupProbe") and probe and lived is not None and lived <= budget_s(probe) + 40
    if loading:
        return Cause(
            id="probe/liveness-while-loading",
            certainty="likely",
            subject=subject,
            weight=92,
            what=f"the liveness probe killed it {lived:.0f} s after its start, while it was loading: there is no "
            "startup probe",
            evidence=evidence,
            do="add a startupProbe on /health with periodSeconds x failureThreshold above the slowest load "
            "(seawall plan)",
        )
    return Cause(
        id="probe/liveness",
        certainty="likely",
        subject=subject,
        weight=85,
        what="the liveness probe killed it: hung, or too busy to answer in time",
        evidence=evidence,
        do="were counters moving before? If yes raise timeoutSeconds and failureThreshold; if not it hung: look "
        "at the log",
    )


def _port(pod: Object, event: Object, asked: str, listens: str) -> Cause:
    return Cause(
        id="probe/port-mismatch",
        certainty="certain",
        subject=f"Pod/{name_of(pod)}",
        weight=95,
        what=f"the probe asks port {asked} and vLLM listens on {listens}",
        evidence=(shown(event), f"log: listens on {listens}"),
        do="make the probe's port, the container port and --port agree (a named port once)",
    )


@rule
def wrong_port(facts: Facts) -> Iterator[Cause]:
    """Probes that ask the wrong port: refused for ever, while the log says that the server listens elsewhere."""
    for pod in facts.pods:
        refused = [
            e for e in facts.events_of(pod, "Unhealthy") if "connection refused" in str(e.get("message"))
        ]
        for status, _, init in statuses(pod):
            event = next((e for e in refused if about(e, str(status.get("name")))), None)
            if init or event is None or ended(status):
                continue
            asked = re.search(r"dial tcp [^ ]+:(\d+): connect: connection refused", str(event.get("message")))
            log = facts.logs.get(f"{name_of(pod)}/{status.get('name')}", "")
            listens = _LISTENS.findall(log)
            if asked and listens and asked[1] != listens[-1]:
                yield _port(pod, event, asked[1], listens[-1])
