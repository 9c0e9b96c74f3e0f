"""Our own gateway, as anybody starts it: `seawall gateway` with a discovery file and its keeper, by the Fleet as it is.

Forbidden here: a setting that a Fleet which says nothing of it would not have.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil

from seawall import __version__
from seawall.domain.labels import KEEPER_CONNECTED
from seawall.drivers import keeper
from seawall.load.client import LoadClient
from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace


class Seawall(TargetAdapter):
    name = "seawall"
    title = "Seawall"
    source = "this repository"
    can = frozenset({Need.REPLICAS, Need.SUCCESSOR, Need.PROCESS, Need.KEEPER})
    settings = (
        "the Fleet's own settings; no time-out is named, so silence is weighed by evidence",
        "the gateway alone: without the supervisor of `seawall up` and the rendered probes, which see that an engine "
        "uses no CPU and find a hang sooner; for a fleet on a CPU the gateway has the most patience",
    )

    def version(self, program: Path | None) -> str:
        return __version__

    def files(self, place: TargetPlace) -> dict[str, str]:
        rows = [
            {"name": f"engine-{url.rpartition(':')[2]}", "fleet": place.fleet_name, "url": url}
            for url in place.engines
        ]
        return {"discovery.json": json.dumps({"version": place.generation, "replicas": rows})}

    def companions(self, place: TargetPlace) -> dict[str, list[str]]:
        return {"keeper": [sys.executable, "-I", "-S", str(keeper.__file__), self._socket(place)]}

    def argv(self, place: TargetPlace) -> list[str]:
        argv = [sys.executable, "-m", "seawall", "gateway", str(place.fleet), "--keeper", self._socket(place)]
        argv += ["--discovery", f"file:{place.folder / 'discovery.json'}"]
        return [*argv, "--listen", f"127.0.0.1:{place.port}", "--admin", f"127.0.0.1:{place.spare_ports[0]}"]

    def admin_url(self, place: TargetPlace) -> str:
        return f"http://127.0.0.1:{place.spare_ports[0]}"

    async def reload(self, place: TargetPlace, pid: int) -> None:
        place.write(self.files(place))

    async def replace(self, place: TargetPlace, pid: int) -> bool:
        place.spare_ports = place.spare_ports[::-1]  # so that the new one is told from the old
        return True

    async def companion_ready(self, place: TargetPlace, pid: int) -> bool:
        """A keeper is ready when it holds a connection, so that the gateway speaks of this one and not of the one that
        has just died, and the gateway says that it has been told everything."""
        try:
            if not psutil.Process(pid).net_connections("tcp"):
                return False
        except psutil.Error:
            return False
        try:
            _, page = await LoadClient(self.admin_url(place)).get("/metrics", 2.0)
        except (OSError, TimeoutError):
            return False
        return f"{KEEPER_CONNECTED} 1" in page.decode("utf-8", "replace")

    def _socket(self, place: TargetPlace) -> str:
        return str(place.folder_for_sockets / "keeper.sock")
