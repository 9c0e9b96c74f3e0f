"""Drives one canary rollout on a cluster: reads both sides' counters, asks `decide.rollout`, applies what follows.

The rollout lives in a ConfigMap: the fleets as they were asked for, the state, the last decisions. Each tick is
level-triggered and guarded by the ConfigMap's resourceVersion, so it may be driven by the command line, by the
operator or by both, and a crash between two ticks loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from seawall.config.load import dump_fleet, parse_document
from seawall.config.planned import planned_fleet
from seawall.config.yaml import Document
from seawall.decide.canary import Side, Sums
from seawall.decide.rollout import (
    ENDED,
    RolloutDecision,
    RolloutSeen,
    RolloutState,
    RolloutWish,
    begin,
    decide,
    dump,
    load,
    policy_of,
    weight_of,
)
from seawall.domain.labels import FLEET, ROLLOUT
from seawall.domain.spec import Fleet
from seawall.domain.told import SideState, all_sides
from seawall.drivers import kube_gateways
from seawall.drivers.kube import (
    CONFIG_MAP,
    DEPLOYMENT,
    FIELD_MANAGER,
    NAMESPACE,
    OPERATOR_MANAGER,
    Kube,
    Object,
    Refused,
    Select,
    key_of,
)
from seawall.errors import ClusterError, InputError
from seawall.operator.apply import unserved
from seawall.operator.converge import Manner, converge
from seawall.operator.ledger import Inventory, Ref
from seawall.operator.reconcile import own
from seawall.operator.wait import judge
from seawall.render.everything import render
from seawall.render.inputs import Group, Wanted, candidate_of

KEPT_DECISIONS = 50
WISHES: tuple[RolloutWish, ...] = ("pause", "resume", "abort", "undo")


@dataclass(frozen=True)
class Rollout:
    """What the operator keeps of a rollout's ConfigMap."""

    fleet: str
    spec: str
    """Digest of the fleet that it was begun with."""
    state: RolloutState
    weight: int
    wished: bool
    owner: str
    """uid of the Fleet object that it belongs to; empty for one that was begun by hand."""

    @property
    def ended(self) -> bool:
        """Nothing is left to drive."""
        return self.state.phase in ENDED and not self.wished

    def after(self, fleet: Fleet) -> Fleet:
        """What this rollout has made of the fleet that it was begun with."""
        return _in_phase(fleet, self.state)


def rollout_seen(config: Object) -> Rollout | None:
    """A rollout's ConfigMap; None for one that cannot be read."""
    try:
        data, fleets, state = _read(config)
        name = str(config["metadata"]["labels"][ROLLOUT])
        last = json.loads(data.get("last") or "{}")
        spec = digest_of([f for f in fleets if f.name == name])
        owner = next((str(o["uid"]) for o in config["metadata"].get("ownerReferences") or []), "")
        return Rollout(name, spec, state, int(last.get("weight") or 0), bool(data.get("wish")), owner)
    except (ClusterError, LookupError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Told:
    """One tick's outcome, for a person."""

    phase: str
    step: int
    decision: RolloutDecision
    moved: bool
    """The phase, the step or the weight changed."""


def config_name(fleet: str) -> str:
    return f"{fleet}-rollout"


async def start(kube: Kube, group: Group, name: str, now: float, owner: Object | None = None) -> None:
    """Records a rollout; its first tick applies the first step. InputError when there is nothing to roll out, or one
    runs. `owner`: the Fleet object that it ends with."""
    fleet = next((m.fleet for m in group.members if m.name == name), None)
    if fleet is None or fleet.spec.rollout.canary is None or fleet.spec.rollout.canary.candidate is None:
        raise InputError(
            f"{name}: has no candidate.",
            "Say in spec.rollout.canary.candidate what the new side runs differently.",
        )
    old = await kube.get(CONFIG_MAP, group.namespace, config_name(name))
    if old is not None and load(json.loads(old["data"]["state"])).phase not in ENDED:
        raise InputError(
            f"{name}: a rollout is under way.", f"seawall rollout status {name} -n {group.namespace}"
        )
    baseline, other = await sides(kube, group.namespace, name)
    seen = RolloutSeen(baseline=baseline, canary=other)
    locks = {m.name: m.lock for m in group.members if m.lock and len(m.lock) < 200_000}
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_name(name), "namespace": group.namespace, "labels": {ROLLOUT: name}},
        "data": {
            "fleets": json.dumps([dump_fleet(m.fleet) for m in group.members]),
            "gateway": group.gateway_name,
            "locks": json.dumps(locks),
            "state": json.dumps(dump(begin(seen, now))),
            "history": "[]",
            "wish": "",
            "applied": "",
        },
    }
    if await kube.get(NAMESPACE, None, group.namespace) is None:
        await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": group.namespace}})
    await kube.apply(body if owner is None else own(body, owner), force=True)


