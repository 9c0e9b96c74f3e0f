"""What was made before, so that what is wanted no more can be taken away: the lists that `converge` works by.

Two keep them: `seawall apply` in a ConfigMap beside the fleet, the operator in a Fleet's own status. A list is widened
before anything is made and narrowed after everything superfluous is gone, so one that was cut off is mended by the
next. Nothing is created or deleted here but the list itself.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Protocol

from seawall.domain.labels import FLEET, MANAGED_BY
from seawall.drivers.kube import CONFIG_MAP, Kube, Object, Refused, key_of
from seawall.drivers.kube_deployers import deployer_of
from seawall.errors import ClusterError

SHARED = ("Namespace", "CustomResourceDefinition")
"""Never deleted: other people's objects go with them."""
NEVER_PRUNED = (*SHARED, "PersistentVolumeClaim")
"""Deleting these loses what cannot be rendered again: weights go only with `seawall delete --all`."""
TRIES = 8
"""How often a list is read and written again that somebody else writes at the same moments."""


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
        meta = {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {})
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": meta}


class Ledger(Protocol):
    """One list of what was made."""

    async def read(self) -> list[Ref]: ...

    async def write(self, refs: Iterable[Ref], news: bool = False, begins: bool = False) -> None:
        """Writes the list. `news`: objects in it were made or changed since it was read. `begins`: they are to be."""
        ...

    def owns(self, found: Object) -> bool:
        """Whether this object, found under a name of the list, may be deleted."""
        ...


@dataclass(frozen=True)
class Inventory:
    """The list of `seawall apply`: a ConfigMap. `manager`: for whom it is written. Two who apply at once lose nothing
    of each other's: a list that somebody else has written since it was seen here keeps all that is in it, and so does
    one by which somebody else has begun to make objects and not ended: killed, or at it still, and about to make what
    has just been looked for and was not there. What is in it and nowhere else harms nobody; it goes at the next apply.
    """

    kube: Kube
    fleet: str
    namespace: str
    manager: str | None = None
    owner_uid: str = ""
    """Of the Fleet object for which it is kept, if for one."""
    _seen: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    """`version`: of the list as it was last read or written here; None: there was none."""
    _others: set[Ref] = field(default_factory=set, compare=False, repr=False)
    """What somebody else has written meanwhile, or is about to make."""
    _begun: set[str] = field(default_factory=set, compare=False, repr=False)
    """Marks of others that stood in the list when it was read here: whoever writes it takes them away."""
    _mark: str = field(default_factory=lambda: token_hex(6), compare=False, repr=False)
    """Ours: it stands in the list from before the first object is made until after the last."""

    @property
    def name(self) -> str:
        return f"{self.fleet}-seawall-inventory"

    async def read(self) -> list[Ref]:
        """In order of application. Empty when nothing ever was."""
        stored = await self._stored()
        self._seen["version"] = _version(stored)
        self._begun.update(_marks(stored))
        return self._listed(stored)

    @property
    def kept_for_others(self) -> bool:
        """Whether it was left as it is, beyond what was written here: somebody else is, or was, about to make it."""
        return bool(self._others)

    async def _stored(self) -> Object | None:
        return await self.kube.get(CONFIG_MAP, self.namespace, self.name)

    def _listed(self, stored: Object | None) -> list[Ref]:
        if stored is None:
            return []
        try:
            rows: Any = json.loads((stored.get("data") or {})["objects"])
            return [Ref(*(str(x) for x in row)) for row in rows]
        except (KeyError, TypeError, ValueError):
            raise ClusterError(
                f"ConfigMap {self.namespace}/{self.name} is not an inventory that can be read.",
                "Delete it and apply again; then nothing old is pruned.",
            ) from None

    async def write(
        self, refs: Iterable[Ref], news: bool = False, begins: bool = False, dry_run: bool = False
    ) -> None:
        """Writes the list; with `news` as a version of its own even where it says the same: who deletes meanwhile must
        not take for gone what was made again."""
        await self._by_version(set(refs), news, {self._mark} if begins else set(), dry_run)

    async def forget(self, dry_run: bool = False) -> None:
        """Deletes the list, unless somebody else has written it, or has begun to make what is in it."""
        await self._by_version(set(), False, set(), dry_run)

    async def _by_version(self, refs: set[Ref], news: bool, mark: set[str], dry_run: bool) -> None:
        """Writes over the version that was read, and over no other."""
        for attempt in range(TRIES):
            stored = await self._stored()
            version, theirs = _version(stored), _marks(stored) - {self._mark}
            if theirs or version != self._seen.get("version", version):
                self._others.update(self._listed(stored))
            marks = (theirs - self._begun) | mark
            rows = sorted({*refs, *self._others})
            if stored is None and not rows:
                return
            made: Object | None = None
            try:
                if not rows:
                    await self.kube.delete(
                        CONFIG_MAP, self.namespace, self.name, dry_run=dry_run, version=version
                    )
                elif version is None and not dry_run:
                    made = await self.kube.create(self._object(rows, 1, marks), self.manager)
                else:
                    body = self._object(rows, _writes(stored) + news, marks, version)
                    made = await self.kube.apply(body, force=True, dry_run=dry_run, manager=self.manager)
                if not dry_run:
                    self._seen["version"] = _version(made)
                return
            except Refused as e:
                if e.code != 409 or attempt == TRIES - 1:
                    raise

    def _object(
        self, rows: Iterable[Ref], writes: int, marks: set[str], version: str | None = None
    ) -> Object:
        """The list. `writes`: how often it was written after a change. `marks`: of who has begun and not ended."""
        meta: Object = {"name": self.name, "namespace": self.namespace}
        meta["labels"] = {MANAGED_BY: "seawall", FLEET: self.fleet}
        if version is not None:
            meta["resourceVersion"] = version
        listed = [[r.api_version, r.kind, r.namespace, r.name] for r in rows]
        data = {"objects": json.dumps(listed), "writes": str(writes), "begun": " ".join(sorted(marks))}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    def owns(self, found: Object) -> bool:
        """All that it lists, but for what a Fleet object, or a tool that deploys it, has taken over since."""
        return keeper_of(found) in ("", self.owner_uid) and not deployer_of(found)


