"""HAProxy, Debian's, in master-worker mode with health checks."""

from __future__ import annotations

import signal
from pathlib import Path

from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace, tell
from seawall.prove.targets.install import from_debian, said_by


class Haproxy(TargetAdapter):
    name = "haproxy"
    title = "HAProxy"
    source = "Debian haproxy"
    can = frozenset({Need.REPLICAS, Need.SUCCESSOR, Need.PROCESS})
    settings = (
        "leastconn, http-reuse safe, option httpchk GET /health every 2 s (fall 3, rise 2: its defaults)",
        "option http-no-delay: without it HAProxy holds events back for up to 200 ms",
        "option redispatch, retries 3, retry-on all-retryable-errors: a POST that failed before its first byte goes "
        "elsewhere (by default only a refused connection is tried again)",
        "timeout server and client 600s: its manual's examples of 50 s would cut every healthy request that is silent",
    )

    def install(self) -> Path | None:
        return from_debian(self.name, "haproxy")

    def version(self, program: Path | None) -> str:
        return said_by([str(program), "-v"]).split()[2]

    def files(self, place: TargetPlace) -> dict[str, str]:
        servers = "\n".join(f"  server engine{i} {host} check" for i, host in enumerate(place.hosts))
        return {"haproxy.cfg": CONF.format(port=place.port, servers=servers)}

    def argv(self, place: TargetPlace) -> list[str]:
        return [str(place.program), "-W", "-f", str(place.folder / "haproxy.cfg")]

    async def reload(self, place: TargetPlace, pid: int) -> None:
        place.write(self.files(place))
        tell(pid, signal.SIGUSR2)

    async def replace(self, place: TargetPlace, pid: int) -> bool:
        tell(pid, signal.SIGUSR2)
        return False


CONF = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  option redispatch
  option httpchk GET /health
  http-reuse safe
  retries 3
  retry-on all-retryable-errors
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend clients
  bind 127.0.0.1:{port}
  default_backend engines
backend engines
  balance leastconn
{servers}
"""