async def tick(kube: Kube, namespace: str, name: str, now: float, owner: Object | None = None) -> Told | None:
    """One look and what follows from it. None when somebody else was faster. InputError when there is no rollout.
    `owner`: the Fleet object, where there is one; what is applied stays its own."""
    stored = await kube.get(CONFIG_MAP, namespace, config_name(name))
    if stored is None:
        raise InputError(f"{name}: no rollout in {namespace}.", f"seawall rollout start {name}.yaml")
    data, fleets, state = _read(stored)
    fleet = next(f for f in fleets if f.name == name)
    canary = fleet.spec.rollout.canary
    assert canary is not None
    wish = next((w for w in WISHES if w == data.get("wish")), None)
    settled = data.get("applied") == digest_of(wanted(fleets, name, state)) and await _settled(
        kube, namespace, name
    )
    baseline, other = await sides(kube, namespace, name)
    seen = RolloutSeen(baseline=baseline, canary=other, wish=wish, settled=settled)
    decision, after = decide(policy_of(canary), seen, state, now)
    desired = wanted(fleets, name, after)
    moved = (after.phase, after.step) != (state.phase, state.step) or data.get("applied") == ""
    history = json.loads(data.get("history") or "[]")
    line: dict[str, Any] = {
        "at": round(now, 1),
        "phase": after.phase,
        "step": after.step,
        "weight": decision.weight,
    }
    line |= {"sure": round(decision.sure, 4), "reason": decision.reason}
    if moved or not history:
        history = [*history, line][-KEPT_DECISIONS:]
    data |= {
        "state": json.dumps(dump(after)),
        "history": json.dumps(history),
        "wish": "",
        "last": json.dumps(line),
    }
    if not await _write(kube, stored, data):
        return None
    if data.get("applied") != digest_of(desired):
        await _apply(kube, desired, data, owner)
        fresh = await kube.get(CONFIG_MAP, namespace, config_name(name))
        if fresh is not None:
            await _write(kube, fresh, {**fresh["data"], "applied": digest_of(desired)})
    return Told(after.phase, after.step, decision, moved)


async def wish(kube: Kube, namespace: str, name: str, what: str) -> None:
    """A person's word; the next tick acts on it."""
    if await kube.get(CONFIG_MAP, namespace, config_name(name)) is None:
        raise InputError(f"{name}: no rollout in {namespace}.", "seawall rollout start FLEET.yaml")
    await kube.patch(CONFIG_MAP, namespace, config_name(name), {"data": {"wish": what}})


async def told(kube: Kube, namespace: str, name: str) -> dict[str, Any]:
    """Phase, weight and the decisions so far, for `rollout status`."""
    stored = await kube.get(CONFIG_MAP, namespace, config_name(name))
    if stored is None:
        raise InputError(f"{name}: no rollout in {namespace}.", "seawall rollout start FLEET.yaml")
    data, _, state = _read(stored)
    last = json.loads(data.get("last") or "{}")
    return {
        "fleet": name,
        "phase": state.phase,
        "step": state.step,
        "last": last,
        "history": json.loads(data["history"]),
    }


def wanted(fleets: list[Fleet], name: str, state: RolloutState) -> list[Fleet]:
    """What should be rendered in this phase: a pure function, so a tick that was cut off is done again alike."""
    return [_in_phase(f, state) if f.name == name else f for f in fleets]


