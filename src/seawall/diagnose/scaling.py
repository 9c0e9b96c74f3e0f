"""Why a fleet does not scale: KEDA's and the HPA's own conditions. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, Object, condition, items, name_of, part, shown
from seawall.diagnose.triggers import why_it_fails
from seawall.engines.vllm import metrics as vllm
from seawall.engines.vllm.versions import find_metric, of_connector


@rule
def scaled_objects(facts: Facts) -> Iterator[Cause]:
    """KEDA: not ready, paused, on its fallback, or blind without an error."""
    for obj in facts.scaledobjects:
        subject, ready = f"ScaledObject/{name_of(obj)}", condition(obj, "Ready")
        failed = next(
            facts.events_of(obj, "KEDAScalerFailed", "ScaledObjectCheckFailed", "KEDAMetricSourceFailed"),
            None,
        )
        evidence = (
            shown(failed) if failed else f"Ready={ready.get('status')}: {ready.get('message', '')}"[:240]
        )
        message = f"{(failed or {}).get('message') or ''} {ready.get('message') or ''}"
        if ready and ready.get("status") == "False":
            yield _not_ready(subject, message, evidence)
        elif failed is not None:
            yield Cause(
                id="scale/trigger-fails",
                certainty="certain",
                subject=subject,
                weight=70,
                what="KEDA is Ready, and its trigger fails at every poll: " + why_it_fails(message)[0],
                evidence=(evidence,),
                do=why_it_fails(message)[1]
                or "seawall doctor asks Prometheus the same query; kubectl logs -n keda deploy/keda-operator",
            )
        if condition(obj, "Fallback").get("status") == "True":
            yield Cause(
                id="scale/fallback",
                certainty="certain",
                subject=subject,
                weight=65,
                what="the metric cannot be read and KEDA holds the fallback's replicas",
                evidence=(str(condition(obj, "Fallback").get("message") or "Fallback=True")[:240],),
                do="is Prometheus up, and does the address in the trigger lead to it?",
            )
        if condition(obj, "Paused").get("status") == "True":
            yield Cause(
                id="scale/paused",
                certainty="certain",
                subject=subject,
                weight=60,
                what="autoscaling is paused by annotation",
                evidence=("annotation autoscaling.keda.sh/paused",),
                do="kubectl annotate scaledobject NAME autoscaling.keda.sh/paused-",
            )
        yield from _blind(facts, obj, subject)


def _not_ready(subject: str, message: str, evidence: str) -> Cause:
    missing = re.search(
        r'(deployments|statefulsets)\S* "([^"]+)" not found|doesn\'t have correct scaleTargetRef', message
    )
    what = (
        f"it scales something that does not exist: {missing[2] or ''}"
        if missing
        else "KEDA cannot use it: " + why_it_fails(message)[0]
    )
    return Cause(
        id="scale/not-ready",
        certainty="certain",
        subject=subject,
        weight=72,
        what=what.strip(),
        evidence=(evidence,),
        do=("" if missing else why_it_fails(message)[1])
        or "kubectl describe scaledobject; correct scaleTargetRef or the trigger, then seawall lint",
    )


def _blind(facts: Facts, obj: Object, subject: str) -> Iterator[Cause]:
    """ignoreNullValues (the default) over a query that returns nothing: 0, for ever, without an error."""
    waiting = sum(facts.metrics.get(vllm.WAITING, {}).values())
    for trigger in items(obj, "spec", "triggers"):
        data = part(trigger, "metadata")
        hides = str(data.get("ignoreNullValues", "true")).lower() != "false"
        wrong = _unknown_metric(str(data.get("query") or ""))
        external = [
            part(m, "external", "current")
            for h in _hpas(facts, obj)
            for m in items(h, "status", "currentMetrics")
        ]
        zero = bool(external) and all(
            str(v.get("averageValue") or v.get("value") or "0") == "0" for v in external
        )
        if hides and waiting > 0 and (zero or wrong):
            yield Cause(
                id="scale/blind",
                certainty="certain" if wrong else "likely",
                subject=subject,
                weight=78,
                what=f"{waiting:.0f} requests wait and the scaler sees 0: its query returns nothing, and "
                "ignoreNullValues makes a 0 of it",
                evidence=(
                    f"query {str(data.get('query')).strip()[:160]}",
                    f"{vllm.WAITING} is {waiting:.0f}",
                ),
                do='seawall lint on the ScaledObject; set ignoreNullValues: "false" and a fallback',
            )
            return


def _unknown_metric(query: str) -> str | None:
    """The first series of vLLM's that no version of it reports, as `vllm_...` or `vllm:pending_requests`."""
    for series in re.findall(r"\bvllm[:_]\w+", query):
        if find_metric(series) is None and not of_connector(series):
            return str(series)
    return None


