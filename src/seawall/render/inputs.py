"""The input of every renderer. Values only: no file is opened and nothing is planned in this room."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seawall.domain.action import Plan
from seawall.domain.spec import Fleet

Object = dict[str, Any]
"""One Kubernetes object, as it is written to YAML."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One fleet, its plan, and the two documents that objects carry verbatim."""

    fleet: Fleet
    plan: Plan
    document: Object
    """The Fleet as plain YAML data: what the gateway's ConfigMap holds."""
    lock: str | None = None
    """Text of the weights lockfile, if there is one."""
    truth: str | None = None
    """Text of the fingerprint, if there is one: this fleet's alone."""
    candidate: bool = False
    """This is the canary side of the fleet; `fleet` already has the candidate's changes in it."""
    own_weights: bool = False
    """The candidate has other weights than the stable side."""
    file: str = "FLEET.yaml"
    """The spec's file, as commands that are told to a person call it."""

    @property
    def name(self) -> str:
        return self.fleet.name

    @property
    def namespace(self) -> str:
        return self.fleet.metadata.namespace

    @property
    def folder(self) -> str:
        """Name of the folder that holds these weights."""
        return f"{self.name}-canary" if self.own_weights else self.name

    @property
    def canary(self) -> Wanted | None:
        """The fleet's candidate, as a thing to render; None without one."""
        fleet = None if self.candidate else candidate_of(self.fleet)
        if fleet is None:
            return None
        new, old = fleet.spec.model, self.fleet.spec.model
        own = (new.source, new.revision) != (old.source, old.revision)
        return replace(
            self, fleet=fleet, candidate=True, own_weights=own, lock=None if own else self.lock, truth=None
        )

    @property
    def canary_weight(self) -> int:
        """Percent of requests that the candidate gets now; 0 without one."""
        policy = self.fleet.spec.rollout.canary
        if policy is None or policy.candidate is None:
            return 0
        return policy.steps[0].weight if policy.candidate.weight is None else policy.candidate.weight


def candidate_of(fleet: Fleet) -> Fleet | None:
    """The fleet with its canary's differences as its own; None without a candidate."""
    spec, policy = fleet.spec, fleet.spec.rollout.canary
    new = policy.candidate if policy else None
    if new is None:
        return None
    model = replace(
        spec.model,
        source=new.source or spec.model.source,
        revision=new.revision or (None if new.source else spec.model.revision),
        adapters=[] if new.source else spec.model.adapters,
    )
    engine = replace(
        spec.engine,
        image=new.image or (None if new.version else spec.engine.image),
        version=new.version or spec.engine.version,
        extra_args=spec.engine.extra_args if new.extra_args is None else new.extra_args,
    )
    return replace(fleet, spec=replace(spec, model=model, engine=engine))


@dataclass(frozen=True, kw_only=True)
class Group:
    """All fleets behind one gateway: what one call of `seawall render` turns into objects."""

    members: tuple[Wanted, ...]
    gateway_name: str = ""
    """Default: `<fleet>-gateway` for one fleet, `seawall-gateway` for several."""
    accounts: Literal["own", "shared"] = "own"
    """own: gateway and scaler have accounts, and rights, of their own; shared: those that the operator's manifests give
    to all of a namespace, so that the operator itself needs no right to grant any."""

    @property
    def first(self) -> Wanted:
        return self.members[0]

    @property
    def namespace(self) -> str:
        return self.first.namespace

    @property
    def gateway(self) -> str:
        if self.gateway_name:
            return self.gateway_name
        return f"{self.first.name}-gateway" if len(self.members) == 1 else "seawall-gateway"


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Objects in the order in which they should be applied, and what a person should know about them."""

    group: Group
    objects: tuple[Object, ...]
    notes: tuple[str, ...] = field(default=())