def _in_phase(fleet: Fleet, state: RolloutState) -> Fleet:
    taken = state.phase in ("promoting", "promoted")
    base = _promoted(fleet) if taken else fleet
    canary = base.spec.rollout.canary
    assert canary is not None
    assert canary.candidate is not None
    left = (
        None
        if state.phase in ENDED
        else replace(canary.candidate, weight=weight_of(policy_of(canary), state))
    )
    rollout = replace(base.spec.rollout, canary=replace(canary, candidate=left))
    return replace(base, spec=replace(base.spec, rollout=rollout))


def _promoted(fleet: Fleet) -> Fleet:
    """The fleet with its candidate's differences as its own."""
    found = candidate_of(fleet)
    assert found is not None
    return found


async def sides(kube: Kube, namespace: str, fleet: str) -> tuple[Side, Side]:
    """(baseline, canary): counters of all gateways of the namespace."""
    told = (await kube_gateways.ask(kube, namespace)).of(namespace).fleets.get(fleet)
    found = all_sides(told) if told else {}
    return _side(found.get("stable", SideState())), _side(found.get("canary", SideState()))


def _side(s: SideState) -> Side:
    ttft, tpot = Sums(s.ttft_n, s.ttft_log, s.ttft_log2), Sums(s.tpot_n, s.tpot_log, s.tpot_log2)
    return Side(s.requests, s.errors, s.slow, ttft, tpot, s.compared, s.differed)


def _read(stored: Object) -> tuple[dict[str, str], list[Fleet], RolloutState]:
    data = stored.get("data") or {}
    try:
        fleets = []
        for doc in json.loads(data["fleets"]):
            fleet, problems = parse_document(Document(doc, 1, {}))
            if fleet is None or problems:
                raise ValueError("a fleet in it cannot be read")
            fleets.append(fleet)
        return dict(data), fleets, load(json.loads(data["state"]))
    except (KeyError, TypeError, ValueError) as e:
        name = key_of(stored)[1]
        raise ClusterError(
            f"ConfigMap {name} holds no rollout that can be read ({e}).", f"kubectl delete cm {name}"
        ) from None


async def _write(kube: Kube, stored: Object, data: dict[str, str]) -> bool:
    """PUT with the resourceVersion that was read; False when somebody was faster."""
    try:
        namespace, name = key_of(stored)
        meta = {k: v for k, v in stored["metadata"].items() if k != "managedFields"}
        await kube.request(
            "PUT", CONFIG_MAP.path(namespace, name), body={**stored, "metadata": meta, "data": data}
        )
        return True
    except Refused as e:
        if e.code == 409:
            return False
        raise


async def _apply(kube: Kube, fleets: list[Fleet], data: dict[str, str], owner: Object | None) -> None:
    """Of what the cluster serves: who deployed the fleet without a scaler or monitors has been told then."""
    locks = json.loads(data.get("locks") or "{}")
    members = []
    for fleet in fleets:
        made = planned_fleet(fleet)
        lock = locks.get(fleet.name)
        members.append(Wanted(fleet=fleet, plan=made.plan, document=made.document, lock=lock))
    shared: Literal["own", "shared"] = "own" if owner is None else "shared"
    group = Group(members=tuple(members), gateway_name=data.get("gateway", ""), accounts=shared)
    objects = list(render(group).objects)
    missing = set(await unserved(kube, objects))
    kept = [o for o in objects if Ref.of(o) not in missing]
    ledger, manager = Inventory(kube, group.gateway, group.namespace, FIELD_MANAGER), FIELD_MANAGER
    if owner is not None:
        # Whoever drives it, what belongs to a Fleet object is written as the operator writes it.
        kept, manager = [own(o, owner) for o in kept if o["kind"] != "Namespace"], OPERATOR_MANAGER
        ledger = Inventory(kube, group.gateway, group.namespace, manager, str(owner["metadata"].get("uid")))
    how = Manner(manager=manager, heir=owner is not None, rights_stay=True, stop_at_first=True)
    await converge(kube, kept, ledger, group.namespace, how)


async def _settled(kube: Kube, namespace: str, name: str) -> bool:
    labels = f"{FLEET}={name}"
    deployments = list((await kube.list(Select(DEPLOYMENT, namespace, labels=labels), lambda o: o)).values())
    return judge(deployments, [], []).done


def digest_of(fleets: list[Fleet]) -> str:
    return hashlib.sha256(json.dumps([dump_fleet(f) for f in fleets], sort_keys=True).encode()).hexdigest()[
        :16
    ]
