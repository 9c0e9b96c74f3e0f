"""A streaming client that costs little: llhttp on raw transports, one parse per event, no task per chunk.

It must not be the bottleneck of what it measures; `bench/load_client.py` says what a request costs it. Every wait is
bounded: to connect, to the first event, between events, and in all.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.parse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import msgspec

from seawall.errors import InputError

ReadClock = Callable[[], float]
WHOLE = frozenset({"stop", "length", "tool_calls", "function_call"})


class _StreamDelta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """Until vLLM 0.11."""
    tool_calls: list[Any] | None = None


class _StreamChoice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    delta: _StreamDelta | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _SseEvent(msgspec.Struct):
    choices: list[_StreamChoice] = []
    usage: _Usage | None = None
    error: Any = None


_events: msgspec.json.Decoder[_SseEvent] = msgspec.json.Decoder(_SseEvent)


@dataclass(frozen=True, kw_only=True)
class ClientPatience:
    """Bounds in seconds."""

    connect_s: float = 10.0
    first_s: float = 120.0
    stall_s: float = 60.0
    total_s: float = 900.0


@dataclass(slots=True, kw_only=True)
class RequestOutcome:
    """What one request was seen to do. Times are the client's clock, seconds."""

    intended_s: float
    """When it should have been sent; latencies count from here (no coordinated omission)."""
    sent_s: float = 0.0
    first_s: float | None = None
    """First event with text, reasoning, a tool call or token ids; the end of an answer that comes whole."""
    ended_s: float = 0.0
    status: int = 0
    error: str | None = None
    """None: finished whole. Otherwise a kind: refused, connect, eof, reset, stalled, timeout, aborted, error-event,
    no-finish, http-NNN, cancelled, malformed."""
    detail: str = ""
    event_s: list[float] = field(default_factory=list)
    event_tokens: list[int] = field(default_factory=list)
    """Tokens in each event, when token ids were asked for; otherwise 1 for each event with text."""
    text: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    done: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    retry_after_s: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    last_id: str = ""
    """The `id` of the last event that had one."""
    stale: int = 0
    """Times that a kept connection turned out to be closed and the request was sent again on a new one."""

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def tokens(self) -> int:
        """Generated tokens: the usage's number, else the ids', else the events'."""
        if self.completion_tokens is not None:
            return self.completion_tokens
        return len(self.ids) or sum(self.event_tokens)

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.intended_s

    @property
    def e2e_s(self) -> float:
        return self.ended_s - self.intended_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None for an answer that came whole."""
        if not self.event_s or self.tokens < 2:
            return None
        return (self.event_s[-1] - self.event_s[0]) / (self.tokens - 1)

    @property
    def worst_gap_s(self) -> float:
        """The longest silence between two data events."""
        return max((b - a for a, b in zip(self.event_s, self.event_s[1:], strict=False)), default=0.0)


class _Wire(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, clock: ReadClock) -> None:
        self.clock = clock
        self.transport: asyncio.Transport
        self.open = False
        self.outcome: RequestOutcome | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.last_s = 0.0
        self.read_rate: float | None = None
        self.stop_after: int | None = None
        self._parser: Any = None
        self._buffer = b""
        self._sse = False
        self._body: list[bytes] = []
        self.reusable = True
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.outcome is not None and not self._complete():
            kind = "reset" if isinstance(exc, ConnectionError) else "eof"
            self._end(kind, str(exc or "the connection closed in mid-answer"))

    def _complete(self) -> bool:
        return self.waiter is None or self.waiter.done()

    def begin(self, outcome: RequestOutcome, waiter: asyncio.Future[None], request: bytes) -> None:
        self.outcome, self.waiter, self.used = outcome, waiter, True
        self._parser = httptools.HttpResponseParser(self)
        self._buffer, self._sse, self._body = b"", False, []
        self.last_s = self.clock()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.transport.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as e:
            self._end("malformed", str(e))
        if self.read_rate is not None and self.open:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(len(data) / self.read_rate, self._read_on)

    def _read_on(self) -> None:
        if self.open:
            self.transport.resume_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        outcome = self.outcome
        if outcome is None:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key == "content-type":
            self._sse = text.startswith("text/event-stream")
        elif key == "retry-after":
            try:
                outcome.retry_after_s = float(text)
            except ValueError:
                outcome.retry_after_s = None
        elif key.startswith("x-"):
            outcome.headers[key] = text
        elif key == "connection" and text.lower() == "close":
            self.reusable = False

    def on_headers_complete(self) -> None:
        if self.outcome is not None:
            self.outcome.status = self._parser.get_status_code()
            self.reusable = self.reusable and self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self._sse:
            self._body.append(body)
            return
        self._buffer = self._buffer + body if self._buffer else body
        while (end := self._buffer.find(b"\n\n")) >= 0:
            event, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    self._event(line[5:].strip())
                elif line.startswith(b"id:") and self.outcome is not None and not self._complete():
                    self.outcome.last_id = line[3:].strip().decode("latin-1")
        if len(self._buffer) > 2**24:
            self._end("malformed", "a server-sent event is longer than 16 MiB")

    def on_message_complete(self) -> None:
        outcome = self.outcome
        if outcome is None or self._complete():
            return
        body = b"".join(self._body)
        if outcome.status != 200:
            self._end(f"http-{outcome.status}", body[:300].decode(errors="replace"))
        elif not self._sse:
            self._whole(body)
        elif outcome.done and outcome.finish_reason in WHOLE:
            self._end(None)
        elif outcome.finish_reason == "abort":
            self._end("aborted", "finish_reason abort")
        else:
            self._end(
                "no-finish", "the stream ended without " + ("[DONE]" if outcome.finish_reason else "a reason")
            )

    def _event(self, data: bytes) -> None:
        outcome = self.outcome
        if outcome is None or outcome.error is not None:
            return
        now = self.last_s = self.clock()
        if data == b"[DONE]":
            outcome.done = True
            return
        try:
            event = _events.decode(data)
        except msgspec.DecodeError as e:
            outcome.error, outcome.detail = "malformed", f"{e}: {data[:120]!r}"
            return
        if event.error is not None:
            outcome.error, outcome.detail = "error-event", str(event.error)[:300]
            return
        if event.usage is not None:
            outcome.prompt_tokens, outcome.completion_tokens = (
                event.usage.prompt_tokens,
                event.usage.completion_tokens,
            )
        for choice in event.choices:
            self._take(outcome, choice, now)
        if self.stop_after is not None and len(outcome.event_s) >= self.stop_after:
            self._end("cancelled", "this client left on purpose")
            self.transport.abort()

    def _take(self, outcome: RequestOutcome, choice: _StreamChoice, now: float) -> None:
        delta, ids = choice.delta, choice.token_ids
        text = choice.text if delta is None else delta.content
        other = delta and (delta.reasoning or delta.reasoning_content or delta.tool_calls)
        if text or ids or other:
            if outcome.first_s is None:
                outcome.first_s = now
            outcome.event_s.append(now)
            outcome.event_tokens.append(len(ids) if ids else 1)
            if text:
                outcome.text.append(text)
            if ids:
                outcome.ids.extend(ids)
        if choice.finish_reason is not None:
            outcome.finish_reason = choice.finish_reason

    def _whole(self, body: bytes) -> None:
        assert self.outcome is not None
        outcome = self.outcome
        try:
            answer: dict[str, Any] = msgspec.json.decode(body)
        except msgspec.DecodeError as e:
            self._end("malformed", str(e))
            return
        outcome.first_s = self.clock()
        used = answer.get("usage") or {}
        outcome.prompt_tokens, outcome.completion_tokens = (
            used.get("prompt_tokens"),
            used.get("completion_tokens", 0),
        )
        for choice in answer.get("choices", []):
            outcome.text.append(choice.get("text") or (choice.get("message") or {}).get("content") or "")
            outcome.ids.extend(choice.get("token_ids") or [])
            outcome.finish_reason = choice.get("finish_reason")
        outcome.done = True
        aborted = outcome.finish_reason == "abort"
        self._end("aborted" if aborted else None, "finish_reason abort" if aborted else "")

    def _end(self, error: str | None, detail: str = "") -> None:
        outcome = self.outcome
        if outcome is None or self._complete():
            return
        if outcome.error is None:
            outcome.error, outcome.detail = error, detail
        outcome.ended_s = self.clock()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class LoadClient:
    """Requests to one server over kept connections."""

    def __init__(self, url: str, *, api_key: str | None = None, clock: ReadClock = time.monotonic) -> None:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is not an http(s) URL.", "Write http://HOST:PORT, without a path.")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._netloc = parts.netloc
        self._auth = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        self._idle: deque[_Wire] = deque()
        self.clock = clock

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
        """Sends one request and follows its answer to the end. Never raises for what the server does.

        `read_rate` bytes/s makes a slow reader; `stop_after` events makes a client that leaves.
        """
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        now = self.clock()
        outcome = outcome or RequestOutcome(intended_s=now if intended_s is None else intended_s)
        patience = patience or ClientPatience()
        extra = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        head = (
            f"POST {self._prefix}{path} HTTP/1.1\r\nhost: {self._netloc}\r\ncontent-type: application/json\r\n"
            f"accept: text/event-stream\r\n{self._auth}{extra}content-length: {len(body)}\r\n\r\n"
        )
        wire = await self._wire(outcome, patience)
        if wire is None:
            return outcome
        kept = wire.used
        wire.read_rate, wire.stop_after = read_rate, stop_after
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcome.sent_s = self.clock()
        wire.begin(outcome, waiter, head.encode("latin-1") + body)
        try:
            await self._watch(wire, outcome, waiter, patience)
        finally:
            if not waiter.done():
                wire.transport.abort()
        if kept and outcome.error in ("eof", "reset") and outcome.status == 0:
            # The server closed a kept connection as we used it: every HTTP client sends again (RFC 9112, 9.3.1).
            outcome.error, outcome.detail, outcome.stale = None, "", outcome.stale + 1
            self._idle.clear()
            return await self.request(
                path, body, patience=patience, read_rate=read_rate, stop_after=stop_after, headers=headers,
                outcome=outcome,
            )  # fmt: skip
        if wire.open and wire.reusable and outcome.error is None and read_rate is None:
            wire.outcome = None
            self._idle.append(wire)
        elif wire.open:
            wire.transport.close()
        return outcome

    async def _wire(self, outcome: RequestOutcome, patience: ClientPatience) -> _Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.open and not wire.transport.is_closing():
                return wire
        try:
            async with asyncio.timeout(patience.connect_s):
                _, wire = await asyncio.get_running_loop().create_connection(
                    lambda: _Wire(self.clock), self.host, self.port, ssl=self._tls
                )
        except (OSError, TimeoutError) as e:
            outcome.error = "refused" if isinstance(e, ConnectionRefusedError) else "connect"
            outcome.detail, outcome.ended_s = str(e) or "no connection in time", self.clock()
            return None
        return wire

    async def _watch(
        self, wire: _Wire, outcome: RequestOutcome, waiter: asyncio.Future[None], patience: ClientPatience
    ) -> None:
        """Waits for the end; wakes only to look whether the silence is too long."""
        while True:
            now = self.clock()
            silent_by = wire.last_s + (patience.first_s if outcome.first_s is None else patience.stall_s)
            bound = min(silent_by, outcome.sent_s + patience.total_s) - now
            if bound <= 0:
                late = now >= outcome.sent_s + patience.total_s
                outcome.error, outcome.ended_s = "timeout" if late else "stalled", now
                outcome.detail = f"silent for {now - wire.last_s:.1f} s after {len(outcome.event_s)} events"
                wire.transport.abort()
                return
            # Woken by nothing else, it would see a stall that follows the first event only after `first_s`.
            done, _ = await asyncio.wait([waiter], timeout=min(bound, patience.stall_s))
            if done:
                return

    async def get(self, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """A plain GET on its own connection: (status, body). Raises OSError, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self._tls)
            try:
                head = f"GET {self._prefix}{path} HTTP/1.1\r\nhost: {self._netloc}\r\n{self._auth}"
                head += "connection: close\r\n\r\n"
                writer.write(head.encode("latin-1"))
                parsed = _Get()
                parser = httptools.HttpResponseParser(parsed)
                while data := await reader.read(2**16):
                    parser.feed_data(data)
                    if sum(map(len, parsed.parts)) > 2**26:
                        raise OSError(f"GET {path}: the answer is longer than 64 MiB")
                return parser.get_status_code(), b"".join(parsed.parts)
            finally:
                writer.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().transport.close()


class _Get:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)
