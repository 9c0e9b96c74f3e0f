"""The gateways of a cluster as their readers ask them: each Pod that runs, all at once, for its `/debug/state`.

The only way from a cluster to a `GatewayState`. Whoever does not answer, or answers what cannot be read, is silent and
named with the reason; nothing is decided here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from seawall.domain.labels import ADMIN_PORT, GATEWAYS, INSTANCE
from seawall.domain.told import GatewayState, merged, read
from seawall.drivers.kube import POD, Kube, Select, address_of
from seawall.errors import SeawallError

ANSWER_S = 5.0
STATE = "debug/state"
AT_ONCE = 32
PodKey = tuple[str, str]


@dataclass(frozen=True)
class Answers:
    """The answers of the gateways that run."""

    states: dict[PodKey, GatewayState] = field(default_factory=dict)
    """(namespace, Pod) -> what it told."""
    silent: dict[PodKey, str] = field(default_factory=dict)
    """(namespace, Pod) -> why it told nothing: sums are too low by what it holds."""

    def of(self, namespace: str) -> GatewayState:
        """The gateways of one namespace as one."""
        return merged(s for (where, _), s in self.states.items() if where == namespace)

    def asked(self, namespace: str) -> bool:
        """Whether any gateway runs there."""
        return any(where == namespace for where, _ in (*self.states, *self.silent))


async def ask(kube: Kube, namespace: str | None, gateway: str | None = None, page: str = STATE) -> Answers:
    """One list, then one question to each Pod. `namespace` None: of the whole cluster; `gateway`: only this one's;
    `page`: the page of its admin port that is read."""
    labels = f"{GATEWAYS},{INSTANCE}={gateway}" if gateway else GATEWAYS
    select = Select(POD, namespace, labels=labels, fields="status.phase=Running")
    at_once, answers = asyncio.Semaphore(AT_ONCE), Answers()

    async def one(key: PodKey, address: str) -> None:
        try:
            async with at_once, asyncio.timeout(ANSWER_S):
                told = await kube.page(*key, address, ADMIN_PORT, page)
            answers.states[key] = read(told)
        except (SeawallError, ValueError) as e:
            answers.silent[key] = str(e)
        except TimeoutError:
            answers.silent[key] = f"no answer within {ANSWER_S:g} s"

    pods = await kube.list(select, address_of)
    await asyncio.gather(*(one(key, address) for key, address in pods.items()))
    return answers
