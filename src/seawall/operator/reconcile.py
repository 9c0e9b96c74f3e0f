"""One Fleet object -> what to apply and what its status should say. Pure but for planning, which reads no cluster.

Level-triggered: it is given the Fleet and what is there now, never an event, so a lost event loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seawall.config.load import parse_document
from seawall.config.planned import planned_fleet
from seawall.config.yaml import Document
from seawall.domain.action import Plan
from seawall.domain.spec import API_VERSION, Fleet
from seawall.drivers.kube import Object
from seawall.errors import InputError, SeawallError
from seawall.operator.accounts import bound, is_shared
from seawall.operator.show import resting, serving
from seawall.operator.status import FleetView
from seawall.render.engine_args import adapter_path
from seawall.render.everything import render
from seawall.render.inputs import Group, Wanted

log = logging.getLogger("seawall.operator")
_KEPT = ("Namespace", "PersistentVolumeClaim")
"""Not owned by the Fleet: they outlive it, as weights and namespaces should."""


@dataclass(frozen=True)
class Desired:
    """What a Fleet becomes. `problem` instead of objects when it cannot work."""

    objects: tuple[Object, ...] = ()
    plan: Plan | None = None
    digest: str = ""
    """Of the objects: unchanged objects are not applied again."""
    problem: str = ""
    fleet: Fleet | None = None
    member: Wanted | None = None
    """The fleet as a thing to render."""
    adapters: dict[str, str] | None = None
    """Adapter -> folder, for a fleet that loads them while it runs."""


def desire(obj: Object, after: Callable[[Fleet], Fleet] | None = None, everywhere: bool = False) -> Desired:
    """Plans and renders a Fleet object. Whatever is wrong with it becomes `problem`, never an exception. `after`: what
    a rollout that has ended made of the spec; that is rendered, and `fleet` stays what the object says. `everywhere`:
    the operator serves all namespaces, so each needs the accounts that a single one gets from the manifests."""
    meta = obj.get("metadata") or {}
    wanted = {"name": meta.get("name"), "namespace": meta.get("namespace")}
    bare = {"apiVersion": API_VERSION, "kind": "Fleet", "metadata": wanted, "spec": obj.get("spec")}
    try:
        fleet, problems = parse_document(Document(bare, 1, {}))
        if fleet is None or problems:
            raise InputError("; ".join(f"{p.path}: {p.message}" for p in problems[:3]))
        shown = after(fleet) if after else fleet
        planned = planned_fleet(shown)
        made = planned.plan
        member = Wanted(fleet=shown, plan=made, document=planned.document)
        group = Group(members=(member,), accounts="shared")
        objects = [o for o in render(group).objects if o["kind"] != "Namespace"]
        if everywhere:
            objects = [*bound(group.namespace, "ClusterRole"), *objects]
        owned = tuple(own(o, obj) for o in objects)
    except SeawallError as e:
        return Desired(problem=str(e)[:1000])
    except Exception as e:
        # Ours to mend, but one Fleet must not end the operator and with it the care for all others.
        log.exception("%s/%s: cannot be planned", wanted["namespace"], wanted["name"])
        return Desired(problem=f"a fault of Seawall ({type(e).__name__}); the operator's log has the details")
    digest = hashlib.sha256(json.dumps(owned, sort_keys=True).encode()).hexdigest()[:16]
    adapters = None
    if fleet.spec.model.adapter_slots is not None:
        adapters = {a.name: adapter_path(member, a) for a in fleet.spec.model.adapters}
    return Desired(owned, made, digest, fleet=fleet, member=member, adapters=adapters)


def own(obj: Object, fleet: Object) -> Object:
    """With an owner reference: deleting the Fleet deletes it, by the cluster's own garbage collection. No finalizer of
    ours is needed, so a namespace's deletion can never hang on us; a Fleet that is deleted in the foreground waits for
    what it owns, by the garbage collector's own."""
    if obj["kind"] in _KEPT or is_shared(obj):
        return obj
    meta = fleet["metadata"]
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Fleet",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}


