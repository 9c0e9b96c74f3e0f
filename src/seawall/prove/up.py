"""`seawall up` as a child process: the deployment that a local proof drives. Its own state directory, its own ports.

Speaks only through what any user has: the state file, the control socket, the gateway's admin port, signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seawall.drivers import cache
from seawall.drivers.process import free_port
from seawall.errors import EngineError
from seawall.prove.stage import Seen

STOP_S = {"sim": 40.0, "vllm": 150.0}
"""Engine -> seconds: longer than the drain of its proof."""
HOPELESS = 3
"""Failed starts in a row."""
CLOCK = "clock"
"""In the state directory: by how many seconds the supervisor's time of day is wrong."""
KEEP = "Its logs stay with --keep-logs DIR."


class UpFleet:
    """One `seawall up`. Make it with `start`, end it with `stop`."""

    def __init__(self, process: asyncio.subprocess.Process, state_dir: Path, fleet: str, log: Path) -> None:
        self.process = process
        self.state_dir = state_dir
        self.fleet = fleet
        self.log = log
        self.stop_s = STOP_S["sim"]
        self._state: dict[str, Any] = {}

    @classmethod
    async def start(
        cls,
        spec: Path,
        engine: str,
        state_dir: Path,
        replicas: int,
        timeout_s: float,
        flags: Sequence[str] = (),
    ) -> UpFleet:
        """Starts it and waits until `replicas` are ready. EngineError with the log's end when they are not."""
        state_dir.mkdir(parents=True, exist_ok=True)
        log = state_dir / "up.log"
        port = free_port()
        clock = state_dir / CLOCK
        cache.write_atomic(clock, "0")
        argv = ["-m", "seawall.prove.set_clock", str(clock)]
        argv += ["up", str(spec), "--engine", engine, "--port", str(port), "--plain", *flags]
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *argv, "--state-dir", str(state_dir),
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        fleet = cls(process, state_dir, spec.stem, log)
        fleet.stop_s = STOP_S[engine]
        try:
            await fleet._until_ready(replicas, timeout_s)
        except BaseException:
            await fleet.stop()
            raise
        return fleet

    async def _until_ready(self, replicas: int, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.returncode is not None:
                words = self.last_words()
                raise EngineError(f"seawall up ended with {self.process.returncode}: {words}", KEEP)
            ready = [r for r in await self.replicas() if r.ready]
            for row in self._state.get("replicas", []):
                if row["failures"] >= HOPELESS:
                    raise EngineError(f"{row['name']} does not start: {row['reason']}", KEEP)
            if len(ready) >= replicas and self._state.get("gateway", {}).get("phase") == "ready":
                return
            await asyncio.sleep(0.1)
        words = self.last_words()
        raise EngineError(f"{replicas} replicas were not ready after {timeout_s:.0f} s: {words}", KEEP)

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-400:].strip().replace("\n", " | ")
        return ""

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            self._state = json.loads((self.state_dir / "state.json").read_text())
        return self._state

    @property
    def gateway_url(self) -> str:
        return str(self._read()["gateway"]["url"])

    @property
    def addresses(self) -> list[str]:
        return [self.gateway_url]

    @property
    def admin_url(self) -> str:
        return str(self._read()["gateway"]["admin_url"])

    async def replicas(self) -> list[Seen]:
        rows = self._read().get("replicas", [])
        return [
            Seen(
                name=r["name"],
                url=r.get("url") or "",
                pid=int(r.get("pid") or 0),
                ready=r.get("phase") == "ready",
            )
            for r in rows
        ]

    async def gateway_pids(self) -> list[int]:
        pid = self._read().get("gateway", {}).get("pid")
        return [int(pid)] if pid else []

    async def supervisor_pid(self) -> int:
        return self.process.pid

    def set_clock(self, off_s: float) -> None:
        cache.write_atomic(self.state_dir / CLOCK, f"{off_s}")

    async def control(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """One line to the control socket, one line back."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(
                str(self.state_dir / "control.sock"), limit=2**24
            )
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
        answer = json.loads(line or b"{}")
        return answer if isinstance(answer, dict) else {}

    async def stop(self) -> list[str]:
        """Ctrl-C, bounded; returns what was wrong about the end."""
        wrong: list[str] = []
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
                self.process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(self.stop_s):
                    await self.process.wait()
            except TimeoutError:
                wrong.append(f"seawall up did not stop within {self.stop_s:.0f} s")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                await self.process.wait()
        return wrong
