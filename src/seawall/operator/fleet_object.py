"""Fleets that are objects of the cluster, kept by an operator: what a person's verbs do instead of writing beside it.

`seawall apply` over such a Fleet changes the Fleet object, and the operator does the rest; everything else that would
change what the operator keeps is refused with the command that does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seawall.config.load import dump_fleet, parse_document
from seawall.config.yaml import Document
from seawall.domain.spec import API_VERSION
from seawall.drivers.kube import Kube, Object, ObjectKind, Refused
from seawall.errors import InputError
from seawall.operator.ledger import Ref
from seawall.render.inputs import Group

FLEET = ObjectKind(API_VERSION, "Fleet", "fleets")


async def fleet_object(kube: Kube, namespace: str, name: str) -> Object | None:
    """The Fleet object; None where there is none, or no operator has been installed."""
    try:
        return await kube.get(FLEET, namespace, name)
    except Refused as e:
        if e.code == 403:
            return None  # whoever may not read Fleets cannot change one by mistake: apply asks for its rights first
        raise


async def kept(kube: Kube, group: Group) -> list[Object]:
    """The Fleet objects of this group as its files say them; empty where it is nobody's but the person's who applies.
    InputError where some of the fleets are the operator's and some are not."""
    found = [m for m in group.members if await fleet_object(kube, group.namespace, m.name) is not None]
    if found and len(found) < len(group.members):
        theirs = ", ".join(m.name for m in found)
        ours = ", ".join(m.name for m in group.members if m not in found)
        raise InputError(
            f"{theirs}: kept by the operator as a Fleet object; {ours}: not. Nothing was changed.",
            "Apply them apart: fleets that the operator keeps have gateways of their own.",
        )
    return [dump_fleet(m.fleet) for m in found]


async def refuse_kept(kube: Kube, group: Group) -> None:
    """InputError where a fleet is a Fleet object: what was made of it is not a person's to delete."""
    for member in group.members:
        if await fleet_object(kube, group.namespace, member.name) is not None:
            raise InputError(
                f"{member.name} is a Fleet object, kept by the operator; nothing was deleted.",
                f"kubectl delete fleet {member.name} -n {group.namespace} (its volumes stay)",
            )


async def left_over(kube: Kube, wanted: Object, force: bool) -> str:
    """What the Fleet object would still say that this document does not: set by somebody else, and left by an apply."""
    try:
        merged = await kube.apply(wanted, force=force, dry_run=True)
    except Refused:
        return ""  # told as a refusal
    bare = {**wanted, "spec": merged.get("spec")}
    (now, _), (asked, _) = (parse_document(Document(d, 1, {})) for d in (bare, wanted))
    if now is None or asked is None or now.spec == asked.spec:
        return ""
    said, meant = dump_fleet(now)["spec"], dump_fleet(asked)["spec"]
    return ", ".join(f"spec.{k}" for k in sorted(said) if said.get(k) != meant.get(k)) or "spec"


async def insist_on_file(kube: Kube, wanted: Iterable[Object], force: bool) -> None:
    """InputError where the object would not become what the file says."""
    for doc in wanted:
        if more := await left_over(kube, doc, force):
            raise InputError(
                f"Fleet {doc['metadata']['name']}: {more} holds what somebody else set and this file does not.",
                "kubectl replace -f FLEET.yaml makes it what the file says; or put those lines into the file.",
            )


@dataclass(frozen=True)
class NoLedger:
    """Nothing is ever pruned: Fleet objects go when somebody deletes them."""

    async def read(self) -> list[Ref]:
        return []

    async def write(self, refs: Iterable[Ref], news: bool = False, begins: bool = False) -> None:
        return

    def owns(self, found: Object) -> bool:
        return False


def verdict_of(fleet: Object) -> str | None:
    """Why the operator will not serve what the Fleet object says now; "" while it has not looked at it; None when it
    has taken it."""
    status, meta = fleet.get("status") or {}, fleet["metadata"]
    if int(status.get("observedGeneration") or 0) < int(meta.get("generation") or 0):
        return ""
    return str(status.get("reason")) if status.get("phase") in ("Invalid", "Refused") else None
