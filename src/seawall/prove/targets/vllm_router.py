"""vLLM's own router (vllm-project/router, Rust), from PyPI."""

from __future__ import annotations

from pathlib import Path

from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace
from seawall.prove.targets.admin import send
from seawall.prove.targets.install import from_pypi

PACKAGE = "vllm-router==0.1.17"


def policy(place: TargetPlace) -> str:
    """The policy by load; for it there must be two engines."""
    return "power_of_two" if len(place.engines) > 1 else "round_robin"


class VllmRouter(TargetAdapter):
    name = "vllm-router"
    title = "vLLM Router"
    source = f"PyPI {PACKAGE}"
    can = frozenset({Need.REPLICAS, Need.PROCESS})
    settings = (
        "its defaults: retries and circuit breaker on, requests of half an hour",
        "policy power_of_two, for one engine round_robin: with its default, cache_aware, streams waited a second for "
        "their first token here",
        "health checks every 2 s, with a time-out of 2 s (defaults: 60 s and 5 s)",
        "other engines by its add_worker and remove_worker",
    )

    def install(self) -> Path | None:
        return from_pypi(self.name, PACKAGE, "vllm-router")

    def version(self, program: Path | None) -> str:
        return PACKAGE.rpartition("==")[2]

    def argv(self, place: TargetPlace) -> list[str]:
        metrics = ["--prometheus-port", str(place.spare_ports[0])]
        health = ["--health-check-interval-secs", "2", "--health-check-timeout-secs", "2"]
        argv = [
            str(place.program),
            "--host",
            "127.0.0.1",
            "--port",
            str(place.port),
            "--policy",
            policy(place),
        ]
        return [*argv, *metrics, *health, "--worker-urls", *place.engines]

    async def reload(self, place: TargetPlace, pid: int) -> None:
        url = f"http://127.0.0.1:{place.port}"
        known = set((await send("GET", f"{url}/list_workers"))["urls"])
        for engine in [e for e in place.engines if e not in known]:
            await send("POST", f"{url}/add_worker?url={engine}")
        for engine in known - set(place.engines):
            await send("POST", f"{url}/remove_worker?url={engine}")
