"""Rendered objects -> the cluster: server-side apply in order, prune by an inventory, a diff that the server makes.

The inventory is a ConfigMap beside the fleet; what was applied before and is rendered no more is deleted, and
nothing else ever is. Deciding what to render is not done here.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from seawall.drivers.kube import CONFIG_MAP, Kind, Kube, Object, Refused, key_of
from seawall.errors import ClusterError

SHARED = ("Namespace", "CustomResourceDefinition")
"""Never deleted: other people's objects go with them."""
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
    """`create`, `change`, `keep` or `prune`."""
    diff: str = ""


async def changes(
    kube: Kube, objects: list[Object], fleet: str, namespace: str, force: bool = False
) -> list[Change]:
    """What `apply` would do, asked of the server by a dry run; nothing is written."""
    found = []
    for obj in objects:
        ref = Ref.of(obj, namespace)
        kind = await kube.kind_of(obj)
        old = await kube.get(kind, ref.namespace, ref.name)
        try:
            new = await kube.apply(obj, force=force, dry_run=True)
        except Refused as e:
            if e.code == 404 and old is None:
                new = obj  # its namespace comes with this very apply
            else:
                raise _explained(e, ref) from None
        before, after = _lines(old), _lines(new)
        if old is None:
            found.append(Change(ref, "create", _diff(ref, [], _lines(obj))))
        elif before == after:
            found.append(Change(ref, "keep"))
        else:
            found.append(Change(ref, "change", _diff(ref, before, after)))
    current = {Ref.of(o, namespace) for o in objects}
    gone = [
        r for r in await inventory(kube, fleet, namespace) if r not in current and r.kind not in NEVER_PRUNED
    ]
    return found + [Change(r, "prune") for r in gone]


async def apply(
    kube: Kube,
    objects: list[Object],
    fleet: str,
    namespace: str,
    force: bool = False,
    tell: Callable[[Ref, str], None] = lambda ref, verb: None,
) -> list[Ref]:
    """Applies in the given order, then prunes. Safe to repeat after it was cut off at any object: the
    inventory is widened before anything is made and narrowed after everything superfluous is gone."""
    wanted = [Ref.of(o, namespace) for o in objects]
    before = await inventory(kube, fleet, namespace)
    namespaces = [o for o in objects if o["kind"] == "Namespace"]
    for obj in namespaces:
        await _apply_one(kube, obj, namespace, force, tell)
    await _write_inventory(kube, fleet, namespace, {*before, *wanted})
    for obj in objects:
        if obj not in namespaces:
            await _apply_one(kube, obj, namespace, force, tell)
    for ref in before:
        if ref not in wanted and ref.kind not in NEVER_PRUNED:
            tell(ref, "pruned" if await _delete(kube, ref) else "already gone")
    await _write_inventory(
        kube, fleet, namespace, set(wanted) | {r for r in before if r.kind in NEVER_PRUNED}
    )
    return wanted


async def delete(
    kube: Kube, fleet: str, namespace: str, everything: bool, tell: Callable[[Ref, str], None]
) -> list[Ref]:
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
            "labels": {"app.kubernetes.io/managed-by": "seawall", "seawall.dev/fleet": fleet},
        },
        "data": {"objects": json.dumps(rows)},
    }
    await kube.apply(obj, force=True)


async def _apply_one(
    kube: Kube, obj: Object, namespace: str, force: bool, tell: Callable[[Ref, str], None]
) -> None:
    ref = Ref.of(obj, namespace)
    try:
        kind = await kube.kind_of(obj)
        old = await kube.get(kind, ref.namespace, ref.name)
        new = await kube.apply(obj, force=force)
    except Refused as e:
        if _immutable_job(obj, e):
            await _remake(kube, kind, ref, obj)
            tell(ref, "made anew")
            return
        raise _explained(e, ref) from None
    tell(ref, "created" if old is None else "unchanged" if _lines(old) == _lines(new) else "changed")


def _immutable_job(obj: Object, e: Refused) -> bool:
    """A Job's template cannot change; ours (loading weights) can be run again at any time."""
    return obj["kind"] == "Job" and e.code == 422


async def _remake(kube: Kube, kind: Kind, ref: Ref, obj: Object) -> None:
    await kube.delete(kind, ref.namespace, ref.name)
    for _ in range(50):
        try:
            await kube.apply(obj)
            return
        except Refused as e:
            if e.code not in (409, 422):
                raise
        import asyncio

        await asyncio.sleep(0.2)
    raise ClusterError(
        f"{ref} is being deleted for 10 s.", f"See its finalizers: kubectl get job {ref.name} -o yaml"
    )


async def _delete(kube: Kube, ref: Ref) -> bool:
    return await kube.delete(await kube.kind_of(ref.stub()), ref.namespace, ref.name)


def _explained(e: Refused, ref: Ref) -> ClusterError:
    if e.code == 409:
        return ClusterError(
            f"{ref}: {e.message}",
            "Somebody else manages these fields. Give them up there, or take them with --force-conflicts.",
        )
    return ClusterError(f"{ref}: {e.message}", e.cure)


_NOISE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


def _lines(obj: Object | None) -> list[str]:
    """The object as YAML lines without what the server adds; Secrets' values never show."""
    import yaml

    if obj is None:
        return []
    shown = {k: v for k, v in obj.items() if k != "status"}
    shown["metadata"] = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _NOISE}
    if obj.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if field in shown:
                shown[field] = dict.fromkeys(shown[field] or {}, "(hidden)")
    return yaml.safe_dump(shown, sort_keys=True, width=10_000).splitlines()


def _diff(ref: Ref, before: list[str], after: list[str]) -> str:
    return "\n".join(
        difflib.unified_diff(before, after, f"{ref} (cluster)", f"{ref} (rendered)", lineterm="", n=2)
    )
