"""What a person's verbs do to a cluster: look first (rights, a dry run of everything), then converge by an inventory.

Nothing is begun that cannot be finished: `changes` asks the server about every object, and whoever applies insists on
its answer. What was applied before and is rendered no more is deleted, and nothing else ever is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from seawall.drivers.kube import Kube, Object, Refused
from seawall.drivers.kube_deployers import deployer_of
from seawall.errors import ClusterError
from seawall.operator.converge import (
    REMADE,
    Manner,
    Pause,
    TellRef,
    converge,
    explained,
    leaving,
    not_ours,
    served,
)
from seawall.operator.difference import diff_of
from seawall.operator.ledger import NEVER_PRUNED, SHARED, Inventory, Ref
from seawall.operator.preflight import need_rights
from seawall.operator.strangers import somebodys

AT_ONCE = 8


@dataclass(frozen=True)
class Change:
    """What applying one object does. `diff` is a unified diff, empty when nothing changes."""

    ref: Ref
    verb: str
    """`create`, `change`, `replace` (deleted and made anew), `keep`, `prune`, `missing`: its kind is not served, or
    `refused`: the server would not take it."""
    diff: str = ""
    refusal: ClusterError | None = None


async def unserved(kube: Kube, objects: Sequence[Object]) -> list[Ref]:
    """Objects whose kind this cluster does not serve and that no CustomResourceDefinition among them brings."""
    brought = _brought(objects)
    missing = []
    for obj in objects:
        if (obj["apiVersion"], obj["kind"]) not in brought and await served(kube, obj) is None:
            missing.append(Ref.of(obj))
    return missing


def _brought(objects: Sequence[Object]) -> set[tuple[str, str]]:
    return {
        (f"{spec.get('group')}/{v.get('name')}", str((spec.get("names") or {}).get("kind")))
        for o in objects
        if o["kind"] == "CustomResourceDefinition"
        for spec in [o.get("spec") or {}]
        for v in spec.get("versions") or []
    }


async def changes(
    kube: Kube, objects: Sequence[Object], fleet: str | None, namespace: str, force: bool = False
) -> list[Change]:
    """What `apply` would do, asked of the server by a dry run of every object; nothing is written. `fleet`: whose
    inventory says what is to go; None: nothing goes."""
    at_once, brought = asyncio.Semaphore(AT_ONCE), _brought(objects)

    async def one(obj: Object) -> Change:
        async with at_once:
            return await _change(kube, obj, namespace, force, (obj["apiVersion"], obj["kind"]) in brought)

    found = list(await asyncio.gather(*map(one, objects)))
    current = {Ref.of(o, namespace) for o in objects}
    gone = [
        r
        for r in (await Inventory(kube, fleet, namespace).read() if fleet else ())
        if r not in current and r.kind not in NEVER_PRUNED
    ]
    return found + [Change(r, "prune") for r in gone]


async def _change(kube: Kube, obj: Object, namespace: str, force: bool, brought: bool) -> Change:
    ref, kind = Ref.of(obj, namespace), await served(kube, obj)
    if kind is None:
        return Change(ref, "create" if brought else "missing", diff_of(ref, None, obj))
    try:
        old = await kube.get(kind, ref.namespace, ref.name)
    except Refused as e:
        return Change(ref, "keep") if not_ours(e, ref) else Change(ref, "refused", refusal=explained(e, ref))
    if leaving(old):
        return Change(ref, "replace", diff_of(ref, None, obj))
    whose = somebodys(old, obj)
    try:
        # Beside a tool the question is what would change, not which fields it manages.
        new = await kube.apply(obj, force=force or bool(whose and whose.tool), dry_run=True)
    except Refused as e:
        if e.code == 404 and old is None:
            new = obj  # its namespace comes with this very apply
        elif e.immutable and ref.kind in REMADE:
            return Change(ref, "replace", diff_of(ref, old, obj))
        elif not_ours(e, ref):
            return Change(ref, "keep")
        else:
            return Change(ref, "refused", refusal=explained(e, ref))
    if old is None:
        return Change(ref, "create", diff_of(ref, None, obj))
    text = diff_of(ref, old, new)
    if whose and ref.kind in SHARED:
        return Change(ref, "keep")
    if whose and not force:
        return Change(ref, "refused", text, whose.refusal(ref))
    return Change(ref, "change" if text else "keep", text)


def insist(found: Sequence[Change]) -> None:
    """ClusterError with everything that the server would refuse; what only cannot be asked dry is let pass."""
    refused = [
        c.refusal for c in found if c.refusal is not None and "not support dry run" not in c.refusal.message
    ]
    if len(refused) == 1:
        raise ClusterError(f"{refused[0].message.rstrip('.')}; nothing was changed.", refused[0].cure)
    if refused:
        cures = " ".join(dict.fromkeys(r.cure for r in refused if r.cure))
        told = "".join(f"\n  {r.message}" for r in refused)
        raise ClusterError(f"{len(refused)} objects are refused; nothing was changed.{told}\n", cures)


async def apply(
    kube: Kube,
    objects: Sequence[Object],
    fleet: str,
    namespace: str,
    force: bool = False,
    tell: TellRef = lambda ref, verb: None,
    sleep: Pause = asyncio.sleep,
) -> list[Ref]:
    """Applies, then prunes, and ends at the first refusal; the next apply goes on where it was."""
    how = Manner(force=force, stop_at_first=True, tell=tell, sleep=sleep)
    await converge(kube, objects, Inventory(kube, fleet, namespace), namespace, how)
    return [Ref.of(o, namespace) for o in objects]


async def delete(kube: Kube, fleet: str, namespace: str, everything: bool, tell: TellRef) -> list[Ref]:
    """Deletes what the inventory lists; volumes only with `everything`. Returns what was kept. Nothing is deleted
    before the server has said, of each object in a dry run, that it may be."""
    ledger = Inventory(kube, fleet, namespace)
    refs = await ledger.read()
    kept = [r for r in refs if r.kind in (SHARED if everything else NEVER_PRUNED)]
    going = [r for r in refs if r not in kept]
    await need_rights(kube, (), going)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def tried(ref: Ref) -> Change:
        async with at_once:
            return await _deletion(kube, ref, ledger)

    insist(await asyncio.gather(*map(tried, going), _narrowing(ledger, refs, kept)))
    for ref in reversed(going):
        kind = await served(kube, ref.stub())
        found = None if kind is None else await kube.get(kind, ref.namespace, ref.name)
        if kind is None or found is None:
            tell(ref, "already gone")
        elif ledger.owns(found):
            tell(ref, "deleted" if await kube.delete(kind, ref.namespace, ref.name) else "already gone")
        else:
            tell(ref, f"left as it is ({deployer_of(found) or 'a Fleet object'} keeps it now)")
    await _narrow(ledger, kept)
    if ledger.kept_for_others:
        tell(
            Ref("v1", "ConfigMap", namespace, ledger.name),
            "stays: an apply was cut off, or runs at this moment; delete again when none does",
        )
    return kept


async def _deletion(kube: Kube, ref: Ref, ledger: Inventory) -> Change:
    """What deleting one object would do."""
    try:
        kind = await served(kube, ref.stub())
        found = None if kind is None else await kube.get(kind, ref.namespace, ref.name)
        if kind is not None and found is not None and ledger.owns(found):
            await kube.delete(kind, ref.namespace, ref.name, dry_run=True)
    except Refused as e:
        return Change(ref, "refused", refusal=explained(e, ref))
    return Change(ref, "prune")


async def _narrowing(ledger: Inventory, refs: Sequence[Ref], kept: Sequence[Ref]) -> Change:
    """Whether the inventory may be brought up to date afterwards."""
    ref = Ref("v1", "ConfigMap", ledger.namespace, ledger.name)
    try:
        if refs:
            await _narrow(ledger, kept, dry_run=True)
    except Refused as e:
        return Change(ref, "refused", refusal=explained(e, ref))
    return Change(ref, "change")


async def _narrow(ledger: Inventory, kept: Sequence[Ref], dry_run: bool = False) -> None:
    if [r for r in kept if r.kind not in SHARED]:
        await ledger.write(kept, dry_run=dry_run)
    else:
        await ledger.forget(dry_run)


async def wait_until_gone(
    kube: Kube, refs: list[Ref], limit_s: float, poll_s: float = 1.0, sleep: Pause = asyncio.sleep
) -> list[str]:
    """Waits for deleted objects to leave; what is still there after `limit_s`, each with what holds it."""
    left = limit_s
    while True:
        held = []
        for ref in refs:
            kind = await served(kube, ref.stub())
            obj = None if kind is None else await kube.get(kind, ref.namespace, ref.name)
            if obj is not None and leaving(obj):
                by = ", ".join(obj["metadata"].get("finalizers") or []) or "its grace period"
                held.append(f"{ref} waits for {by}")
        if not held or left <= 0:
            return held
        left -= poll_s
        await sleep(poll_s)


async def inventory(kube: Kube, fleet: str, namespace: str) -> list[Ref]:
    """What was applied for this fleet, in order of application. Empty when nothing ever was."""
    return await Inventory(kube, fleet, namespace).read()
