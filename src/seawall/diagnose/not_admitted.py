"""Pods that are never made: a quota, Pod Security or a webhook refuses them. Pure rules over their owner's events."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, part, shown


@rule
def quota(facts: Facts) -> Iterator[Cause]:
    """The namespace's quota, a LimitRange or Pod Security refuses Pods: told only in the ReplicaSet's events."""
    for event in facts.events:
        message = str(event.get("message") or "")
        if event.get("reason") != "FailedCreate":
            continue
        about = part(event, "involvedObject")
        subject = f"{about.get('kind', 'ReplicaSet')}/{about.get('name', '')}"
        if "exceeded quota" in message:
            m = re.search(r"exceeded quota: ([\w.-]+), requested: ([^,]+(?:,[^,]+)*?), used", message)
            yield Cause(
                id="scheduling/quota",
                certainty="certain",
                subject=subject,
                weight=95,
                what=f"the namespace's quota {m[1] if m else ''} is used up: no Pod is made at all".replace(
                    "  ", " "
                ),
                evidence=(shown(event),),
                do="kubectl describe resourcequota; raise it, or lower scaling.max",
            )
        elif "violates PodSecurity" in message:
            yield Cause(
                id="scheduling/pod-security",
                certainty="certain",
                subject=subject,
                weight=95,
                what="the namespace's Pod Security level refuses the Pod",
                evidence=(shown(event),),
                do="seawall render writes Pods that `restricted` admits; kubectl get ns --show-labels",
            )
        elif re.search(r"failed calling webhook|webhook .* denied", message):
            down = "failed calling webhook" in message
            yield Cause(
                id="cluster/webhook",
                certainty="certain",
                subject=subject,
                weight=95,
                what="an admission webhook is down: nothing is admitted"
                if down
                else f"an admission webhook refuses the Pod: {_denial(message)}",
                evidence=(shown(event),),
                do="kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations; is its Service up?"
                if down
                else "change the Pod's template to what it asks for",
            )


def _denial(message: str) -> str:
    """Why a webhook said no, in its own words; of a list of details, these."""
    said = re.split(r"denied the request: ", message, maxsplit=1)[-1]
    details = re.search(r"\[denied by [^\]]*\]\W*([^\n]{10,300})", said)
    return " ".join((details[1] if details else said).split()).strip('"[]{} ')[:240]
