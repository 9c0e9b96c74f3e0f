"""What a Fleet owns, made to be what is wanted: applies all of it, then deletes what it owned before and wants no more.

One object that cannot be applied (a kind that is not served, a right that is missing) keeps no other from being made.
Only what carries the Fleet's own owner reference is ever deleted, and never a volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seawall.drivers.kube import Kube, Object, Refused
from seawall.errors import InputError
from seawall.operator.apply import NEVER_PRUNED, REMADE, Ref


@dataclass(frozen=True)
class Converged:
    """`problem`: what could not be done, empty when all was. `ends`: the namespace is being terminated, so nothing can
    be made in it ever again."""

    problem: str = ""
    ends: bool = False


async def converge(kube: Kube, objects: Sequence[Object], before: Iterable[Ref], uid: str) -> Converged:
    """`before`: what the Fleet of `uid` may own. Raises ClusterError when the API server is away."""
    problems = []
    for obj in objects:
        ref = Ref.of(obj)
        try:
            await _apply(kube, obj, ref)
        except InputError as e:
            problems.append(f"{ref}: {e.message}")
        except Refused as e:
            problems.append(f"{ref}: {e.message}")
            if e.ending:
                return Converged(problems[-1], ends=True)
    wanted = {Ref.of(o) for o in objects}
    for ref in sorted(set(before) - wanted):
        try:
            await _prune(kube, ref, uid)
        except Refused as e:
            problems.append(f"{ref} is to go: {e.message}")
    return Converged("; ".join(problems))


async def _apply(kube: Kube, obj: Object, ref: Ref) -> None:
    try:
        await kube.apply(obj, force=True)
    except Refused as e:
        if not (e.immutable and ref.kind in REMADE):
            raise
        await kube.delete(await kube.kind_of(obj), ref.namespace, ref.name)
        await kube.apply(obj, force=True)


async def _prune(kube: Kube, ref: Ref, uid: str) -> None:
    if ref.kind in NEVER_PRUNED:
        return
    try:
        kind = await kube.kind_of(ref.stub())
    except InputError:
        return  # the kind has left the cluster, and all its objects with it
    found = await kube.get(kind, ref.namespace, ref.name)
    owners = ((found or {}).get("metadata") or {}).get("ownerReferences") or []
    if any(o.get("uid") == uid for o in owners):
        await kube.delete(kind, ref.namespace, ref.name)


def listed(objects: Iterable[Object]) -> list[Object]:
    """The objects as a Fleet's status lists them: those that may be pruned."""
    refs = sorted({Ref.of(o) for o in objects if o["kind"] not in NEVER_PRUNED})
    return [{"apiVersion": r.api_version, "kind": r.kind, "name": r.name} for r in refs]


def refs_of(status: Object, namespace: str) -> list[Ref]:
    """What a Fleet's status lists."""
    return [
        Ref(str(o.get("apiVersion")), str(o.get("kind")), namespace, str(o.get("name")))
        for o in status.get("objects") or []
    ]
