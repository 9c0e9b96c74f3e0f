"""nginx, Debian's, as vLLM's own page on nginx sets it up."""

from __future__ import annotations

import signal
from pathlib import Path

from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace, tell
from seawall.prove.targets.install import from_debian, said_by


class Nginx(TargetAdapter):
    name = "nginx"
    title = "nginx"
    source = "Debian nginx"
    can = frozenset({Need.REPLICAS, Need.SUCCESSOR, Need.PROCESS})
    settings = (
        "vLLM's page \"Using Nginx\": least_conn; max_fails=3, but with nginx's own fail_timeout of 10 s, not 10,000 s",
        "kept connections to the engines, HTTP/1.1, proxy_buffering off: as nginx's manual has it for streams",
        "proxy_read_timeout 600s: the default of 60 s would cut every healthy request that is silent for a minute",
        "proxy_next_upstream with non_idempotent: a POST that failed before its first byte goes elsewhere",
    )

    def install(self) -> Path | None:
        return from_debian(self.name, "nginx")

    def version(self, program: Path | None) -> str:
        return said_by([str(program), "-v"]).rpartition("/")[2]

    def files(self, place: TargetPlace) -> dict[str, str]:
        servers = "\n".join(f"    server {host} max_fails=3 fail_timeout=10s;" for host in place.hosts)
        return {"nginx.conf": CONF.format(folder=place.folder, port=place.port, servers=servers)}

    def argv(self, place: TargetPlace) -> list[str]:
        return [str(place.program), "-c", str(place.folder / "nginx.conf"), "-e", "stderr"]

    async def reload(self, place: TargetPlace, pid: int) -> None:
        place.write(self.files(place))
        tell(pid, signal.SIGHUP)

    async def replace(self, place: TargetPlace, pid: int) -> bool:
        tell(pid, signal.SIGHUP)
        return False


CONF = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream backend {{
    least_conn;
{servers}
    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 32m;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_connect_timeout 5s;
      proxy_read_timeout 600s;
      proxy_next_upstream error timeout non_idempotent;
      proxy_next_upstream_tries 3;
    }}
  }}
}}
"""
