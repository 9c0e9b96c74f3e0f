"""Objects of our names that are somebody else's: a tool's that deploys them, another Fleet's, or a person's.

To write over one is to take it; to list it as ours, or to put an owner reference on it, is to delete it one day. So it
is told before anything is written, and only a person who insists takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.domain.labels import MANAGED_BY
from seawall.drivers.kube import Object
from seawall.drivers.kube_deployers import deployer_of
from seawall.errors import ClusterError
from seawall.operator.ledger import Ref

_FORMATS = {"Argo CD": "argocd", "Flux": "flux", "Helm": "helm"}
INSIST = "--force-conflicts writes all the same."


class ObjectRefused(ClusterError):
    """The error for one object that is not taken, by the API server or by us."""

    ending = False
    """Its namespace is being terminated."""


@dataclass(frozen=True)
class Stranger:
    """Whose object it is: a tool's (`Helm (release llm)`), a Fleet's, or nobody's that is known."""

    tool: str = ""
    fleet: str = ""

    def __str__(self) -> str:
        return self.tool or (f"Fleet {self.fleet}" if self.fleet else "somebody else")

    def refusal(self, ref: Ref) -> ObjectRefused:
        """Why it is not written, with the cure."""
        if self.tool:
            name = self.tool.partition(" (")[0]
            return ObjectRefused(
                f"{ref}: {self.tool} deploys it and would undo what we write",
                f"Change it there (seawall render --format {_FORMATS[name]}), or take it out of {name} first; {INSIST}",
            )
        if self.fleet:
            return ObjectRefused(
                f"{ref}: it belongs to Fleet {self.fleet}",
                "Rename one of the two fleets, or what they share.",
            )
        away = f"kubectl delete {ref.kind.lower()} {ref.name} -n {ref.namespace}"
        return ObjectRefused(
            f"{ref}: it was there before, and Seawall has not made it",
            f"Rename the fleet, or delete it: {away}; {INSIST}",
        )


def somebodys(old: Object | None, wanted: Object) -> Stranger | None:
    """Whose an object is that we are about to write; None where there is none or it is ours."""
    if old is None:
        return None
    owner, mine = _fleet_of(old), _fleet_of(wanted)
    if owner and mine:
        return Stranger(fleet=owner) if owner != mine else None
    if tool := deployer_of(old):
        return Stranger(tool=tool)
    marked = (wanted["metadata"].get("labels") or {}).get(MANAGED_BY)
    if marked and not owner and (old["metadata"].get("labels") or {}).get(MANAGED_BY) != marked:
        return Stranger()
    return None


def adopts(wanted: Object) -> bool:
    """Whether it is written as a Fleet's own, to be deleted with the Fleet."""
    return bool(_fleet_of(wanted))


def _fleet_of(obj: Object) -> str:
    """Name of the Fleet that an object belongs to. A Fleet that was made anew has another uid and the same name."""
    owners = (obj.get("metadata") or {}).get("ownerReferences") or []
    return next((str(o.get("name")) for o in owners if o.get("kind") == "Fleet"), "")
