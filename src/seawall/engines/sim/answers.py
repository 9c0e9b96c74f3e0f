"""The shapes of vLLM 0.32's answers: chunk by chunk and whole, field for field (tests/contract compares).

Chunks are put together from fixed text and the few parts that change: this is the simulated engine's hot path.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from tokenizers.decoders import DecodeStream

from seawall.engines.sim.asks import GenerationRequest, Json
from seawall.engines.sim.language import Continuation
from seawall.engines.sim.tokens import Vocabulary

_encode = msgspec.json.encode
FINGERPRINT = "vllm-0.32.0-sim"
DONE = "data: [DONE]\n\n"


class SequenceText:
    """One sequence's text: detokenized as it comes, stop strings looked for, deltas handed out."""

    def __init__(
        self,
        ask: GenerationRequest,
        index: int,
        prompt: list[int],
        words: Vocabulary,
        continuation: Continuation,
    ) -> None:
        self.ask = ask
        self.index = index
        self.prompt = prompt
        self.words = words
        self.continuation = continuation
        self.stream = DecodeStream(ids=prompt, skip_special_tokens=ask.skip_special)
        self.text = ""
        self.sent = 0
        self.ids: list[int] = []
        self.ids_sent = 0
        self.logprobs: list[float] = []
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self.offset = len(ask.echo[index // ask.n]) if ask.echo else 0
        held = bool(ask.stop) and not ask.include_stop
        self.held_back = max(len(s) for s in ask.stop) - 1 if held else 0

    def add(self, token: int, finish: str | None, stop_token: int | None) -> str | None:
        """Takes a token; returns the stop string that the text now ends with, if any."""
        self.ids.append(token)
        if self.ask.logprobs is not None:
            self.logprobs.append(self.continuation.logprob(token))
        before = len(self.text)
        if finish != "stop" or self.ask.include_stop:
            try:
                self.text += self.stream.step(self.words.tokenizer, token) or ""
            except (
                Exception
            ):  # DecodeStream raises a bare Exception on a prefix that is not monotonic (vLLM #17448)
                self.stream = DecodeStream(skip_special_tokens=self.ask.skip_special)
                self.text += self.stream.step(self.words.tokenizer, token) or ""
        self.finish_reason, self.stop_reason = finish, stop_token
        if self.ask.stop and len(self.text) > before and len(self.ids) > self.ask.sampling.min_tokens:
            return self._look_for_stop(before)
        return None

    def _look_for_stop(self, before: int) -> str | None:
        best: tuple[int, str] | None = None
        for stop in self.ask.stop:
            at = self.text.find(stop, max(0, before - len(stop) + 1))
            if at >= 0 and (best is None or at + len(stop) < best[0] + len(best[1])):
                best = (at, stop)
        if best is None:
            return None
        at, stop = best
        self.text = self.text[: at + len(stop)] if self.ask.include_stop else self.text[:at]
        self.finish_reason, self.stop_reason = "stop", stop
        return stop

    def delta(self) -> tuple[str, list[int], list[float]]:
        """What has come since the last call: (text, ids, logprobs)."""
        end = len(self.text) if self.finish_reason else max(self.sent, len(self.text) - self.held_back)
        text, ids = self.text[self.sent : end], self.ids[self.ids_sent :]
        values = self.logprobs[self.ids_sent :] if self.ask.logprobs is not None else []
        self.sent, self.ids_sent = end, len(self.ids)
        return text, ids, values


class Answer:
    """One HTTP answer: the fixed parts of its id, model and time, and the functions that fill them."""

    def __init__(self, ask: GenerationRequest, request_id: str, words: Vocabulary) -> None:
        self.ask = ask
        self.words = words
        self.created = int(time.time())
        self.id = ("chatcmpl-" if ask.chat else "cmpl-") + request_id
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        fixed = _encode({"id": self.id, "object": kind, "created": self.created, "model": ask.model})
        self._head = "data: " + fixed[:-1].decode() + ',"choices":['
        self.first: set[int] = set()
        self.plain = not ask.return_token_ids and ask.logprobs is None and not ask.continuous_usage
        self.cached: int | None = None
        """Tokens of the prompt that were in the cache; None: nobody asked (--enable-prompt-tokens-details)."""

    def greeting(self) -> str:
        """What a stream says before it is scheduled."""
        return ""

    def end(self, choices: list[SequenceText]) -> str:
        """The end of a stream that went well."""
        return self.closing_usage(choices) + DONE

    def bare_end(self) -> str:
        """The end that a dying engine writes."""
        return DONE

    def error(self, body: Json) -> str:
        """An error inside a stream, and its end."""
        return f"data: {_encode(body).decode()}\n\n{DONE}"

    def opening(self, choice: SequenceText) -> str:
        """The chunk with the role that opens a chat stream; nothing for completions."""
        if not self.ask.chat:
            return ""
        prompt = _encode(choice.prompt).decode() if self.ask.return_token_ids else "null"
        return (
            f'{self._head}{{"index":{choice.index},"delta":{{"role":"assistant","content":""}},"logprobs":null,'
            f'"finish_reason":null}}],"prompt_token_ids":{prompt},"prompt_text":null{self._usage(choice, 0)}}}\n\n'
        )

    def chunk(self, choice: SequenceText) -> str:
        """The chunk of what has come since the last one."""
        text, ids, values = choice.delta()
        finish = choice.finish_reason
        opening = choice.index not in self.first
        self.first.add(choice.index)
        if opening and self.ask.echo is not None:
            text = self.ask.echo[choice.index // self.ask.n] + text
        logprobs = "null" if self.ask.logprobs is None else self._logprobs(choice, ids, values, opening)
        given = _encode(ids).decode() if self.ask.return_token_ids else "null"
        reason = "null" if finish is None else f'"{self.reason(choice)}"'
        stop = _encode(choice.stop_reason).decode()
        if self.ask.chat:
            stopped = "" if finish is None else f',"stop_reason":{stop}'
            body = (
                f'{{"index":{choice.index},"delta":{self.delta(choice, text, opening)},"logprobs":{logprobs},'
                f'"finish_reason":{reason}{stopped},"token_ids":{given}}}'
            )
        else:
            with_prompt = opening and (self.ask.return_token_ids or self.ask.echo is not None)
            prompt = _encode(choice.prompt).decode() if with_prompt else "null"
            body = (
                f'{{"index":{choice.index},"text":{_encode(text).decode()},"logprobs":{logprobs},"finish_reason":{reason},'
                f'"stop_reason":{stop},"prompt_token_ids":{prompt},"token_ids":{given}}}'
            )
        mark = ""
        if finish is not None and not self.ask.include_usage:
            mark = f',"system_fingerprint":"{FINGERPRINT}"'
        return f"{self._head}{body}]{mark}{self._usage(choice, len(choice.ids))}}}\n\n"

    def delta(self, choice: SequenceText, text: str, opening: bool) -> str:
        """What a chat's chunk brings, as JSON."""
        return f'{{"content":{_encode(text).decode()}}}'

    def message(self, text: str) -> Json:
        """The message of a whole chat."""
        return {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }

    def reason(self, choice: SequenceText) -> str | None:
        """Why it has ended."""
        return choice.finish_reason

    def _usage(self, choice: SequenceText, generated: int) -> str:
        if not self.ask.continuous_usage:
            return ""
        return f',"usage":{_encode(usage(len(choice.prompt), generated)).decode()}'

    def closing_usage(self, choices: list[SequenceText]) -> str:
        """The chunk without choices that carries the usage, when it was asked for."""
        if not self.ask.include_usage:
            return ""
        prompt, generated = totals(choices, self.ask.n)
        whole: dict[str, Any] = {**usage(prompt, generated)}
        if self.cached is not None:
            whole["prompt_tokens_details"] = self.details()
        counted = _encode(whole).decode()
        return f'{self._head}],"usage":{counted},"system_fingerprint":"{FINGERPRINT}"}}\n\n'

    def details(self) -> dict[str, Any] | None:
        """`prompt_tokens_details`."""
        return None if self.cached is None else {"cached_tokens": self.cached}

    def _logprobs(self, choice: SequenceText, ids: list[int], values: list[float], opening: bool) -> str:
        names = [f"token_id:{i}" if self.ask.as_token_ids else self.words.decode([i], False) for i in ids]
        if self.ask.chat:
            top = self.ask.logprobs or 0
            content = []
            for name, value, token in zip(names, values, ids, strict=True):
                entry: dict[str, Any] = {
                    "token": name,
                    "logprob": value,
                    "bytes": list(self.words.bytes[token]),
                }
                content.append({**entry, "top_logprobs": [entry][:top]})
            return _encode({"content": content}).decode()
        if opening and self.ask.echo is not None:
            prompt = [self.words.decode([i], False) for i in choice.prompt]
            return _encode(
                _completion_logprobs([*prompt, *names], [None, *([-1.0] * (len(prompt) - 1)), *values], 0)
            ).decode()
        start = choice.offset
        choice.offset += sum(len(n) for n in names)
        return _encode(_completion_logprobs(names, list(values), start)).decode()

    def whole(self, choices: list[SequenceText]) -> dict[str, Any]:
        """The answer of a request that does not stream."""
        prompt, generated = totals(choices, self.ask.n)
        common = {
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {
                **usage(prompt, generated),
                "prompt_tokens_details": self.details(),
                "completion_tokens_details": None,
            },
        }
        rest = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        head = {"id": self.id, "created": self.created, "model": self.ask.model}
        if self.ask.chat:
            return {
                **head,
                "object": "chat.completion",
                "choices": [self._chat_choice(c) for c in choices],
                **common,
                "prompt_logprobs": None,
                "prompt_token_ids": choices[0].prompt if self.ask.return_token_ids else None,
                "prompt_text": None,
                **rest,
            }
        return {
            **head,
            "object": "text_completion",
            "choices": [self._completion_choice(c) for c in choices],
            **common,
            **rest,
        }

    def _chat_choice(self, choice: SequenceText) -> dict[str, Any]:
        text, ids, values = choice.delta()
        logprobs = (
            None
            if self.ask.logprobs is None
            else msgspec.json.decode(self._logprobs(choice, ids, values, False))
        )
        return {
            "index": choice.index,
            "message": self.message(text),
            "logprobs": logprobs,
            "finish_reason": self.reason(choice),
            "stop_reason": choice.stop_reason,
            "token_ids": ids if self.ask.return_token_ids else None,
            "routed_experts": None,
        }

    def _completion_choice(self, choice: SequenceText) -> dict[str, Any]:
        text, ids, values = choice.delta()
        logprobs = (
            None
            if self.ask.logprobs is None
            else msgspec.json.decode(self._logprobs(choice, ids, values, True))
        )
        echoed = self.ask.echo[choice.index // self.ask.n] if self.ask.echo is not None else ""
        return {
            "index": choice.index,
            "text": echoed + text,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": ids if self.ask.return_token_ids else None,
            "prompt_logprobs": None,
            "prompt_token_ids": choice.prompt if self.ask.return_token_ids else None,
            "routed_experts": None,
        }


def _completion_logprobs(tokens: list[str], values: list[float | None], start: int) -> dict[str, Any]:
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token)
    return {
        "text_offset": offsets,
        "token_logprobs": values,
        "tokens": tokens,
        "top_logprobs": [None if v is None else {t: v} for t, v in zip(tokens, values, strict=True)],
    }


def usage(prompt: int, generated: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}


def totals(choices: list[SequenceText], n: int) -> tuple[int, int]:
    """(prompt tokens, each prompt once; generated tokens of all choices)."""
    return sum(len(c.prompt) for c in choices[::n]), sum(len(c.ids) for c in choices)