@dataclass(frozen=True)
class FleetObjects:
    """The list in a Fleet's status. `told`: what the status lists; `tell` writes it."""

    uid: str
    namespace: str
    told: tuple[Object, ...]
    tell: Callable[[list[Object]], Awaitable[None]]

    async def read(self) -> list[Ref]:
        return [
            Ref(str(o.get("apiVersion")), str(o.get("kind")), self.namespace, str(o.get("name")))
            for o in self.told
        ]

    async def write(self, refs: Iterable[Ref], news: bool = False, begins: bool = False) -> None:
        kept = sorted({r for r in refs if r.kind not in NEVER_PRUNED})
        await self.tell([{"apiVersion": r.api_version, "kind": r.kind, "name": r.name} for r in kept])

    def owns(self, found: Object) -> bool:
        """Only what carries the Fleet's own owner reference."""
        return keeper_of(found) == self.uid


def _version(stored: Object | None) -> str | None:
    return None if stored is None else str(stored["metadata"]["resourceVersion"])


def _writes(stored: Object | None) -> int:
    text = str(((stored or {}).get("data") or {}).get("writes"))
    return int(text) if text.isdecimal() else 0


def _marks(stored: Object | None) -> set[str]:
    return set(str(((stored or {}).get("data") or {}).get("begun") or "").split())


def keeper_of(obj: Object) -> str:
    """uid of the Fleet object that an object belongs to; empty where it belongs to none."""
    owners = (obj.get("metadata") or {}).get("ownerReferences") or []
    return next((str(o.get("uid")) for o in owners if o.get("kind") == "Fleet"), "")
