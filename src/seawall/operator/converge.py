"""Objects made to be what is wanted, by a ledger: applied in order; what was made before and is wanted no more goes.

The one way by which anything of ours gets into a cluster: `seawall apply`, a rollout and the operator differ in their
ledger and in how patient they are, not in what they do. Deciding what to render is not done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from seawall.drivers.kube import FIELD_MANAGER, Kube, Object, ObjectKind, Refused
from seawall.errors import ClusterError, InputError
from seawall.operator.difference import diff_of
from seawall.operator.ledger import NEVER_PRUNED, SHARED, Ledger, Ref
from seawall.operator.strangers import ObjectRefused, adopts, somebodys

REMADE = ("Job", "RoleBinding", "ClusterRoleBinding")
"""What may be deleted and made anew when it cannot change: nothing runs on them that would be lost."""
GONE_S = 60.0
"""Seconds that an object may take to leave before it is made again."""
ESTABLISHED_S = 30.0
LOOK_S = 0.2
TellRef = Callable[[Ref, str], None]
Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Converged:
    """`problem`: what could not be done, empty when all was. `ends`: the namespace is being terminated, so nothing can
    be made in it ever again."""

    problem: str = ""
    ends: bool = False


@dataclass(frozen=True)
class Manner:
    """How it is done."""

    force: bool = True
    """Take over fields that others manage."""
    manager: str | None = None
    """For whom; None: for whoever asks."""
    heir: bool = False
    """What a person's apply wrote of an object before is given up by it: the object has gone over to us."""
    rights_stay: bool = False
    """Roles and their bindings are left as they are where whoever asks may not write them."""
    stop_at_first: bool = False
    """Raise the first problem. Else what fails keeps nothing else from being made, and all problems are told."""
    patience_s: float = GONE_S
    """For an object that is leaving, until it can be made again."""
    tell: TellRef = lambda ref, verb: None
    sleep: Pause = asyncio.sleep


async def converge(
    kube: Kube, objects: Sequence[Object], ledger: Ledger, namespace: str, how: Manner
) -> Converged:
    """Namespaces come first, then CustomResourceDefinitions (waited for), then the rest in the given order. Safe to
    repeat after it was cut off at any object. Raises ClusterError when the API server is away."""
    before = await ledger.read()
    try:
        return await _converge(kube, objects, ledger, before, namespace, how)
    except (InputError, ClusterError):
        if how.stop_at_first:  # it ends here: nothing is about to be made any more
            with suppress(ClusterError):
                await ledger.write({*before, *(Ref.of(o, namespace) for o in objects)}, news=True)
        raise


async def _converge(
    kube: Kube, objects: Sequence[Object], ledger: Ledger, before: list[Ref], namespace: str, how: Manner
) -> Converged:
    wanted = [Ref.of(o, namespace) for o in objects]
    ordered = sorted(objects, key=lambda o: SHARED.index(o["kind"]) if o["kind"] in SHARED else len(SHARED))
    problems: list[str] = []
    widened = changed = False
    for obj in ordered:
        if obj["kind"] != "Namespace" and not widened:
            await ledger.write({*before, *wanted}, begins=True)
            widened = True
        try:
            changed |= await _make(kube, obj, namespace, how)
        except (InputError, ObjectRefused) as e:
            if how.stop_at_first:
                raise
            problems.append(str(e) if isinstance(e, InputError) else e.message)
            if isinstance(e, ObjectRefused) and e.ending:
                return Converged(problems[-1], ends=True)
    for ref in sorted(set(before) - set(wanted)):
        try:
            await _prune(kube, ref, ledger, how)
        except Refused as e:
            if how.stop_at_first:
                raise explained(e, ref) from None
            problems.append(f"{ref} is to go: {e.message}")
    if not problems:
        await ledger.write({*wanted, *(r for r in before if r.kind in NEVER_PRUNED)}, news=changed)
    return Converged("; ".join(problems))


