"""What the gateway tells clients of itself: its models, its version, whether it can serve. Values in, bytes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from seawall import __version__
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.intake.manners import Manners

VERSION_PAGE = msgspec.json.encode({"version": __version__, "server": "seawall"})


class Served(NamedTuple):
    """What one model name means."""

    fleet: FleetLane
    engine_name: str
    """The name to send to the engine."""
    adapter: str | None
    manners: Manners
    """What its requests may ask for."""


def models_page(models: Mapping[str, Served], created: int) -> bytes:
    """`created`: Unix seconds. It is of the gateway: what is older is not known."""
    cards = [model_card(name, served, created) for name, served in models.items()]
    return msgspec.json.encode({"object": "list", "data": cards})


def model_card(name: str, served: Served, created: int) -> dict[str, object]:
    lane = served.fleet
    parent = lane.model if served.adapter is not None else None
    card = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "seawall",
        "root": served.engine_name,
        "parent": parent,
    }
    length = lane.longest or lane.fleet.spec.traffic.max_context
    return card if length is None else {**card, "max_model_len": length}


def cannot_serve(lanes: Iterable[FleetLane], closing: bool) -> str:
    """Why no request could be served now; empty: at least one fleet has a replica that takes requests."""
    if closing:
        return "draining"
    return "" if any(lane.router.alive() for lane in lanes) else "no replica is ready"
