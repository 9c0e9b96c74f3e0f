"""The control socket of `seawall up`: one JSON object a line in, one a line out, for this user alone.

    {"do": "status"}  {"do": "restart", "fleet": "smollm2"}  {"do": "scale", "fleet": "smollm2", "replicas": 2}
    {"do": "scale", "replicas": null}  {"do": "restart-gateway"}  {"do": "stop"}

An answer is {"ok": true, ...} or {"ok": false, "error": "...", "cure": "..."}. It lies in the state folder,
or, where that path is too long for a socket, under a short name in the temporary folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seawall.drivers import cache
from seawall.errors import InputError

if TYPE_CHECKING:
    from seawall.local.supervisor import Supervisor

MAX_LINE = 64 * 1024
MAX_PATH = 100
"""Linux holds 108 bytes of a socket's path."""
IDLE_S = 60.0


def state_dir(given: Path | None) -> Path:
    """The folder given, `$SEAWALL_STATE`, or `up` in the cache."""
    if given is None and (env := os.environ.get("SEAWALL_STATE")):
        given = Path(env)
    return given.expanduser().absolute() if given else cache.root() / "up"


def socket_path(state_dir: Path, name: str = "control.sock") -> Path:
    """Where a socket of a state folder is: `control.sock` is this module's."""
    path = state_dir / name
    if len(os.fsencode(path)) <= MAX_PATH:
        return path
    key = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"seawall-{os.getuid()}-{key}{name.removeprefix('control')}"


async def serve(supervisor: Supervisor) -> asyncio.Server:
    """Serves the socket. The caller holds the state folder's lock, so a socket that is there already is a leftover."""
    path = socket_path(supervisor.setup.state_dir)
    path.unlink(missing_ok=True)

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled: the supervisor stops. Python 3.11 reports a cancelled session as an error of its own.
        ends = (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*ends):
            while True:
                async with asyncio.timeout(IDLE_S):
                    if not (line := await _line(reader)):
                        break
                    writer.write(json.dumps(answer(supervisor, line)).encode() + b"\n")
                    await writer.drain()
                if len(line) > MAX_LINE:
                    break  # what follows is the rest of it
        writer.close()

    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(session, path, limit=MAX_LINE)
    finally:
        os.umask(before)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; of one that is too long what is longer than any that is answered otherwise."""
    try:
        return await reader.readline()
    except ValueError:
        return b" " * (MAX_LINE + 1)


def answer(supervisor: Supervisor, line: bytes) -> dict[str, Any]:
    """The answer to one line, when what it asks for is done."""
    from seawall.local.snapshot import snapshot

    if len(line) > MAX_LINE:
        return _no(f"a line of more than {MAX_LINE >> 10} KiB", 'Send {"do": "status"}.')
    try:
        ask = json.loads(line)
    except (ValueError, RecursionError):
        return _no("not JSON", 'Send {"do": "status"}.')
    if not isinstance(ask, dict):
        return _no("not a JSON object", 'Send {"do": "status"}.')
    do = ask.get("do")
    if do == "status":
        return {"ok": True, **snapshot(supervisor)}
    if do == "stop":
        supervisor.stop()
        return {"ok": True}
    if do == "restart-gateway":
        supervisor.restart_gateway()
        return {"ok": True}
    if do not in ("restart", "scale"):
        return _no(f"{do!r} is not known", "Known: status, restart, scale, restart-gateway, stop.")
    named = ask.get("fleet")
    fleet = supervisor.fleet(named)
    if fleet is None:
        names = [f.name for f in supervisor.fleets]
        if named is None:
            said = "" if do == "restart" else f" {'auto' if ask.get('replicas') is None else ask['replicas']}"
            return _no(
                f"{len(names)} fleets run here: {', '.join(names)}",
                f"Say which: seawall rollout {do} {names[0]}{said:.10}",
            )
        return _no(f"there is no fleet {named!r:.80}", f"Running here: {', '.join(names)}.")
    if do == "restart":
        return {"ok": True, "fleet": fleet.name, "generation": fleet.restart()}
    count = ask.get("replicas")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 64):
        return _no(
            f"{count!r:.40} is not a number of replicas", "Name 0 to 64, or `auto` for the autoscaler."
        )
    if count is not None and count > fleet.policy.highest:
        return _no(
            f"{count} replicas are more than the spec of {fleet.name} allows ({fleet.policy.highest})",
            "Raise spec.scaling.max and start `seawall up` again, or name fewer.",
        )
    fleet.pin(count)
    return {"ok": True, "fleet": fleet.name, "wanted": fleet.wanted}


def _no(error: str, cure: str) -> dict[str, Any]:
    return {"ok": False, "error": error, "cure": cure}


def ask(state_dir: Path, **request: Any) -> dict[str, Any]:
    """One question to the `seawall up` of a state folder. InputError when none runs, or it says no."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(os.fspath(socket_path(state_dir)))
            s.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n") and (part := s.recv(1 << 20)):
                data += part
        reply: dict[str, Any] = json.loads(data)
    except (OSError, ValueError):
        raise InputError(
            f"no `seawall up` runs with its state in {state_dir}.", "Start one: seawall up"
        ) from None
    if not reply.pop("ok", False):
        raise InputError(f"{reply.get('error')}.", str(reply.get("cure", "")))
    return reply