async def _make(kube: Kube, obj: Object, namespace: str, how: Manner) -> bool:
    """Whether the object was made or changed."""
    ref = Ref.of(obj, namespace)
    try:
        kind = await kube.kind_of(obj)
    except InputError as e:
        raise InputError(f"{ref}: {e.message}", e.cure) from None
    except Refused as e:  # one group's own server does not answer; the others do
        raise explained(e, ref) from None
    try:
        old = await kube.get(kind, ref.namespace, ref.name)
        if leaving(old):
            how.tell(ref, "leaving; waiting until it is gone")
            await _wait_gone(kube, kind, ref, how)
            old = None
        whose = somebodys(old, obj)
        if whose and ref.kind in SHARED:
            how.tell(ref, f"left as it is ({whose})")
            return False
        if whose and adopts(obj):
            raise whose.refusal(ref)
        new = await kube.apply(obj, force=how.force, manager=how.manager)
        if how.heir and _also_a_persons(new):
            # A field that we drop later would else stay for ever, held by an apply that nobody repeats.
            await kube.apply(ref.stub(), force=True, manager=FIELD_MANAGER)
    except Refused as e:
        if e.immutable and ref.kind in REMADE:
            await kube.delete(kind, ref.namespace, ref.name)
            await _wait_gone(kube, kind, ref, how)
            await kube.apply(obj, force=how.force, manager=how.manager)
            how.tell(ref, "made anew")
            return True
        if not_ours(e, ref, how):
            how.tell(ref, "left as it is (no right to change it)")
            return False
        raise explained(e, ref) from None
    verb = "created" if old is None else "changed" if diff_of(ref, old, new) else "unchanged"
    how.tell(ref, verb)
    if ref.kind == "CustomResourceDefinition":
        await _established(kube, kind, ref, how)
    return verb != "unchanged"


def _also_a_persons(obj: Object) -> bool:
    return any(
        m.get("manager") == FIELD_MANAGER and m.get("operation") == "Apply"
        for m in obj["metadata"].get("managedFields") or []
    )


async def _prune(kube: Kube, ref: Ref, ledger: Ledger, how: Manner) -> None:
    if ref.kind in NEVER_PRUNED:
        return
    kind = await served(kube, ref.stub())
    found = None if kind is None else await kube.get(kind, ref.namespace, ref.name)
    if kind is None or found is None:  # or the kind has left the cluster, and all its objects with it
        how.tell(ref, "already gone")
    elif ledger.owns(found):
        how.tell(ref, "pruned" if await kube.delete(kind, ref.namespace, ref.name) else "already gone")
    else:
        how.tell(ref, "left as it is (somebody else keeps it now)")


async def served(kube: Kube, obj: Object) -> ObjectKind | None:
    """The Kind of an object; None where the cluster does not serve it."""
    try:
        return await kube.kind_of(obj)
    except InputError:
        return None


def leaving(obj: Object | None) -> bool:
    """Being deleted: whatever is applied to it now goes with it."""
    return bool(obj and (obj.get("metadata") or {}).get("deletionTimestamp"))


def not_ours(e: Refused, ref: Ref, how: Manner | None = None) -> bool:
    """A user of one namespace may not touch the namespace itself; what is wrong with it shows at the next object."""
    kinds = ("Namespace", *(("Role", "RoleBinding") if how and how.rights_stay else ()))
    return ref.kind in kinds and e.code == 403 and "cannot" in e.said


async def _wait_gone(kube: Kube, kind: ObjectKind, ref: Ref, how: Manner) -> None:
    left = how.patience_s
    while True:
        found = await kube.get(kind, ref.namespace, ref.name)
        if found is None:
            return
        if left <= 0:
            break
        left -= LOOK_S
        await how.sleep(LOOK_S)
    held = ", ".join(found["metadata"].get("finalizers") or ["its grace period"])
    raise ObjectRefused(
        f"{ref} has been leaving for {how.patience_s:g} s, held by {held}.",
        f"What uses it? kubectl describe {ref.kind.lower()} {ref.name} -n {ref.namespace}",
    )


async def _established(kube: Kube, kind: ObjectKind, ref: Ref, how: Manner) -> None:
    """Until the API server serves the new kind: objects of it would be refused before."""
    for _ in range(round(ESTABLISHED_S / LOOK_S)):
        found = await kube.get(kind, None, ref.name) or {}
        conditions = {
            c.get("type"): c.get("status") for c in (found.get("status") or {}).get("conditions") or []
        }
        if conditions.get("Established") == "True":
            return
        await how.sleep(LOOK_S)
    raise ObjectRefused(
        f"{ref} is not established after {ESTABLISHED_S:g} s.", f"kubectl describe crd {ref.name}"
    )


def explained(e: Refused, ref: Ref) -> ObjectRefused:
    """The server's refusal of this object, with the cure for it."""
    cure = e.cure
    if e.immutable:
        again = f"kubectl delete {ref.kind.lower()} {ref.name} -n {ref.namespace}"
        cure = _FIXED.get(ref.kind, f"It cannot change in place. Delete it, then apply again: {again}")
    out = ObjectRefused(f"{ref}: {e.message}", cure)
    out.ending = e.ending
    return out


_FIXED = {
    "PersistentVolumeClaim": "A volume only grows; class and access mode stay. Rename the fleet, or delete the claim.",
    "Deployment": "Its selector stays. Rename the fleet and move traffic, or delete the Deployment (that stops it).",
}  # fmt: skip
