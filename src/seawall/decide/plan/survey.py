"""Which GPUs of the catalogue hold a model: the question that people ask first. Pure; one plan for each GPU."""

from __future__ import annotations

from dataclasses import replace

from seawall.decide.plan.choose import plan
from seawall.domain.action import Plan, Timing
from seawall.domain.catalog.gpus import GPUS
from seawall.domain.catalog.prices import Prices
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet

_ORDER = {"fits": 0, "tight": 1, "unknown": 2}


def survey(
    fleet: Fleet,
    model: ModelConfig,
    *,
    prices: Prices | None = None,
    calibration: Timing | None = None,
    shorten: bool = True,
) -> list[Plan]:
    """The cheapest way on every GPU of the catalogue: what fits first, by price, those without a price by their
    memory; then what may fit; then what does not, each with its reason."""
    made = []
    for gpu in GPUS:
        hardware = replace(fleet.spec.hardware, gpu=gpu.name)
        there = replace(fleet, spec=replace(fleet.spec, hardware=hardware))
        made.append(plan(there, model, prices=prices, calibration=calibration, shorten=shorten))
    return sorted(made, key=_rank)


def _rank(p: Plan) -> tuple[int, float, float]:
    cost = p.usd_per_hour
    return (
        _ORDER.get(p.verdict, 3),
        float("inf") if cost is None else cost,
        p.weights_gib_per_gpu * p.gpus_per_replica,
    )
