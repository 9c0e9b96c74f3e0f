"""Shepherd Model Gateway, which began as SGLang's router (Rust), from PyPI."""

from __future__ import annotations

from pathlib import Path

from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace
from seawall.prove.targets.admin import send
from seawall.prove.targets.install import from_pypi
from seawall.prove.targets.vllm_router import policy

PACKAGE = "smg==1.13.0"


class Smg(TargetAdapter):
    name = "smg"
    title = "SMG (Shepherd Model Gateway)"
    source = f"PyPI {PACKAGE}"
    can = frozenset({Need.REPLICAS, Need.PROCESS})
    settings = (
        "its defaults: retries and circuit breaker on, requests of half an hour",
        "the same policy as for vllm-router",
        "health checks every 2 s, with a time-out of 2 s (defaults: 60 s and 5 s)",
        "other engines by its /workers",
    )

    def install(self) -> Path | None:
        return from_pypi(self.name, PACKAGE, "smg")

    def version(self, program: Path | None) -> str:
        return PACKAGE.rpartition("==")[2]

    def argv(self, place: TargetPlace) -> list[str]:
        metrics = ["--prometheus-port", str(place.spare_ports[0]), "--log-level", "warn"]
        health = ["--health-check-interval-secs", "2", "--health-check-timeout-secs", "2"]
        argv = [str(place.program), "launch", "--host", "127.0.0.1", "--port", str(place.port)]
        return [*argv, "--policy", policy(place), *metrics, *health, "--worker-urls", *place.engines]

    async def reload(self, place: TargetPlace, pid: int) -> None:
        url = f"http://127.0.0.1:{place.port}/workers"
        known = {w["url"]: w["id"] for w in (await send("GET", url))["workers"]}
        for engine in [e for e in place.engines if e not in known]:
            await send("POST", url, {"url": engine})
        for engine in [e for e in known if e not in place.engines]:
            # It removes behind its answer, and lists until then what it has been told to remove.
            await send("DELETE", f"{url}/{known[engine]}", may_lack=True)