def _hpas(facts: Facts, obj: Object) -> list[Object]:
    name = part(obj, "status").get("hpaName") or f"keda-hpa-{name_of(obj)}"
    return [h for h in facts.hpas if name_of(h) == name]


def _no_metric(reason: str, message: str) -> tuple[str, str, int]:
    """(what, what to do, weight) of an HPA that cannot read its metric: three APIs may be behind it."""
    away = re.search(
        r"the server (is currently unable to handle|could not find the requested resource)|no matches for kind",
        message,
    )
    barred = re.search(
        r'is forbidden: User "([^"]+)" cannot (\w+) resource "([^"]+)" in API group "([^"]+)"', message
    )
    if barred:
        return (
            f"the HPA's own account {barred[1]} may not {barred[2]} {barred[3]} in {barred[4]}",
            f"a ClusterRole with {barred[2]} and get on {barred[4]}, bound to that account (the adapter's chart brings "
            "one; a second adapter's chart may have taken it away)",
            72,
        )
    if reason == "FailedGetResourceMetric" or "resource metrics API" in message:
        if away:
            return (
                "metrics-server does not answer, or is not installed: CPU cannot be read, so it scales nothing",
                "kubectl get apiservice v1beta1.metrics.k8s.io; kubectl top pods",
                40,
            )
        return (
            "it cannot read the CPU of its Pods: none is ready yet, or they ask for no CPU",
            "kubectl top pods; its Pods' causes come first",
            34,
        )
    if "custom metrics API" in message or reason in ("FailedGetPodsMetric", "FailedGetObjectMetric"):
        return _no_custom_metric(message, away is not None)
    what = (
        "the external metrics API does not answer, or does not know its metric"
        if away
        else "it cannot read its metric, shows <unknown> and scales nothing"
    )
    of_keda = re.search(r"scaledobject\.keda\.sh|\bs\d+-\w", message)
    return (
        what + (" (mostly KEDA's metrics server)" if away else ""),
        "kubectl get apiservice v1beta1.external.metrics.k8s.io: is it Available, and whose is it? "
        + (
            "kubectl -n keda get pods, logs of keda-operator-metrics-apiserver (restarts, too little memory); kubectl "
            "describe scaledobject"
            if of_keda
            else "KEDA serves its own metrics only; the Prometheus adapter serves external ones by rules.external"
        ),
        68,
    )


def _no_custom_metric(message: str, away: bool) -> tuple[str, str, int]:
    """The same of the custom metrics API, which an adapter (prometheus-adapter, say) serves."""
    named = re.search(r"metric (\S+?)(?::| for |$)", message)
    metric = named[1] if named else "its metric"
    ask = "kubectl get --raw /apis/custom.metrics.k8s.io/v1beta1"
    if away:
        return (
            f"no adapter serves the custom metrics API, from which {metric} should come",
            f"{ask}; is the Prometheus adapter installed and its APIService available?",
            68,
        )
    if "no metrics returned" in message:
        return (
            f"the adapter of the custom metrics API knows {metric} and has no value of these Pods",
            "are the Pods scraped, with labels namespace and pod? Ask Prometheus the adapter's metricsQuery for "
            "one of them",
            68,
        )
    return (
        f"the adapter of the custom metrics API does not know {metric}",
        f"{ask}: what is listed? A rule of the adapter has to name the series (vLLM's have a colon: "
        "vllm:num_requests_waiting, renamed by `as`), and Prometheus has to scrape the Pods",
        68,
    )


