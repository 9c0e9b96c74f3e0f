"""Rendered objects -> the cluster: server-side apply in order, prune by an inventory, a diff that the server makes.

The inventory is a ConfigMap beside the fleet; what was applied before and is rendered no more is deleted, and
nothing else ever is. Deciding what to render is not done here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from seawall.domain.labels import FLEET, MANAGED_BY
from seawall.drivers.kube import CONFIG_MAP, Kind, Kube, Object, Refused, key_of
from seawall.errors import ClusterError, InputError
from seawall.operator.difference import diff_of

SHARED = ("Namespace", "CustomResourceDefinition")
"""Never deleted: other people's objects go with them."""
REMADE = ("Job", "RoleBinding", "ClusterRoleBinding")
"""What may be deleted and made anew when it cannot change: nothing runs on them that would be lost."""
GONE_S = 60
"""Seconds that an object may take to leave before it is made again."""
NEVER_PRUNED = (*SHARED, "PersistentVolumeClaim")
"""Deleting these loses what cannot be rendered again: weights go only with `seawall delete --all`."""


@dataclass(frozen=True, order=True)
class Ref:
    """Which object, without its content."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Object, default_namespace: str = "") -> Ref:
        namespace, name = key_of(obj)
        return cls(str(obj["apiVersion"]), str(obj["kind"]), namespace or default_namespace, name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    def stub(self) -> Object:
        """Enough of an object to find its Kind by."""
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": self.name}}


@dataclass(frozen=True)
class Change:
    """What applying one object does. `diff` is a unified diff, empty when nothing changes."""

    ref: Ref
    verb: str
    """`create`, `change`, `replace` (deleted and made anew), `keep`, `prune`, or `missing`: its kind is not served."""
    diff: str = ""


Tell = Callable[[Ref, str], None]


async def unserved(kube: Kube, objects: list[Object]) -> list[Ref]:
    """Objects whose kind this cluster does not serve and that no CustomResourceDefinition among them brings."""
    brought = {
        (f"{spec.get('group')}/{v.get('name')}", (spec.get("names") or {}).get("kind"))
        for o in objects
        if o["kind"] == "CustomResourceDefinition"
        for spec in [o.get("spec") or {}]
        for v in spec.get("versions") or []
    }
    missing = []
    for obj in objects:
        if (obj["apiVersion"], obj["kind"]) not in brought and not await _served(kube, obj):
            missing.append(Ref.of(obj))
    return missing


async def _served(kube: Kube, obj: Object) -> bool:
    try:
        await kube.kind_of(obj)
        return True
    except InputError:
        return False


async def changes(
    kube: Kube, objects: list[Object], fleet: str, namespace: str, force: bool = False
) -> list[Change]:
    """What `apply` would do, asked of the server by a dry run; nothing is written."""
    found = [await _change(kube, obj, namespace, force) for obj in objects]
    current = {Ref.of(o, namespace) for o in objects}
    gone = [
        r for r in await inventory(kube, fleet, namespace) if r not in current and r.kind not in NEVER_PRUNED
    ]
    return found + [Change(r, "prune") for r in gone]


async def _change(kube: Kube, obj: Object, namespace: str, force: bool) -> Change:
    ref = Ref.of(obj, namespace)
    if not await _served(kube, obj):
        return Change(ref, "missing", diff_of(ref, None, obj))
    old = await kube.get(await kube.kind_of(obj), ref.namespace, ref.name)
    if _leaving(old):
        return Change(ref, "replace", diff_of(ref, None, obj))
    try:
        new = await kube.apply(obj, force=force, dry_run=True)
    except Refused as e:
        if e.code == 404 and old is None:
            new = obj  # its namespace comes with this very apply
        elif e.immutable and ref.kind in REMADE:
            return Change(ref, "replace", diff_of(ref, old, obj))
        elif _not_ours(e, ref):
            return Change(ref, "keep")
        else:
            raise _explained(e, ref) from None
    if old is None:
        return Change(ref, "create", diff_of(ref, None, obj))
    text = diff_of(ref, old, new)
    return Change(ref, "change" if text else "keep", text)


async def apply(
    kube: Kube,
    objects: list[Object],
    fleet: str,
    namespace: str,
    force: bool = False,
    tell: Tell = lambda ref, verb: None,
) -> list[Ref]:
    """Applies, then prunes. Namespaces come first, then CustomResourceDefinitions (waited for), then the rest in the
    given order. Safe to repeat after it was cut off at any object: the inventory is widened before anything is made
    and narrowed after everything superfluous is gone."""
    wanted = [Ref.of(o, namespace) for o in objects]
    before = await inventory(kube, fleet, namespace)
    ordered = sorted(objects, key=lambda o: SHARED.index(o["kind"]) if o["kind"] in SHARED else len(SHARED))
    widened = False
    for obj in ordered:
        if obj["kind"] != "Namespace" and not widened:
            await _write_inventory(kube, fleet, namespace, {*before, *wanted})
            widened = True
        await _apply_one(kube, obj, namespace, force, tell)
    for ref in before:
        if ref not in wanted and ref.kind not in NEVER_PRUNED:
            tell(ref, "pruned" if await _delete(kube, ref) else "already gone")
    await _write_inventory(
        kube, fleet, namespace, set(wanted) | {r for r in before if r.kind in NEVER_PRUNED}
    )
    return wanted


async def delete(kube: Kube, fleet: str, namespace: str, everything: bool, tell: Tell) -> list[Ref]:
    """Deletes what the inventory lists; volumes only with `everything`. Returns what was kept."""
    refs = await inventory(kube, fleet, namespace)
    kept = [r for r in refs if r.kind in (SHARED if everything else NEVER_PRUNED)]
    for ref in reversed([r for r in refs if r not in kept]):
        tell(ref, "deleted" if await _delete(kube, ref) else "already gone")
    if [r for r in kept if r.kind not in SHARED]:
        await _write_inventory(kube, fleet, namespace, set(kept))
    else:
        await kube.delete(CONFIG_MAP, namespace, _inventory_name(fleet))
    return kept


async def wait_until_gone(kube: Kube, refs: list[Ref], limit_s: float, poll_s: float = 1.0) -> list[str]:
    """Waits for deleted objects to leave; what is still there after `limit_s`, each with what holds it."""
    end = asyncio.get_running_loop().time() + limit_s
    while True:
        held = []
        for ref in refs:
            if not await _served(kube, ref.stub()):
                continue
            obj = await kube.get(await kube.kind_of(ref.stub()), ref.namespace, ref.name)
            if _leaving(obj):
                assert obj is not None
                by = ", ".join(obj["metadata"].get("finalizers") or []) or "its grace period"
                held.append(f"{ref} waits for {by}")
        if not held or asyncio.get_running_loop().time() >= end:
            return held
        await asyncio.sleep(poll_s)


async def inventory(kube: Kube, fleet: str, namespace: str) -> list[Ref]:
    """What was applied for this fleet, in order of application. Empty when nothing ever was."""
    stored = await kube.get(CONFIG_MAP, namespace, _inventory_name(fleet))
    if stored is None:
        return []
    try:
        rows: Any = json.loads((stored.get("data") or {})["objects"])
        return [Ref(*(str(x) for x in row)) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise ClusterError(
            f"ConfigMap {namespace}/{_inventory_name(fleet)} is not an inventory that can be read.",
            "Delete it and apply again; then nothing old is pruned.",
        ) from None


def _inventory_name(fleet: str) -> str:
    return f"{fleet}-seawall-inventory"


async def _write_inventory(kube: Kube, fleet: str, namespace: str, refs: Iterable[Ref]) -> None:
    rows = [[r.api_version, r.kind, r.namespace, r.name] for r in sorted(refs)]
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _inventory_name(fleet),
            "namespace": namespace,
            "labels": {MANAGED_BY: "seawall", FLEET: fleet},
        },
        "data": {"objects": json.dumps(rows)},
    }
    await kube.apply(obj, force=True)


async def _apply_one(kube: Kube, obj: Object, namespace: str, force: bool, tell: Tell) -> None:
    ref = Ref.of(obj, namespace)
    kind = await kube.kind_of(obj)
    try:
        old = await kube.get(kind, ref.namespace, ref.name)
        if _leaving(old):
            tell(ref, "leaving; waiting until it is gone")
            await _wait_gone(kube, kind, ref)
            old = None
        new = await kube.apply(obj, force=force)
    except Refused as e:
        if e.immutable and ref.kind in REMADE:
            await kube.delete(kind, ref.namespace, ref.name)
            await _wait_gone(kube, kind, ref)
            await kube.apply(obj)
            tell(ref, "made anew")
            return
        if _not_ours(e, ref):
            tell(ref, "left as it is (no right to change it)")
            return
        raise _explained(e, ref) from None
    tell(ref, "created" if old is None else "changed" if diff_of(ref, old, new) else "unchanged")
    if ref.kind == "CustomResourceDefinition":
        await _established(kube, kind, ref)


def _leaving(obj: Object | None) -> bool:
    """Being deleted: whatever is applied to it now goes with it."""
    return bool(obj and (obj.get("metadata") or {}).get("deletionTimestamp"))


def _not_ours(e: Refused, ref: Ref) -> bool:
    """A user of one namespace may not touch the namespace itself; what is wrong with it shows at the next object."""
    return ref.kind == "Namespace" and e.code == 403 and "cannot" in e.said


async def _wait_gone(kube: Kube, kind: Kind, ref: Ref) -> None:
    for _ in range(GONE_S * 5):
        found = await kube.get(kind, ref.namespace, ref.name)
        if found is None:
            return
        await asyncio.sleep(0.2)
    held = ", ".join((found or {}).get("metadata", {}).get("finalizers") or ["its grace period"])
    raise ClusterError(
        f"{ref} has been leaving for {GONE_S} s, held by {held}.",
        f"What uses it? kubectl describe {ref.kind.lower()} {ref.name} -n {ref.namespace}",
    )


async def _established(kube: Kube, kind: Kind, ref: Ref) -> None:
    """Until the API server serves the new kind: objects of it would be refused before."""
    for _ in range(150):
        found = await kube.get(kind, None, ref.name) or {}
        conditions = {
            c.get("type"): c.get("status") for c in (found.get("status") or {}).get("conditions") or []
        }
        if conditions.get("Established") == "True":
            return
        await asyncio.sleep(0.2)
    raise ClusterError(f"{ref} is not established after 30 s.", f"kubectl describe crd {ref.name}")


async def _delete(kube: Kube, ref: Ref) -> bool:
    if not await _served(kube, ref.stub()):
        return False  # the kind has left the cluster, and all its objects with it
    return await kube.delete(await kube.kind_of(ref.stub()), ref.namespace, ref.name)


def _explained(e: Refused, ref: Ref) -> ClusterError:
    cure = e.cure
    if e.immutable:
        cure = _FIXED.get(
            ref.kind, f"It cannot change in place. Delete it, then apply again: {_kubectl(ref)}"
        )
    return ClusterError(f"{ref}: {e.message}", cure)


def _kubectl(ref: Ref) -> str:
    return f"kubectl delete {ref.kind.lower()} {ref.name} -n {ref.namespace}"


_FIXED = {
    "PersistentVolumeClaim": "A volume only grows; class and access mode stay. Rename the fleet, or delete the claim.",
    "Deployment": "Its selector stays. Rename the fleet and move traffic, or delete the Deployment (that stops it).",
}  # fmt: skip
