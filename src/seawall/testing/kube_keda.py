"""KEDA's operator and the HPA's controller beside the API double: what they read, make and tell.

`keda = Keda(api, demand)`, and `keda.step(now)` is one turn of both: HPAs with their owner, replicas, and conditions of
both kinds in their own words. Whether a target wakes, idles or rests is `decide/scale/keda`, which upstream's own
vectors check; the texts are KEDA 2.21's and Kubernetes 1.36's. Not here: rates, windows, formulas, and metrics servers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from seawall.decide.scale.keda import (
    PAUSED,
    PAUSED_REPLICAS,
    Condition,
    Fallback,
    HpaSeen,
    Poll,
    ScaleSpec,
    request_scale,
)
from seawall.domain.labels import MANAGED_BY
from seawall.testing.kube_api import KubeApi

Object = dict[str, Any]
ReadMetric = Callable[[str, int], float | None]
"""(name of a ScaledObject, index of a trigger) -> its metric's value now; None: it cannot be read."""
SCALED = "keda.sh/v1alpha1", "scaledobjects"
HPAS = "autoscaling/v2", "horizontalpodautoscalers"
_NO_FALLBACK = Condition("False", "NoFallbackFound", "No fallbacks are active on this scaled object")
_FALLBACK = Condition("True", "FallbackExists", "At least one trigger is falling back on this scaled object")
_PAUSED = Condition("True", "ScaledObjectPaused", "ScaledObject is paused")
_NOT_PAUSED = Condition("False", "ScaledObjectUnpaused", "ScaledObject is unpaused")
_NO_TARGET = Condition(
    "False", "ScaledObjectCheckFailed", "ScaledObject doesn't have correct scaleTargetRef specification"
)
_RESTING = Condition(
    "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero"
)


