"""A vLLM server as a pure function: request in, the bytes of its SSE events out.

Byte-level tokens (half characters included), a next token that depends on all ids before it, generators that
restart with the request, a grammar and penalties that look at generated tokens only, stop strings with held
back text, and a detokenizer that replays the prompt when it is primed inside a character: what vLLM 0.32 did.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from itertools import count
from typing import Any

EOS = 0
_WORDS = [
    " the",
    " sea",
    " wall",
    "s",
    "ing",
    ",",
    ".",
    "\n",
    '"',
    "\\",
    " 1",
    "2",
    "3",
    "{",
    "}",
    " a",
    "</s>",
]
_PARTS = "😀猫é海🌊字"
VOCAB: list[bytes] = [b"", *(w.encode() for w in _WORDS), "海".encode(), "猫".encode(), "🌊".encode()]
VOCAB += [bytes([b]) for b in sorted(set(_PARTS.encode()))]
VOCAB += ["😀".encode()[:2], "😀".encode()[2:], "字".encode()[:2], "字".encode()[2:]]
_HALVES = {
    "😀": [VOCAB.index("😀".encode()[:2]), VOCAB.index("😀".encode()[2:])],
    "字": [VOCAB.index("字".encode()[:2]), VOCAB.index("字".encode()[2:])],
    "é": [VOCAB.index(bytes([b])) for b in "é".encode()],
}
_SERIAL = count(1)


def decode(ids: list[int]) -> str:
    return b"".join(VOCAB[i] for i in ids).decode("utf-8", errors="replace")


def encode(text: str) -> list[int]:
    """Greedy longest match; characters outside the vocabulary become '.'."""
    raw, ids = text.encode(), []
    while raw:
        fitting = [i for i, token in enumerate(VOCAB) if token and raw.startswith(token)]
        best = max(fitting, key=lambda i: len(VOCAB[i]), default=VOCAB.index(b"."))
        ids.append(best)
        raw = raw[len(VOCAB[best]) if fitting else 1 :]
    return ids


@dataclass(frozen=True)
class Server:
    """How this replica is configured."""

    name: str = "a"
    parser: bool = True
    """A tool or reasoning parser is configured: empty chat deltas are `{}` and need return_token_ids."""
    width: int = 1
    """Tokens per chunk (stream_interval, speculative decoding, a slow front end)."""
    honours_ids: bool = True
    quirk: int = 0
    """Non-zero: other numerics; its greedy tokens differ from the third on."""
    reasoning: bool = False
    max_model_len: int = 400
    most_tokens: int | None = None
    """max_new_tokens of --override-generation-config: bounds every answer."""


class _Stream:
    """The engine's detokenizer and stop check, for one choice."""

    def __init__(self, prompt: list[int], body: dict[str, Any]) -> None:
        stop = body.get("stop") or []
        self.stop = [stop] if isinstance(stop, str) else stop
        self.include = body.get("include_stop_str_in_output", False)
        self.hold = max((len(s) for s in self.stop), default=1) - 1 if not self.include else 0
        self.min_tokens = body.get("min_tokens") or 0
        self.ids: list[int] = []
        self.text = ""
        self.told = 0
        primed = decode(prompt)
        self.prefix = "" if primed.endswith("�") else primed
        self.pending = list(prompt)

    def push(self, token: int) -> str | None:
        """Returns the matched stop string, if any."""
        self.ids.append(token)
        self.pending.append(token)
        whole = decode(self.pending)
        before = len(self.text)
        if len(whole) > len(self.prefix) and not whole.endswith("�"):
            self.text += whole[len(self.prefix) :]
            self.prefix = whole
        new = len(self.text) - before
        if not self.stop or not new or len(self.ids) <= self.min_tokens:
            return None
        found = [
            (at + len(s), at, s)
            for s in self.stop
            if (at := self.text.find(s, max(0, before + 1 - len(s)))) >= 0
        ]
        if not found:
            return None
        end, at, string = min(found)
        self.text = self.text[: end if self.include else at]
        return string

    def new_text(self, finished: bool) -> str:
        end = len(self.text) if finished else max(self.told, len(self.text) - self.hold)
        out = self.text[self.told : end]
        self.told = end
        return out