def status_of(
    fleet: Object, desired: Desired, error: str, view: FleetView | None, now: str, adapters: str | None = None
) -> Object:
    """The status to write, but for the pool's part and the list of objects; what is None is taken away. Conditions keep
    their transition time while their status is the same. `adapters`: why one is missing, "" when none is, None where
    none is loaded at run time."""
    old: dict[str, Any] = fleet.get("status") or {}
    generation = int(fleet["metadata"].get("generation") or 0)
    facts = [
        (
            "Planned",
            not desired.problem,
            "Fits" if desired.plan and not desired.problem else "CannotWork",
            _why(desired),
        ),
        (
            "Applied",
            not (desired.problem or error),
            "Applied" if not error else "Refused",
            error or "all objects applied",
        ),
        _ready(view, int((old.get("pool") or {}).get("asleep") or 0)),
        _current(view),
    ]
    if adapters is not None:
        facts.append(
            ("Adapters", not adapters, "Missing" if adapters else "Loaded", adapters or "as the spec says")
        )
    conditions = _conditions(facts, old.get("conditions") or [], generation, now)
    bad = next((c for c in conditions if c["status"] == "False"), None)
    out: Object = {
        "observedGeneration": generation,
        "phase": "Ready"
        if bad is None
        else {"Planned": "Invalid", "Applied": "Refused", "Adapters": "Ready"}.get(
            str(bad["type"]), "Progressing"
        ),
        "reason": bad["message"] if bad else _why(desired),
        "conditions": conditions,
        "applied": desired.digest if not (error or desired.problem) else old.get("applied", ""),
        "ready": (view.ready if view.usable is None else view.usable) if view else 0,
        "desired": view.desired if view else 0,
    }
    if desired.plan:
        out |= {
            "gpu": f"{desired.plan.gpus_per_replica} x {desired.plan.gpu}",
            "plan": desired.plan.reason[:500],
        }
    told = view is not None and view.queued is not None
    out |= {
        "scaler": (view.scaler if view else "") or None,
        "queued": view.queued if view and told else None,
        "inFlight": (view.in_flight or 0) if view and told else None,
    }
    return out


def _conditions(
    facts: list[tuple[str, bool, str, str]], old: list[Object], generation: int, now: str
) -> list[Object]:
    """`facts`: type, whether it holds, reason, message. One that is as before keeps its transition time."""
    previous = {c.get("type"): c for c in old}
    conditions = []
    for kind, good, reason, message in facts:
        state = "True" if good else "False"
        before = previous.get(kind) or {}
        since = before.get("lastTransitionTime") if before.get("status") == state else None
        conditions.append(
            {
                "type": kind,
                "status": state,
                "reason": reason,
                "message": message[:1000],
                "lastTransitionTime": since or now,
                "observedGeneration": generation,
            }
        )
    return conditions


def _why(desired: Desired) -> str:
    return desired.problem or (desired.plan.reason if desired.plan else "")


def _ready(view: FleetView | None, asleep: int = 0) -> tuple[str, bool, str, str]:
    """Whether clients get answers from as many replicas as are wanted: what the gateways use, where they tell."""
    if view is None:
        return "Ready", False, "NotThere", "no Deployment yet"
    wanted = view.desired - asleep
    if wanted <= 0:
        if asleep:
            return "Ready", True, "Resting", f"{asleep} asleep: the first request starts a replica"
        return "Ready", not view.unscaled, "NotScaled" if view.unscaled else "Resting", resting(view)
    used = view.ready if view.usable is None else view.usable
    if used >= wanted:
        return "Ready", True, "Serving", serving(view)
    if view.refused and view.ready < wanted:
        return "Ready", False, "PodsRefused", view.rollout
    troubled = next((r for r in view.replicas if r.phase not in ("ready", "draining")), None)
    if view.ready >= wanted or troubled is None:
        return "Ready", False, "NotUsed" if view.ready >= wanted else "Waiting", serving(view)
    return "Ready", False, "Waiting", f"{troubled.name}: {troubled.phase}: {troubled.reason}"


def _current(view: FleetView | None) -> tuple[str, bool, str, str]:
    """Whether every replica is of the present spec, and no older one is left."""
    if view is None or not view.rollout:
        return "UpToDate", view is not None, "RolledOut" if view else "NotThere", "no older replica is left"
    return "UpToDate", False, "RollingOut", view.rollout
