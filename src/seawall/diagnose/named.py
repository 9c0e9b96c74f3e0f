"""What Pods name and the cluster lacks: an account, a priority, a runtime class; and a namespace's limits on one Pod.

The API server refuses such Pods before there are any, so nothing but the ReplicaSet's events, and its condition once
these are gone, tells. Each has a cure of its own: what makes the thing, and where the Fleet names it. Pure rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, condition, name_of, part, shown
from seawall.domain.labels import GATEWAYS_ACCOUNT, SCALERS_ACCOUNT


@dataclass(frozen=True)
class NotAdmitted:
    """A Pod that was not made: of what, and the server's words."""

    subject: str
    namespace: str
    message: str
    evidence: str


@rule
def missing(facts: Facts) -> Iterator[Cause]:
    """Pods that are refused for what they name, or for what they ask for."""
    told = set()
    for refusal in _refusals(facts):
        cause = _account(refusal) or _priority(refusal) or _runtime(refusal) or _limits(refusal)
        if cause is not None and (cause.id, cause.what) not in told:
            told.add((cause.id, cause.what))
            yield cause


def _refusals(facts: Facts) -> Iterator[NotAdmitted]:
    for event in facts.events:
        if event.get("reason") == "FailedCreate":
            about = part(event, "involvedObject")
            subject = f"{about.get('kind', 'ReplicaSet')}/{about.get('name', '')}"
            where = str(about.get("namespace") or part(event, "metadata").get("namespace") or "")
            yield NotAdmitted(subject, where, str(event.get("message") or ""), shown(event))
    for kind, objects in (("ReplicaSet", facts.replicasets), ("Deployment", facts.deployments)):
        for obj in objects:
            failure = condition(obj, "ReplicaFailure")
            if failure.get("status") == "True":
                where, message = (
                    str(part(obj, "metadata").get("namespace") or ""),
                    str(failure.get("message") or ""),
                )
                yield NotAdmitted(
                    f"{kind}/{name_of(obj)}", where, message, f"ReplicaFailure: {message}"[:240]
                )


def _cause(refusal: NotAdmitted, id: str, what: str, do: str) -> Cause:
    return Cause(
        id=id,
        certainty="certain",
        subject=refusal.subject,
        weight=96,
        what=what,
        evidence=(refusal.evidence,),
        do=do,
    )


def _account(refusal: NotAdmitted) -> Cause | None:
    found = re.search(
        r'error looking up service account (?:([\w.-]+)/)?[\w.-]+: serviceaccount "([^"]+)" not found',
        refusal.message,
    )
    if found is None:
        return None
    where, name = found[1] or refusal.namespace, found[2]
    flag = f" -n {where}" if where else ""
    again = "seawall apply FLEET.yaml makes it again"
    if name in (GATEWAYS_ACCOUNT, SCALERS_ACCOUNT):
        again = f"the operator brings it: seawall operator manifests{flag} | kubectl apply --server-side -f -"
    return _cause(
        refusal,
        "scheduling/no-service-account",
        f"the account {name} that the Pod runs as is not there: no Pod is made at all",
        f"kubectl get serviceaccounts{flag}; {again}",
    )


def _priority(refusal: NotAdmitted) -> Cause | None:
    found = re.search(r"no PriorityClass with name (\S+) was found", refusal.message)
    if found is None:
        return None
    return _cause(
        refusal,
        "scheduling/no-priority-class",
        f"the priority class {found[1]} that the Pod names is not there: no Pod is made at all",
        f"kubectl create priorityclass {found[1]} --value=100000, or another of `kubectl get priorityclass` in "
        "spec.hardware.priorityClass, or leave that out",
    )


def _runtime(refusal: NotAdmitted) -> Cause | None:
    found = re.search(r'RuntimeClass "([^"]+)" not found', refusal.message)
    if found is None:
        return None
    return _cause(
        refusal,
        "container/runtime-class",
        f"the runtime class {found[1]} that the Pod names is not there: the cluster has no such object",
        "kubectl get runtimeclass; the GPU operator makes `nvidia`, k3s and RKE2 bring it; or leave "
        "spec.hardware.runtimeClass out where the nodes' default runtime knows the GPUs",
    )


def _limits(refusal: NotAdmitted) -> Cause | None:
    found = re.search(
        r"((?:maximum|minimum) [\w./-]+ usage per (?:Container|Pod|PersistentVolumeClaim) is [^.,]+, but [^.,\[\]]+)",
        refusal.message,
    )
    if found is None:
        return None
    flag = f" -n {refusal.namespace}" if refusal.namespace else ""
    return _cause(
        refusal,
        "scheduling/limit-range",
        f"the namespace's LimitRange refuses the Pod: {found[1].strip()}",
        f"kubectl describe limitrange{flag}; raise it, or lower spec.hardware.cpu and memory",
    )
