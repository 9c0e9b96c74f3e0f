"""LoRA adapters on replicas as the spec wants them: loads, unloads, and tells the gateway who has what.

Every replica is asked what it serves (`/v1/models`); only then, and only for that life of its container, the
gateway is told by an annotation. An adapter that is to leave is taken out of routing before it is unloaded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from seawall.decide.adapters import AdapterChanges, Failure, changes, failed
from seawall.domain.labels import ADAPTERS
from seawall.drivers.kube import POD, Kube
from seawall.engines.vllm.client import EngineClient
from seawall.errors import EngineError, SeawallError
from seawall.operator.engines import EnginePod

log = logging.getLogger("seawall.operator")
FleetKey = tuple[str, str]


class Adapters:
    """What was tried on which replica."""

    def __init__(self, kube: Kube, reach: EngineClient, now: Callable[[], float]) -> None:
        self._kube, self._reach, self._now = kube, reach, now
        self._failures: dict[tuple[str, str], dict[str, Failure]] = {}

    async def tick(
        self, wanted: Mapping[FleetKey, Mapping[str, str]], engines: Mapping[FleetKey, EnginePod]
    ) -> dict[FleetKey, str]:
        """`wanted`: fleet -> adapter -> path, of the fleets that load adapters while they run. Of each of them: why an
        adapter is missing somewhere, empty when all are there."""
        alive = {(e.uid, e.life) for e in engines.values()}
        self._failures = {k: v for k, v in self._failures.items() if k in alive}
        problems: dict[FleetKey, list[str]] = {key: [] for key in wanted}
        for e in engines.values():
            if e.fleet in wanted and e.url and e.replica.ready and not e.terminating and e.slept_s is None:
                try:
                    problem = await self._replica(e, wanted[e.fleet])
                except SeawallError as x:
                    problem = str(x)
                if problem:
                    problems[e.fleet].append(f"{e.replica.name}: {problem}")
        return {key: "; ".join(sorted(found))[:900] for key, found in problems.items()}

    async def _replica(self, e: EnginePod, wanted: Mapping[str, str]) -> str:
        served = await self._reach.adapters(e.url)
        tried = self._failures.setdefault((e.uid, e.life), {})
        todo = changes(wanted, served, tried, self._now())
        await self._tell(e, todo.routable)
        if not todo.unload and not todo.load:
            return todo.problem
        await self._do(e, todo, tried)
        todo = changes(wanted, await self._reach.adapters(e.url), tried, self._now())
        await self._tell(e, todo.routable, since=todo.routable)
        return todo.problem

    async def _do(self, e: EnginePod, todo: AdapterChanges, tried: dict[str, Failure]) -> None:
        for gone in todo.unload:
            log.info("%s/%s: unload %s: %s", e.replica.namespace, e.replica.name, gone.name, gone.reason)
            await self._reach.unload_adapter(e.url, gone.name)
        for new in todo.load:
            try:
                await self._reach.load_adapter(e.url, new.name, new.path)
                tried.pop(new.name, None)
                log.info("%s/%s: loaded %s", e.replica.namespace, e.replica.name, new.name)
            except EngineError as x:
                tried[new.name] = failed(tried.get(new.name), new.path, x.message, self._now())

    async def _tell(self, e: EnginePod, names: tuple[str, ...], since: tuple[str, ...] | None = None) -> None:
        """`since`: told anew after a change, whatever the picture of before said."""
        if since is None and e.adapters == names:
            return
        note = json.dumps({"life": e.life, "names": list(names)})
        body = {"metadata": {"annotations": {ADAPTERS: note}}}
        await self._kube.patch(POD, e.replica.namespace, e.replica.name, body)