def _hash(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def _next(prompt: list[int], made: list[int], body: dict[str, Any], index: int, server: Server) -> int:
    ids = prompt + made
    for half in _HALVES.values():  # a character that was begun is ended
        for cut in range(1, len(half)):
            if ids[-cut:] == half[:cut]:
                return half[cut]
    if structured(body):  # a grammar of its own position: restarts with the request
        wanted = ["{", '"', " sea", '"', ",", " 1", "}"]
        return VOCAB.index(wanted[len(made)].encode()) if len(made) < len(wanted) else EOS
    salt: object = 0
    if body.get("temperature") != 0:
        seed = body.get("seed")
        salt = (seed + index, len(made)) if seed is not None else next(_SERIAL)
    if body.get("presence_penalty") or body.get("frequency_penalty"):
        salt = (salt, tuple(sorted(made)))
    if server.quirk and len(ids) > 8:
        salt = (salt, server.quirk)
    draw = _hash(ids[-12:], len(ids), salt)
    if draw % 4 == 0:
        return list(_HALVES.values())[draw // 4 % len(_HALVES)][0]
    if draw % 41 == 0 and not body.get("ignore_eos") and len(made) >= (body.get("min_tokens") or 0):
        return EOS
    return 1 + draw // 8 % (len(_WORDS) + 3)


def structured(body: dict[str, Any]) -> bool:
    form = body.get("response_format")
    return bool(form and form.get("type") not in (None, "text"))


def prompt_of(path: str, body: dict[str, Any]) -> list[list[int]]:
    if path.endswith("chat/completions"):
        return [encode("\n".join(str(m["content"]) for m in body["messages"]) + "\n")]
    prompt = body["prompt"]
    if isinstance(prompt, str):
        return [encode(prompt)]
    if not prompt or isinstance(prompt[0], int):
        return [list(prompt)]
    return [encode(p) if isinstance(p, str) else p for p in prompt]


def generate(prompt: list[int], body: dict[str, Any], index: int, server: Server, limit: int):
    """Yields (text, ids, finish, stop_reason) per chunk."""
    made: list[int] = []
    stream = _Stream(prompt, body)
    batch: list[int] = []
    while True:
        token = _next(prompt, made, body, index, server)
        made.append(token)
        batch.append(token)
        finish = stop = None
        if token == EOS:
            finish = "stop"
            stream.ids.append(token)
        else:
            stop = stream.push(token)
            finish = "stop" if stop else ("length" if len(made) >= limit else None)
        if finish or len(batch) >= server.width or len(made) == 1:
            yield stream.new_text(bool(finish)), batch, finish, stop
            batch = []
        if finish:
            return


class Refused(Exception):
    """The server's 400."""


def serve(path: str, raw: bytes, server: Server | None = None) -> list[bytes]:
    """All events of the answer, each with its terminator."""
    server = server or Server()
    body = json.loads(raw)
    chat = path.endswith("chat/completions")
    prompts = prompt_of(path, body)
    limit = body.get("max_completion_tokens") or body.get("max_tokens", None if chat else 16)
    room = server.max_model_len - max(map(len, prompts))
    if (limit is not None and limit < 1) or room < 1:
        raise Refused(f"max_tokens={limit}, room {room}")
    limit = min(bound for bound in (limit, room, server.most_tokens) if bound is not None)
    return list(_Writer(path, body, server, prompts, limit).events())


class _Writer:
    def __init__(
        self, path: str, body: dict[str, Any], server: Server, prompts: list[list[int]], limit: int
    ) -> None:
        self.chat = path.endswith("chat/completions")
        self.body, self.server, self.prompts, self.limit = body, server, prompts, limit
        self.tells_ids = bool(body.get("return_token_ids")) and server.honours_ids
        options = body.get("stream_options") or {}
        self.usage = bool(options.get("include_usage"))
        self.each_usage = self.usage and bool(options.get("continuous_usage_stats"))
        self.serial = next(_SERIAL)
        self.made: dict[int, int] = {}
        self.offsets: dict[int, int] = {}
        self.tools = bool(body.get("tools")) and body.get("tool_choice") != "none"
        self.lead: dict[int, int] = {}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.server.name}{self.serial}",
            "object": "chat.completion.chunk" if self.chat else "text_completion",
            "created": 1000 + self.serial,
            "model": self.body.get("model", "m"),
            "choices": choices,
        }

    def _usage(self, prompt: int, made: int, each: bool) -> dict[str, Any]:
        doc: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + made,
            "completion_tokens": made,
        }
        return doc | {"completion_tokens_details": None} if self.chat and each else doc

    def events(self):
        n = self.body.get("n") or 1
        streams = []
        for at, prompt in enumerate(self.prompts):
            for i in range(n):
                streams.append((at * n + i, prompt, generate(prompt, self.body, i, self.server, self.limit)))
        if self.chat:
            yield from self._roles(n)
        told: set[int] = set()
        while streams:
            for entry in list(streams):
                index, prompt, chunks = entry
                chunk = next(chunks, None)
                if chunk is None:
                    streams.remove(entry)
                    continue
                event = self._event(index, prompt, chunk, index not in told)
                told.add(index)
                if event is not None:
                    yield _sse(event)
        if self.usage:
            doc = self._chunk([])
            doc["usage"] = self._usage(sum(map(len, self.prompts)), sum(self.made.values()), False)
            doc["system_fingerprint"] = "fp-1"
            yield _sse(doc)
        yield b"data: [DONE]\n\n"

    def _roles(self, n: int):
        for i in range(n):
            choice = {
                "index": i,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            doc = self._chunk([choice])
            if self.each_usage:
                doc["usage"] = self._usage(len(self.prompts[0]), 0, True)
            doc["prompt_token_ids"] = self.prompts[0] if self.tells_ids else None
            doc["prompt_text"] = None
            yield _sse(doc)

    def _event(self, index: int, prompt: list[int], chunk: Any, first: bool) -> dict[str, Any] | None:
        text, ids, finish, stop = chunk
        self.made[index] = self.made.get(index, 0) + len(ids)
        logprobs = self._logprobs(index, ids)
        if self.chat:
            delta = self._delta(index, text)
            if not delta and not finish and not self.tells_ids and logprobs is None:
                return None
            if finish == "stop" and self.tools:
                finish = "tool_calls"
            choice: dict[str, Any] = {
                "index": index,
                "delta": delta,
                "logprobs": logprobs,
                "finish_reason": finish,
            }
            if finish:
                choice["stop_reason"] = stop
        else:
            choice = {
                "index": index,
                "text": text,
                "logprobs": logprobs,
                "finish_reason": finish,
                "stop_reason": stop,
            }
            choice["prompt_token_ids"] = prompt if first and self.tells_ids else None
        choice["token_ids"] = ids if self.tells_ids else None
        doc = self._chunk([choice])
        if finish and not self.usage:
            doc["system_fingerprint"] = "fp-1"
        if self.each_usage:
            doc["usage"] = self._usage(len(prompt), self.made[index], True)
        return doc

    def _delta(self, index: int, text: str) -> dict[str, Any]:
        if not self.server.parser:
            return {"content": text}
        if not text:
            return {}
        seen = self.lead.get(index, 0)
        self.lead[index] = seen + 1
        if self.tools:
            function: dict[str, Any] = {"arguments": text}
            call: dict[str, Any] = {"index": 0, "function": function}
            if not seen:
                call = {"id": f"call-{next(_SERIAL)}", "type": "function", "index": 0}
                call["function"] = {"name": "weather", "arguments": text}
            return {"tool_calls": [call]}
        return {"reasoning": text} if self.server.reasoning and seen < 4 else {"content": text}

    def _logprobs(self, index: int, ids: list[int]) -> dict[str, Any] | None:
        asked = self.body.get("logprobs")
        if asked is None or asked is False:
            return None
        names = [decode([i]) for i in ids]
        values = [-(_hash(i) % 100) / 10 for i in ids]
        if self.chat:
            return {"content": [{"token": t, "logprob": v} for t, v in zip(names, values, strict=True)]}
        offsets = []
        for name in names:
            offsets.append(self.offsets.get(index, 0))
            self.offsets[index] = offsets[-1] + len(name)
        tops = [{t: v} for t, v in zip(names, values, strict=True)]
        return {"text_offset": offsets, "token_logprobs": values, "tokens": names, "top_logprobs": tops}


def _sse(doc: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(doc, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
