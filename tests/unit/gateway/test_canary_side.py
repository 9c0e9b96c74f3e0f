"""Who splits for a canary: the route where it can, the gateway otherwise; the client never."""

from __future__ import annotations

from typing import Any

from seawall.config.load import parse_fleets
from seawall.gateway.intake.headers import SIDE, canary_group

TEXT = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: hf://a/b}
  rollout: {canary: {stickyHeader: X-User}}
  gateway: {route: ROUTE}
"""


def spec(route: str) -> Any:
    return parse_fleets(TEXT.replace("ROUTE", route))[0].spec


def test_a_route_that_splits_is_believed() -> None:
    for route in ("gateway-api", "istio"):
        for told in ("stable", "canary"):
            assert canary_group(5, spec(route), {SIDE: told.encode()}, b"r1") == told


def test_a_client_cannot_choose_its_side() -> None:
    sides = {canary_group(50, spec("service"), {SIDE: b"canary"}, b"r%d" % n) for n in range(50)}
    assert sides == {"stable", "canary"}


def test_without_a_word_from_the_route_the_share_decides_and_sticks() -> None:
    chosen = [canary_group(30, spec("gateway-api"), {}, b"r%d" % n) for n in range(1000)]
    assert 200 < chosen.count("canary") < 400
    same = {canary_group(30, spec("service"), {b"x-user": b"ada"}, b"r%d" % n) for n in range(50)}
    assert len(same) == 1
