"""Several gateways with one store in front of simulated engines: the deployment of the scenarios `tier-*`.

All of it are child processes of the proof, on loopback: a Valkey or Redis server, engines, gateways. A client of such a
deployment sends each request under a key of its own, and comes again at the next gateway when one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seawall.drivers.process import free_port
from seawall.errors import EngineError, InputError
from seawall.gateway.tell import keyring
from seawall.load.client import ClientPatience, LoadClient, RequestOutcome
from seawall.prove.stage import Seen

SERVERS = ("valkey-server", "redis-server")
START_S = 90.0
GONE = ("eof", "reset", "refused", "connect")
"""A connection, or its gateway, is gone: the client comes again elsewhere."""
TRIES = 8
AGAIN_S = 0.1


def store_program() -> str:
    """The server that this machine has. InputError when it has none."""
    found = next(filter(None, map(shutil.which, SERVERS)), None)
    if found is None:
        raise InputError(
            "the scenarios tier-* and store-away need a store, and there is no valkey-server or redis-server here.",
            "Install one (apt install valkey, or redis-server), or choose others with --scenario.",
        )
    return found


class TierChild:
    """One process. Its output goes to a log; `until` waits for a line of it."""

    def __init__(self, log: Path, *argv: str) -> None:
        self.log = log
        self.argv = argv
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, until: str = "") -> str:
        with self.log.open("ab") as out:
            began = out.tell()
            self.process = await asyncio.create_subprocess_exec(
                *self.argv, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        async with asyncio.timeout(START_S):
            while until:
                text = self.log.read_bytes()[began:].decode(errors="replace")
                line = next((x for x in text.splitlines(True) if until in x and x.endswith("\n")), None)
                if line is not None:
                    return line
                if self.process.returncode is not None:
                    raise EngineError(
                        f"{self.argv[-1]} ended: {text[-300:]}", "Its log stays with --keep-logs."
                    )
                await asyncio.sleep(0.05)
        return ""

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            await self.process.wait()


class StoreChild(TierChild):
    """The store."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        argv = [store_program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        super().__init__(folder / "store.log", *argv, str(folder), "--appendonly", "no", "--daemonize", "no")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self) -> None:
        await self.start()
        async with asyncio.timeout(START_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    async def flush(self) -> None:
        """Everything in it is gone."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"*1\r\n$8\r\nFLUSHALL\r\n")
        await writer.drain()
        writer.close()


class GatewayChild(TierChild):
    """One gateway, at ports that it keeps."""

    def __init__(self, log: Path, spec: Path, more: Sequence[str]) -> None:
        self.port, self.admin_port = free_port(), free_port()
        argv = [sys.executable, "-m", "seawall", "gateway", str(spec), *more]
        where = ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}"]
        super().__init__(log, *argv, *where)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def serve(self) -> None:
        await self.start(until="serves")

    async def metric(self, name: str) -> float | None:
        """The sum of a metric; None while it does not answer."""
        client = LoadClient(self.admin_url)
        try:
            _, page = await client.get("/metrics", 5.0)
        except (OSError, TimeoutError):
            return None
        lines = [x for x in page.decode().splitlines() if x.startswith(name) and x[len(name)] in " {"]
        return sum(float(x.rpartition(" ")[2]) for x in lines)


class TierFleet:
    """Implements `stage.Deployment`."""

    def __init__(self, folder: Path, document: dict[str, Any], flags: Sequence[str]) -> None:
        """`document`: the Fleet that all gateways serve. `flags`: theirs."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.flags = folder, flags
        self.spec = folder / "fleet.yaml"
        self.model = str(document["spec"]["model"].get("servedNames", [document["metadata"]["name"]])[0])
        self.engine_args = list(document["spec"]["engine"].get("extraArgs", ()))
        self.spec.write_text(json.dumps(document))
        self.secrets: dict[str, str] = {}
        for tenant in document["spec"].get("gateway", {}).get("tenants", ()):
            self.secrets[tenant["name"]], key = keyring.make(tenant["name"])
            keyring.change(folder / "keys.json", add=key)
        self.store = StoreChild(folder)
        self.engines: dict[str, TierChild] = {}
        self.gateways: list[GatewayChild] = []

    async def start(self, engines: int, gateways: int) -> None:
        try:
            await self.store.serve()
            urls = [await self._engine(i) for i in range(engines)]
            more = ["--discovery", "static:" + ",".join(urls), "--store", self.store.url, *self.flags]
            more += ["--keys", str(self.folder / "keys.json")] if self.secrets else []
            for i in range(gateways):
                gateway = GatewayChild(self.folder / f"gateway{i}.log", self.spec, more)
                self.gateways.append(gateway)
                await gateway.serve()
        except BaseException:
            await self.stop()
            raise

    async def _engine(self, number: int) -> str:
        port = free_port()
        argv = ["engine", "sim", "--port", str(port), "--model-name", self.model, *self.engine_args]
        child = TierChild(self.folder / f"engine{number}.log", sys.executable, "-m", "seawall", *argv)
        self.engines[f"http://127.0.0.1:{port}"] = child
        await child.start(until="http://")
        return f"http://127.0.0.1:{port}"

    @property
    def gateway_url(self) -> str:
        return self.gateways[0].url

    @property
    def admin_url(self) -> str:
        return next((g for g in self.gateways if g.alive), self.gateways[0]).admin_url

    @property
    def addresses(self) -> list[str]:
        return [g.url for g in self.gateways]

    def client(self, api_key: str | None) -> TierClient:
        """One that comes again at the next gateway."""
        return TierClient(self.addresses, api_key or next(iter(self.secrets.values()), None))

    async def replicas(self) -> list[Seen]:
        return [
            Seen(name=url, url=url, pid=child.pid, ready=child.alive) for url, child in self.engines.items()
        ]

    async def gateway_pids(self) -> list[int]:
        return [g.pid for g in self.gateways if g.alive]

    async def supervisor_pid(self) -> int:
        return os.getpid()

    def set_clock(self, off_s: float) -> None:
        """Nobody here goes by the time of day."""

    async def control(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        return {"ok": False, "error": "nobody supervises it"}

    async def stop(self) -> list[str]:
        for child in (*self.gateways, *self.engines.values(), self.store):
            await child.kill()
        return []


class TierClient(LoadClient):
    """A client of several gateways."""

    def __init__(self, urls: Sequence[str], api_key: str | None = None) -> None:
        super().__init__(urls[0], api_key=api_key)
        self._each = [LoadClient(url, api_key=api_key) for url in urls]
        self._turn = 0

    async def request(
        self,
        path: str,
        payload: dict[str, Any] | bytes,
        *,
        intended_s: float | None = None,
        patience: ClientPatience | None = None,
        read_rate: float | None = None,
        stop_after: int | None = None,
        headers: dict[str, str] | None = None,
        outcome: RequestOutcome | None = None,
    ) -> RequestOutcome:
        self._turn += 1
        turn, sent = self._turn, {"Idempotency-Key": str(uuid.uuid4()), **(headers or {})}
        outcome = outcome or RequestOutcome(intended_s=self.clock() if intended_s is None else intended_s)
        for attempt in range(TRIES):
            client = self._each[(turn + attempt) % len(self._each)]
            await client.request(
                path, payload, patience=patience, read_rate=read_rate, stop_after=stop_after, headers=sent,
                outcome=outcome,
            )  # fmt: skip
            if outcome.error not in GONE or attempt == TRIES - 1:
                break
            outcome.error, outcome.detail, outcome.stale = None, "", outcome.stale + 1
            if outcome.last_id:
                sent["Last-Event-ID"] = outcome.last_id
            await asyncio.sleep(AGAIN_S)
        return outcome

    def close(self) -> None:
        super().close()
        for client in self._each:
            client.close()