class Keda:
    """Both controllers, with what they remember of each ScaledObject."""

    def __init__(self, api: KubeApi, demand: ReadMetric) -> None:
        self._api, self._demand = api, demand
        self._failures: dict[tuple[str, int], int] = {}
        self._active_at: dict[str, float] = {}
        self._seen_at: dict[str, float] = {}

    def step(self, now: float) -> None:
        """One turn of everything at `now`, in seconds."""
        for (namespace, name), scaled in self._api.objects(*SCALED).items():
            if "deletionTimestamp" not in scaled["metadata"]:
                self._turn(namespace, name, scaled, now)

    def _turn(self, namespace: str, name: str, scaled: Object, now: float) -> None:
        spec, notes = scaled["spec"], scaled["metadata"].get("annotations") or {}
        key = (namespace, str(spec["scaleTargetRef"]["name"]))
        target = self._api.objects("apps/v1", "deployments").get(key)
        if target is None:
            self._tell(scaled, {"Ready": _NO_TARGET})
            return
        current = int(target["spec"].get("replicas", 1))
        values = [self._demand(name, n) for n in range(len(spec.get("triggers") or []))]
        fails = [self._failed(name, n, value is None) for n, value in enumerate(values)]
        limit = (spec.get("fallback") or {}).get("failureThreshold")
        fallback = Fallback(int(spec["fallback"]["replicas"]), int(limit)) if limit is not None else None
        blind = limit is not None and any(count > limit for count in fails)
        known = [v for v in values if v is not None]
        least = int(spec.get("minReplicaCount", 0))
        turn = request_scale(
            ScaleSpec(
                lowest=least,
                idle=spec.get("idleReplicaCount"),
                cooldown_s=float(spec.get("cooldownPeriod", 300)),
                fallback=fallback,
                annotations=notes,
            ),
            Poll(
                current=current,
                active=any(v > 0 for v in known) or blind,
                error=len(known) < len(values),
                last_active_s=self._active_at.get(name),
                created_s=self._seen_at.setdefault(name, now),
                now=now,
                hpa=self._hpa_seen(namespace, name),
            ),
        )
        if turn.last_active_s is not None:
            self._active_at[name] = turn.last_active_s
        told = {"Ready": turn.ready, "Fallback": _FALLBACK if blind else _NO_FALLBACK}
        told |= {"Active": turn.active} if turn.active is not None else {}
        told |= {"HPAActive": turn.hpa_active} if turn.hpa_active is not None else {}
        told["Paused"] = _PAUSED if turn.paused else _NOT_PAUSED
        replicas = turn.replicas
        if turn.paused:
            self._api.remove(*HPAS, f"keda-hpa-{name}", namespace)
            text = notes.get(PAUSED_REPLICAS)
            replicas = int(text) if text is not None and PAUSED not in notes else current
        elif not turn.scaled:
            replicas = self._hpa(scaled, current, values, fallback if blind else None)
        self._tell(scaled, told)
        if replicas != current:
            self._api.put({**target, "spec": {**target["spec"], "replicas": replicas}})

    def _hpa_seen(self, namespace: str, name: str) -> HpaSeen | None:
        """The HPA as it stands, with the conditions of its controller's last turn; None: KEDA has made none yet."""
        made = self._api.objects(*HPAS).get((namespace, f"keda-hpa-{name}"))
        if made is None:
            return None
        found = (made.get("status") or {}).get("conditions") or []
        return HpaSeen(
            conditions={c["type"]: Condition(c["status"], c["reason"], c["message"]) for c in found}
        )

    def _failed(self, name: str, trigger: int, failed: bool) -> int:
        """Failures in a row, this one counted."""
        key = (name, trigger)
        self._failures[key] = self._failures.get(key, 0) + 1 if failed else 0
        return self._failures[key]

    def _tell(self, scaled: Object, told: dict[str, Condition]) -> None:
        known = {c["type"]: c for c in (scaled.get("status") or {}).get("conditions") or []}
        if not known:
            known = {t: {"type": t, "status": "Unknown"} for t in ("Ready", "Active", "Fallback", "Paused")}
        self._put(scaled, {"conditions": [*(known | _listed(told)).values()]})

    def _put(self, obj: Object, status: Object) -> None:
        if obj.get("status") != status:
            self._api.put({**obj, "status": status}, "keda")

    def _hpa(
        self, scaled: Object, current: int, values: list[float | None], fallback: Fallback | None
    ) -> int:
        """Makes or reads the HPA of a ScaledObject -> how many replicas it wants."""
        meta, spec = scaled["metadata"], scaled["spec"]
        name, namespace = f"keda-hpa-{meta['name']}", meta["namespace"]
        targets = [float(t["metadata"].get("threshold") or 1) for t in spec.get("triggers") or []]
        least, most = max(1, int(spec.get("minReplicaCount", 0))), int(spec.get("maxReplicaCount", 100))
        owner = {
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": meta["name"],
            "uid": meta.get("uid", ""), "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        labels = {**(meta.get("labels") or {}), MANAGED_BY: "keda-operator"}
        made = self._api.objects(*HPAS).get((namespace, name)) or {
            "apiVersion": HPAS[0],
            "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]
            },
        }  # fmt: skip
        made["spec"] = {"scaleTargetRef": spec["scaleTargetRef"], "minReplicas": least, "maxReplicas": most}
        wants: list[int] = []
        failed = ""
        for n, (value, target) in enumerate(zip(values, targets, strict=True)):
            if value is None and fallback is not None:
                value = target * fallback.replicas
            if value is None:
                failed = failed or f"s{n}-{spec['triggers'][n]['type']}"
                continue
            ratio = value / (target * current) if current else 0.0
            wants.append(current if 0.9 <= ratio <= 1.1 else math.ceil(value / target - 1e-9))
        wanted = max(wants, default=current)
        if failed and wanted < current:
            wanted = current
        bounded = min(max(wanted, least), most)
        told = {
            "AbleToScale": Condition("True", "ReadyForNewScale", "recommended size matches current size"),
            "ScalingActive": Condition(
                "True",
                "ValidMetricFound",
                "the HPA was able to successfully calculate a replica count from external metric s0",
            ),
            "ScalingLimited": _limited(wanted, least, most),
        }
        if current == 0:
            told = {"AbleToScale": told["AbleToScale"], "ScalingActive": _RESTING}
            bounded = 0
        elif failed and not wants:
            why = (
                "the HPA was unable to compute the replica count: unable to get external metric "
                f"{namespace}/{failed}: unable to fetch metrics from external metrics API: the server is "
                "currently unable to handle the request"
            )
            told |= {"ScalingActive": Condition("False", "FailedGetExternalMetric", why)}
            bounded = current
        status = {
            "currentReplicas": current,
            "desiredReplicas": bounded,
            "conditions": [*_listed(told).values()],
        }
        self._put(made, status)
        return bounded


def _limited(wanted: int, least: int, most: int) -> Condition:
    if wanted < least:
        return Condition(
            "True", "TooFewReplicas", "the desired replica count is less than the minimum replica count"
        )
    if wanted > most:
        return Condition(
            "True", "TooManyReplicas", "the desired replica count is more than the maximum replica count"
        )
    return Condition("False", "DesiredWithinRange", "the desired count is within the acceptable range")


def _listed(told: dict[str, Condition]) -> dict[str, Object]:
    return {
        kind: {"type": kind, "status": c.status, "reason": c.reason, "message": c.message}
        for kind, c in told.items()
    }
