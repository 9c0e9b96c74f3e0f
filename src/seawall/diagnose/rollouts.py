"""Why a rollout or a drain does not go on. Pure rules."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, Object, condition, matches, name_of, part, shown, whole
from seawall.diagnose.fitting import gpus_asked


def _pods_of(facts: Facts, deployment: Object) -> list[Object]:
    selector = part(deployment, "spec", "selector")
    return [p for p in facts.pods if matches(selector, part(p, "metadata", "labels"))]


@rule
def stuck(facts: Facts) -> Iterator[Cause]:
    """The new Pod waits for a GPU that the old Pods hold; or the deadline ran out."""
    for deployment in facts.deployments:
        name, spec, status = name_of(deployment), part(deployment, "spec"), part(deployment, "status")
        wanted, updated = whole(spec.get("replicas")), whole(status.get("updatedReplicas"))
        progressing = condition(deployment, "Progressing")
        late = progressing.get("reason") == "ProgressDeadlineExceeded"
        pending = [p for p in _pods_of(facts, deployment) if _starved(facts, p)]
        rolling = part(spec, "strategy", "rollingUpdate")
        keeps_all = str(rolling.get("maxUnavailable", "25%")) in ("0", "0%") or wanted < 4
        total = whole(status.get("replicas"))
        if pending and keeps_all and total > wanted and updated <= total:
            event = next(facts.events_of(pending[0], "FailedScheduling"), None)
            resource, count = gpus_asked(pending[0])
            yield Cause(
                id="rollout/no-surge-gpu",
                certainty="certain",
                subject=f"Deployment/{name}",
                weight=92,
                what=f"the rollout waits for {count} free {resource} for its surge Pod: the old Pods hold "
                "them and may not stop first",
                evidence=(
                    f"{total} Pods, {wanted} wanted, maxUnavailable {rolling.get('maxUnavailable', '25%')}",
                    shown(event) if event else "Pending",
                ),
                do="add a GPU node for the rollout, or set hardware.spareGpus: false (maxSurge 0, "
                "maxUnavailable 1)",
            )
        elif late:
            ready = whole(status.get("readyReplicas"))
            yield Cause(
                id="rollout/deadline",
                certainty="likely",
                subject=f"Deployment/{name}",
                weight=55,
                what="the rollout made no progress within progressDeadlineSeconds "
                f"({spec.get('progressDeadlineSeconds', 600)} s)",
                evidence=(
                    f"{updated} updated, {ready} ready of {wanted}: {progressing.get('message', '')}"[:240],
                ),
                do="see the new Pods' causes; a Pod that only loads slowly needs a longer "
                "progressDeadlineSeconds",
                kind="symptom",
            )


def _starved(facts: Facts, pod: Object) -> bool:
    resource, _ = gpus_asked(pod)
    event = next(facts.events_of(pod, "FailedScheduling"), None)
    message = str((event or {}).get("message") or condition(pod, "PodScheduled").get("message") or "")
    return part(pod, "status").get("phase") == "Pending" and f"Insufficient {resource}" in message


@rule
def budgets(facts: Facts) -> Iterator[Cause]:
    """A budget that allows no disruption while nodes want to drain."""
    draining = {name_of(n) for n in facts.nodes if part(n, "spec").get("unschedulable")}
    for budget in facts.budgets:
        status, spec = part(budget, "status"), part(budget, "spec")
        if whole(status.get("disruptionsAllowed")) > 0 or not whole(status.get("expectedPods")):
            continue
        here = [
            p
            for p in facts.pods
            if matches(part(spec, "selector"), part(p, "metadata", "labels"))
            and part(p, "spec").get("nodeName") in draining
        ]
        if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
            here = [p for p in here if condition(p, "Ready").get("status") == "True"]  # others may always go
        healthy, desired = whole(status.get("currentHealthy")), whole(status.get("desiredHealthy"))
        expected = whole(status.get("expectedPods"))
        always = desired >= expected
        if not here and not always:
            continue
        yield Cause(
            id="disruption/pdb-blocks-drain",
            certainty="certain" if here else "likely",
            subject=f"PodDisruptionBudget/{name_of(budget)}",
            weight=75 if here else 30,
            what="it allows 0 disruptions: "
            + (
                f"the drain of node {part(here[0], 'spec').get('nodeName')} hangs (evictions get 429)"
                if here
                else "the next node drain or upgrade will hang"
            ),
            evidence=(f"{healthy} healthy, {desired} must stay, {expected} Pods",),
            do="use maxUnavailable: 1 with unhealthyPodEvictionPolicy: AlwaysAllow, and 2 replicas or more"
            if always
            else "wait for the unready Pods, or set unhealthyPodEvictionPolicy: AlwaysAllow",
            kind="cause" if here else "risk",
        )


@rule
def missing_sets(facts: Facts) -> Iterator[Cause]:
    """A Deployment with replicas wanted and no Pod at all, when nothing else says why."""
    for deployment in facts.deployments:
        wanted = part(deployment, "spec").get("replicas")
        if wanted and not _pods_of(facts, deployment):
            failure = condition(deployment, "ReplicaFailure")
            status = part(deployment, "status")
            if not status.get("observedGeneration") and not status.get("conditions"):
                yield Cause(
                    id="rollout/no-controller",
                    certainty="possible",
                    subject=f"Deployment/{name_of(deployment)}",
                    weight=60,
                    what="no Pod is made: the Deployment controller has not looked at it",
                    evidence=(f"{wanted} replicas wanted, no Pod, no status.observedGeneration",),
                    do="made a moment ago? Else: kubectl get --raw /readyz?verbose; does kube-controller-manager run?",
                )
            elif failure.get("status") == "True":
                yield Cause(
                    id="rollout/no-pods",
                    certainty="likely",
                    subject=f"Deployment/{name_of(deployment)}",
                    weight=88,
                    what="no Pod can be made",
                    evidence=(f"{failure.get('reason')}: {failure.get('message', '')}"[:240],),
                    do="kubectl describe replicaset: quota, Pod Security or a webhook refuses it",
                )