@rule
def hpas(facts: Facts) -> Iterator[Cause]:
    """HPAs that cannot read, cannot scale, or have reached their limit."""
    for hpa in facts.hpas:
        subject = f"HorizontalPodAutoscaler/{name_of(hpa)}"
        active, able, limited = (
            condition(hpa, k) for k in ("ScalingActive", "AbleToScale", "ScalingLimited")
        )
        if active.get("status") == "False" and active.get("reason") == "InvalidSelector":
            yield Cause(
                id="scale/hpa-target",
                certainty="certain",
                subject=subject,
                weight=70,
                what="its target says in no selector which Pods are its own, so the HPA counts none and scales nothing",
                evidence=(f"{active.get('reason')}: {active.get('message', '')}"[:240],),
                do="the target's controller has to fill status.selector of the scale subresource: a newer "
                "controller, or scale the Deployment beneath it",
            )
        elif active.get("status") == "False" and active.get("reason") != "ScalingDisabled":
            what, do, weight = _no_metric(str(active.get("reason")), str(active.get("message") or ""))
            yield Cause(
                id="scale/hpa-no-metric",
                certainty="certain",
                subject=subject,
                weight=weight,
                what=what,
                evidence=(f"{active.get('reason')}: {active.get('message', '')}"[:260],),
                do=do,
                kind="symptom" if weight < 40 else "cause",
            )
        if able.get("status") == "False":
            yield Cause(
                id="scale/hpa-target",
                certainty="certain",
                subject=subject,
                weight=68,
                what="it cannot scale its target",
                evidence=(f"{able.get('reason')}: {able.get('message', '')}"[:240],),
                do="does the target exist, and has it a scale subresource?",
            )
        yield from _reads_zero(facts, hpa, subject)
        at_max = part(hpa, "status").get("currentReplicas") == part(hpa, "spec").get("maxReplicas")
        if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas" and at_max:
            yield Cause(
                id="scale/at-max",
                certainty="certain",
                subject=subject,
                weight=45,
                what=f"more replicas are wanted than maxReplicas ({part(hpa, 'spec').get('maxReplicas')}) allows",
                evidence=(str(limited.get("message"))[:240],),
                do="raise scaling.max if there are GPUs; clients get 429 meanwhile",
            )


def _reads_zero(facts: Facts, hpa: Object, subject: str) -> Iterator[Cause]:
    """An HPA whose metric is 0 while requests wait: its query, labels or adapter look past the engines."""
    waiting = sum(facts.metrics.get(vllm.WAITING, {}).values())
    if waiting <= 0 or any(hpa in _hpas(facts, o) for o in facts.scaledobjects):
        return
    values = [
        (str(part(m, kind, "metric").get("name") or "its metric"), part(m, kind, "current"))
        for m in items(hpa, "status", "currentMetrics")
        for kind in ("external", "pods", "object")
        if part(m, kind)
    ]
    zero = [
        name for name, now in values if str(now.get("averageValue") or now.get("value") or "0") in ("0", "0m")
    ]
    if values and len(zero) == len(values):
        yield Cause(
            id="scale/hpa-reads-zero",
            certainty="likely",
            subject=subject,
            weight=76,
            what=f"{waiting:.0f} requests wait at the engines and the HPA reads 0 of {zero[0]}: it will not scale out",
            evidence=(f"status.currentMetrics: {zero[0]} 0", f"{vllm.WAITING} is {waiting:.0f}"),
            do="ask Prometheus the adapter's (or KEDA's) query: a label that no Pod carries, another metric's "
            "name, a scrape that "
            "misses the engines; seawall doctor asks the same",
        )
