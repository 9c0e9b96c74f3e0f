"""A small engine for tests of the data plane: answers like vLLM, breaks on command. Real sockets, no model."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.within import within

from seawall.gateway.process.server import Server
from seawall.gateway.process.settings import Settings


class FakeEngine:
    """One replica. `script` maps a request to what happens; `log` keeps (path, headers, body) of each."""

    def __init__(self, name: str = "e") -> None:
        self.name = name
        self.log: list[tuple[str, dict[str, str], Any]] = []
        self.faults: list[str] = []
        """Taken one per generating request; empty: none."""
        self.always: str = ""
        self.tokens = 5
        self.pace_s = 0.0
        self.pad = ""
        """Makes events as large as wanted."""
        self.gate: asyncio.Event | None = None
        """Streams and answers wait here."""
        self.let_go = asyncio.Event()
        """Ends the fault `late`."""
        self.began = 0.0
        self.gone = 0
        """Clients that left during `late`."""
        self.open = 0
        self.cancelled = 0
        self.load: str | None = None
        self.longest = 0
        """Tokens that its page of models names; 0: it has no such page."""
        self.steps = 0
        """What its metrics say of its steps; they answer also while it hangs, as vLLM's do."""
        self.deaf = False
        """It takes connections and questions, and answers nothing at all: a process that was stopped."""
        self.page = ""
        """More of its metrics: its pace."""
        self.tls: ssl.SSLContext | None = None
        self.key = ""
        """Asked for, as by vLLM's --api-key; empty: none."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, port: int = 0) -> FakeEngine:
        self._server = await asyncio.start_server(
            self._connection, "127.0.0.1", port or self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aenter__(self) -> FakeEngine:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """As kill -9: all connections end at once, nobody listens."""
        if self._server is not None:
            self._server.close()
        for w in list(self._writers):
            w.transport.abort()
        self._server = None
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                top = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *rest = top.split("\r\n")
                headers = {k.lower(): v for k, _, v in (r.partition(": ") for r in rest if r)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                path = line.split()[1]
                data = json.loads(body) if body else None
                if self.deaf:
                    await asyncio.sleep(3600)
                if path == "/metrics":
                    self._text(writer, f"vllm:generation_tokens_total {self.steps}.0\n{self.page}")
                    continue
                if path == "/v1/models" and self.longest:
                    self._json(writer, 200, {"data": [{"id": "m", "max_model_len": self.longest}]})
                    continue
                if data and {"ignore_eos", "return_tokens_as_token_ids"} <= data.keys():
                    self._json(
                        writer, 200, {}
                    )  # the truth watch asks whenever it likes: no test's own request
                    continue
                self.log.append((path, headers, data))
                if self.key and headers.get("authorization") != f"Bearer {self.key}":
                    self._json(writer, 401, {"error": "Unauthorized"})
                    continue
                self.open += 1
                try:
                    await self._answer(reader, writer, data or {})
                finally:
                    self.open -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: dict[str, Any]
    ) -> None:
        probe = data.get("max_tokens") == 1 and data.get("prompt") == "a"
        fault = self.always or (self.faults.pop(0) if self.faults and not probe else "")
        if fault == "reset":
            writer.transport.abort()
            raise ConnectionResetError
        if fault == "late":
            self.began = asyncio.get_running_loop().time()
            try:
                await self._or_gone(reader, self.let_go.wait())
            except ConnectionResetError:
                self.gone += 1
                raise
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "head_and_nothing":
            kind = (
                b"text/event-stream\r\ntransfer-encoding: chunked"
                if data.get("stream")
                else b"application/json"
            )
            length = b"" if data.get("stream") else b"content-length: 300\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\n\r\n" % (length, kind))
            await asyncio.sleep(3600)
        if fault == "half_a_body":
            writer.write(
                b'HTTP/1.1 200 OK\r\ncontent-length: 300\r\ncontent-type: application/json\r\n\r\n{"id":'
            )
            await asyncio.sleep(3600)
        if fault == "503":
            return self._json(writer, 503, {"error": {"message": "queue full"}})
        if fault == "drain500":
            return self._json(
                writer, 500, {"error": {"message": "cannot schedule new futures after shutdown"}}
            )
        if fault == "500":
            return self._json(writer, 500, {"error": {"message": "oops"}})
        if fault == "late400":
            await asyncio.sleep(1)
        if fault in ("400", "late400"):
            return self._json(writer, 400, {"error": {"message": "bad", "code": 400}})
        if fault == "abort":
            return self._json(writer, 200, {"choices": [{"text": "", "finish_reason": "abort"}]})
        if not data.get("stream"):
            if self.gate is not None:
                await self._or_gone(reader, self.gate.wait())
            return self._json(
                writer,
                200,
                {
                    "id": "x",
                    "replica": self.name,
                    "model": data.get("model"),
                    "choices": [{"text": "hello", "message": {"content": "hello"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
                },
            )
        writer.write(
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            + self._load()
            + b"transfer-encoding: chunked\r\n\r\n"
        )
        if fault == "bare_done":
            return self._end(writer, b"data: [DONE]\n\n")
        if fault == "error_event":
            return self._end(writer, b'data: {"error":{"code":500}}\n\ndata: [DONE]\n\n')
        while fault == "comments_first" and not self.let_go.is_set():
            self._chunk(writer, b": ping\n\n")
            await asyncio.sleep(0.02)
        for i in range(self.tokens):
            if self.gate is not None and i == 1:
                await self._or_gone(reader, self.gate.wait())
            if fault == "cut_after_2" and i == 2:
                writer.transport.abort()
                raise ConnectionResetError
            if fault == "odd_after_2" and i == 2:
                self._chunk(
                    writer, b'data: {"id":"x","choices":[{"index":0,"text":"a","logprobs":"odd"}]}\n\n'
                )
            if fault == "dead_after_2" and i == 2:
                return self._end(writer, b'data: {"error":{"code":500}}\n\ndata: [DONE]\n\n')
            if fault == "comments_after_2" and i == 2:
                while True:
                    self._chunk(writer, b": ping\n\n")
                    await asyncio.sleep(0.05)
            event = {"id": "x", "choices": [{"index": 0, "text": f"t{i} {self.pad}", "finish_reason": None}]}
            if i == self.tokens - 1:
                event["choices"][0]["finish_reason"] = "stop"  # type: ignore[index]
            self._chunk(writer, b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")
            if self.pace_s:
                await asyncio.sleep(self.pace_s)
            await writer.drain()
        self._end(writer, b"data: [DONE]\n\n")
        return None

    async def _or_gone(self, reader: asyncio.StreamReader, waiting: Any) -> None:
        task = asyncio.ensure_future(waiting)
        while not task.done():
            await asyncio.wait([task], timeout=0.01)
            if reader.at_eof():
                self.cancelled += 1
                task.cancel()
                raise ConnectionResetError

    def _load(self) -> bytes:
        return f"endpoint-load-metrics: {self.load}\r\n".encode() if self.load else b""

    def _json(self, writer: asyncio.StreamWriter, status: int, data: Any) -> None:
        body = json.dumps(data, separators=(",", ":")).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nserver: uvicorn\r\ncontent-length: {len(body)}\r\n".encode()
            + self._load()
            + b"content-type: application/json\r\n\r\n"
            + body
        )

    @staticmethod
    def _text(writer: asyncio.StreamWriter, text: str) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _end(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        self._chunk(writer, data)
        writer.write(b"0\r\n\r\n")


class Gateway:
    """A gateway in this process, and a client that speaks plain bytes to it."""

    def __init__(self, server: Server, url: str, admin: str, task: asyncio.Task[int]) -> None:
        self.server, self.url, self.admin, self.task = server, url, admin, task
        self.port = int(url.rpartition(":")[2])
        self.admin_port = int(admin.rpartition(":")[2])

    async def raw(self, data: bytes, port: int | None = None, timeout: float = 10) -> bytes:
        """Sends bytes, reads to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        writer.write(data)
        try:
            return await within(reader.read(), timeout)
        finally:
            writer.transport.abort()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        return split(
            await self.raw(
                f"POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(data)}\r\n"
                f"{lines}Connection: close\r\n\r\n".encode()
                + data
            )
        )

    async def get(self, path: str, admin: bool = False) -> tuple[int, dict[str, str], bytes]:
        text = f"GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
        return split(await self.raw(text.encode(), self.admin_port if admin else None))

    async def complete(self, stream: bool = False, **more: Any) -> tuple[int, dict[str, str], bytes]:
        return await self.post("/v1/completions", {"model": "m", "prompt": "x", "stream": stream, **more})

    async def state(self) -> dict[str, Any]:
        return json.loads((await self.get("/debug/state", admin=True))[2])

    async def reconciled(self) -> dict[str, Any]:
        """The first fleet's counters, which must add up whenever anybody looks."""
        f = next(iter((await self.state())["fleets"].values()))
        done = f["finished_total"] + f["failed_total"] + f["cancelled_total"]
        assert f["admitted_total"] == done + f["pending"], f
        return f


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """status, headers, body (chunks joined; a stream cut short keeps what came, marked in `cut`)."""
    top, _, body = answer.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (x.partition(": ") for x in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        out, rest, cut = b"", body, True
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            if int(size, 16) == 0:
                cut = False
                break
            out, rest = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        body = out
        headers["cut"] = str(cut)
    return int(lines[0].split()[1]), headers, body


SPEC = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: file:///none}
  gateway: {resume: "off", stallTimeout: 600ms, firstByteTimeout: 1s, queueTimeout: 2s}
"""

Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(engines..., spec=...)` -> a Gateway in front of them; stopped at the end."""
    running: list[Gateway] = []

    async def make(*engines: FakeEngine | str, spec: str = SPEC, discovery: str = "", **more: Any) -> Gateway:
        path = tmp_path / f"fleet{len(running)}.yaml"
        path.write_text(spec)
        urls = ",".join(e if isinstance(e, str) else e.url for e in engines)
        where: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        settings = Settings(
            specs=[path],
            discovery=discovery or f"static:{urls}",
            listen="127.0.0.1:0",
            admin="127.0.0.1:0",
            grace_s=more.pop("grace_s", 5.0),
            hand_over_s=0.01,
            **more,
        )
        server = Server(settings, lambda url, admin: where.set_result((url, admin)), signals=False)
        task = asyncio.ensure_future(server.run())
        await asyncio.wait([task, where], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        gateway = Gateway(server, *where.result(), task)
        running.append(gateway)
        return gateway

    yield make
    for gateway in running:
        gateway.server.stop()
        assert await within(gateway.task, 15) == 0


def make_certificate(folder: Path, name: str = "c") -> tuple[Path, Path]:
    """A self-signed certificate of localhost and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


@pytest.fixture
def spec() -> str:
    return SPEC


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine("a") as e:
        yield e


@pytest.fixture
async def other() -> AsyncIterator[FakeEngine]:
    async with FakeEngine("b") as e:
        yield e
