"""The matrix through a gateway process: between it and each replica stands a proxy that cuts a stream where told."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from .client import View, view
from .over_http import CASES, MODEL, TYPED
from .typed_client import story

SPEC = f"""
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {MODEL}}}
spec:
  model: {{source: file:///none}}
  traffic: {{maxContext: 2k}}
"""
ALL: dict[str, tuple[str, dict[str, Any]]] = CASES | {
    k: v for k, v in TYPED.items() if k != "response-seeded"
}
"""Its seed is drawn by the gateway, so two answers differ."""


class Proxy(socketserver.ThreadingTCPServer):
    """Passes bytes on; resets the next streams' connections after so many events, one entry of `cuts` each."""

    daemon_threads = True

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.upstream, self.cuts = port, cuts
        self.made = 0
        """Streams that were cut, and not over before."""
        super().__init__(("127.0.0.1", 0), _Pipe)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Pipe(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        self.left: int | None = None
        with socket.create_connection(("127.0.0.1", self.server.upstream)) as up:
            threading.Thread(target=self._upwards, args=(up,), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := up.recv(65536):
                    if self.left is not None:
                        self.left -= data.count(b"\n\n")
                        if self.left < 0:
                            self.server.made += 1
                            self.request.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                            )
                            return
                    self.request.sendall(data)

    def _upwards(self, up: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                if b'"stream": true' in data or b'"stream":true' in data:
                    self.left = self.server.cuts.pop(0) if self.server.cuts else None
                up.sendall(data)
            up.shutdown(socket.SHUT_WR)


class Front:
    """A gateway process in front of two proxies, which may lead to one and the same replica."""

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        self.cuts: list[int] = []
        self.proxies = [Proxy(port, self.cuts) for port in ports]
        spec = folder / "front.yaml"
        spec.write_text(SPEC, "utf-8")
        argv = [sys.executable, "-m", "seawall", "gateway", str(spec), "--listen", "127.0.0.1:0"]
        argv += ["--admin", "127.0.0.1:0", "--discovery", "static:" + ",".join(p.url for p in self.proxies)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url, self.admin = self.process.stdout.readline().split("serves ")[1].split("   admin ")
        self.http = httpx2.Client(timeout=120, trust_env=False)

    def ask(self, name: str, *cuts: int) -> bytes:
        """The client's bytes of one case, whose first attempts are cut after so many events."""
        route, body = ALL[name]
        self.cuts[:] = cuts
        answer = self.http.post(self.url + route, json=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    def unmended(self) -> int:
        """Cuts that the gateway has neither resumed nor, as nothing had been sent yet, retried."""
        fleet = self.http.get(self.admin.strip() + "/debug/state").json()["fleets"][MODEL]
        return sum(p.made for p in self.proxies) - int(fleet["resumed_total"]) - int(fleet["retried_total"])

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(20)
        for proxy in self.proxies:
            proxy.shutdown()
            proxy.server_close()


@contextlib.contextmanager
def front(folder: Path, *ports: int) -> Iterator[Front]:
    made = Front(folder, (ports[0], ports[-1]))
    try:
        yield made
    finally:
        made.close()


def check(town: Front, name: str, *cuts: int, logprob_error: float = 0.0) -> None:
    """A cut stream says what an uncut one says, under one id."""
    want, got = town.ask(name), town.ask(name, *cuts)
    if name in TYPED:
        assert story(got) == story(want), (name, cuts, got, want)
        return
    seen: View = view(got)
    assert seen.same_answer(view(want), logprob_error), (name, cuts, json.dumps(got.decode()), want)
    assert len(seen.ids) == len(seen.created) == 1
