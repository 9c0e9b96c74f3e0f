"""What applying a group of fleets means on this very cluster: its rendered objects, or its Fleet objects where an
operator keeps them. Reads the cluster, writes nothing; `apply` and `diff` begin with it, so that they say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seawall.drivers.kube import Kube, Object
from seawall.operator.fleet_object import NoLedger, insist_on_file, kept
from seawall.operator.ledger import Inventory, Ledger, Ref
from seawall.render.everything import render
from seawall.render.inputs import Group


@dataclass(frozen=True)
class Intent:
    """What is to be applied."""

    objects: tuple[Object, ...]
    namespace: str
    inventory: str | None
    """Whose inventory tells what is to go; None: these are Fleet objects, and nothing goes."""

    @property
    def kept(self) -> bool:
        """An operator makes of them what they say."""
        return self.inventory is None

    def without(self, refs: Sequence[Ref]) -> Intent:
        left = tuple(o for o in self.objects if Ref.of(o) not in refs)
        return replace(self, objects=left)

    def ledger(self, kube: Kube) -> Ledger:
        return NoLedger() if self.inventory is None else Inventory(kube, self.inventory, self.namespace)

    def gateways(self, group: Group) -> list[str]:
        """Names of the gateways in front of the fleets: an operator gives each its own."""
        if self.kept:
            return [Group(members=(m,)).gateway for m in group.members]
        return [group.gateway]


async def intent_of(kube: Kube, group: Group, force: bool) -> Intent:
    """InputError where it would not become what the files say."""
    fleets = await kept(kube, group)
    if not fleets:
        return Intent(tuple(render(group).objects), group.namespace, group.gateway)
    await insist_on_file(kube, fleets, force)
    return Intent(tuple(fleets), group.namespace, None)
