"""What the gateways of a namespace told last: asked once for all who want to know, and remembered for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from seawall.domain.told import GatewayState
from seawall.drivers.kube import Kube
from seawall.drivers.kube_gateways import ask


@dataclass(frozen=True)
class Heard:
    """All gateways of a namespace as one."""

    state: GatewayState
    silent: int = 0
    """Gateways that run and did not answer: the sums are too low by what they hold."""


class GatewayPoller:
    """Asks each namespace's gateways at most once at a time."""

    def __init__(self, kube: Kube, clock: Callable[[], float]) -> None:
        self._kube, self._clock = kube, clock
        self._heard: dict[str, tuple[float, Heard]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def heard(self, namespace: str, age_s: float) -> Heard:
        """At most `age_s` seconds old."""
        # Fleets are looked at beside each other: who comes second waits for the first one's answer.
        async with self._asking.setdefault(namespace, asyncio.Lock()):
            at, answer = self._heard.get(namespace, (0.0, None))
            if answer is None or self._clock() - at >= age_s:
                answers = await ask(self._kube, namespace)
                answer = Heard(answers.of(namespace), len(answers.silent))
                self._heard[namespace] = (self._clock(), answer)
            return answer
