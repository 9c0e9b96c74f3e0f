"""A conversation with a served model: one question out, the answer's pieces in, and how fast they came.

What `seawall chat` is made of, without its keyboard and screen. Speaks the OpenAI API, so it talks to any server of it.
Forbidden here: printing, and retries (the gateway retries; what it gives up is an answer that a person should see).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from seawall.drivers.near import near
from seawall.errors import EngineError, InputError, in_words

MAX_LINE = 4 * 2**20


@dataclass
class TalkTiming:
    """How an answer came: seconds to its first token, seconds in all, tokens (None: the server did not say)."""

    ttft_s: float | None = None
    total_s: float = 0.0
    tokens: int | None = None
    pieces: int = 0
    finish: str | None = None

    def told(self) -> str:
        """`TTFT 0.31 s, 42 tokens, 17.2 tokens/s`."""
        if self.ttft_s is None:
            return f"no token in {self.total_s:.1f} s"
        count = self.tokens if self.tokens is not None else self.pieces
        parts = [f"TTFT {self.ttft_s:.2f} s", f"{count} token{'' if count == 1 else 's'}"]
        decoding = self.total_s - self.ttft_s
        if count > 1 and decoding > 0:
            parts.append(f"{(count - 1) / decoding:.1f} tokens/s")
        if self.finish == "length":
            parts.append("cut off at its longest (--max-tokens)")
        return ", ".join(parts)


@dataclass
class Talk:
    """One conversation: the address, the model, and all that was said."""

    url: str
    model: str
    key: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    client: httpx2.Client = field(init=False)
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx2.Client(timeout=httpx2.Timeout(600, connect=10), trust_env=not near(self.url))

    def system(self, text: str) -> None:
        """Sets, or with an empty text removes, what the model is told before everything else."""
        self.messages = [m for m in self.messages if m["role"] != "system"]
        if text:
            self.messages.insert(0, {"role": "system", "content": text})

    def anew(self) -> None:
        """Forgets what was said; the system text stays."""
        self.messages = [m for m in self.messages if m["role"] == "system"]

    def models(self) -> list[str]:
        """The names that may be asked for. InputError when they cannot be listed."""
        try:
            answer = self.client.get(f"{self.url}/v1/models", headers=self._headers(), timeout=10)
            _refuse(answer)
            return [str(m["id"]) for m in answer.json()["data"]]
        except httpx2.HTTPError as e:
            raise _away(self.url, e) from None
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{self.url} is not an OpenAI API.", "Name the gateway's address with --url."
            ) from None

    def ask(self, text: str, timing: TalkTiming, now: Callable[[], float] = time.monotonic) -> Iterator[str]:
        """The pieces of the answer as they come. The question and what was answered stay in the conversation, an answer
        that was interrupted too. Raises InputError or EngineError."""
        question = {"role": "user", "content": text}
        body: dict[str, Any] = {"model": self.model, "messages": [*self.messages, question], "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        body |= {
            k: v
            for k, v in (("max_tokens", self.max_tokens), ("temperature", self.temperature))
            if v is not None
        }
        said: list[str] = []
        began = now()
        try:
            with self.client.stream(
                "POST", f"{self.url}/v1/chat/completions", json=body, headers=self._headers()
            ) as answer:
                if answer.status_code != 200:
                    answer.read()
                    _refuse(answer)
                for piece in _pieces(answer, timing):
                    if timing.ttft_s is None:
                        timing.ttft_s = now() - began
                    timing.pieces += 1
                    said.append(piece)
                    yield piece
        except httpx2.HTTPError as e:
            raise _away(self.url, e) from None
        finally:
            timing.total_s = now() - began
            if said:
                self.messages += [question, {"role": "assistant", "content": "".join(said)}]

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


def _pieces(answer: httpx2.Response, timing: TalkTiming) -> Iterator[str]:
    for line in answer.iter_lines():
        if len(line) > MAX_LINE:
            raise EngineError("the server sent a line of more than 4 MiB.", "Is the address right?")
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise EngineError(
                f"the server sent what is no JSON: {data[:80]!r}.", "Is the address right?"
            ) from None
        if isinstance(event, dict) and "error" in event:
            raise EngineError(
                f"the stream ended: {_message(event)}.", "See `seawall status`, or `seawall logs`."
            )
        if usage := event.get("usage"):
            timing.tokens = usage.get("completion_tokens", timing.tokens)
        for choice in event.get("choices") or []:
            timing.finish = choice.get("finish_reason") or timing.finish
            delta = choice.get("delta") or {}
            if text := (delta.get("reasoning_content") or delta.get("reasoning") or "") + (
                delta.get("content") or ""
            ):
                yield text
    raise EngineError("the stream broke off.", "See `seawall status`, or `seawall logs`.")


def _refuse(answer: httpx2.Response) -> None:
    if answer.status_code == 200:
        return
    try:
        said = _message(answer.json())
    except ValueError:
        said = answer.text[:200]
    cures = {
        401: "Give a key: --api-key, or SEAWALL_API_KEY in the environment.",
        403: "This key may not use that model.",
        404: "See which models there are: /model",
        429: "It is busy: ask again in a moment.",
        503: "No replica is ready: see `seawall status`.",
    }
    raise InputError(
        f"HTTP {answer.status_code}: {said}", cures.get(answer.status_code, "See `seawall logs gateway`.")
    )


def _message(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:300].rstrip(".")


def _away(url: str, e: Exception) -> EngineError:
    why = in_words(e)
    return EngineError(f"{url} does not answer: {why}.", "Start one: seawall up; or name another with --url.")
