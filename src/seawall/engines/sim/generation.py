"""One request being answered: sequences on one side, a connection on the other, and every way to break in between."""

from __future__ import annotations

import time

import msgspec

from seawall.engines.sim.answers import Answer, SequenceText
from seawall.engines.sim.asks import ApiRefusal, GenerationRequest
from seawall.engines.sim.core import SimulatedEngine
from seawall.engines.sim.faults import Fault
from seawall.engines.sim.language import Continuation, Sampling
from seawall.engines.sim.scheduler import Sequence
from seawall.engines.sim.wire import Connection
from seawall.engines.vllm.phrases import DEAD_MESSAGE

WRONG = 0x5EAB0A7
"""Other weights, in the place of 0."""


class Generation:
    """Owns its sequences: when the client goes, they go."""

    def __init__(
        self,
        engine: SimulatedEngine,
        connection: Connection,
        ask: GenerationRequest,
        answer: Answer,
        budgets: list[int],
        extra: str,
    ) -> None:
        self.engine = engine
        self.connection = connection
        self.ask = ask
        self.extra = extra
        self.answer = answer
        self.choices: list[SequenceText] = []
        self.sequences: list[Sequence] = []
        self.index: dict[Sequence, int] = {}
        self.fault: Fault | None = engine.armed.take()
        self.frozen = False
        self.over = False
        self.delivered = 0
        self.last_write_s = time.monotonic()
        self._open = False
        for prompt, budget in zip(ask.prompts, budgets, strict=True):
            for _ in range(ask.n):
                self._add(prompt, budget)

    def _add(self, prompt: list[int], max_tokens: int) -> None:
        index = len(self.choices)
        sampling = self.ask.sampling
        if sampling.salt is not None and index:
            sampling = Sampling(**{**vars(sampling), "salt": sampling.salt + index})
        adapter = self.ask.model if self.ask.model in self.engine.adapters else ""
        weights = WRONG if self.engine.armed.has("wrong-weights") else 0
        continuation = Continuation(prompt, sampling, self.engine.words, adapter, weights)
        sequence = Sequence(
            prompt,
            continuation,
            max_tokens,
            self._deliver,
            priority=self.ask.priority,
            arrived_s=time.monotonic(),
            cache_salt=hash((adapter, self.ask.cache_salt)),
        )
        self.choices.append(SequenceText(self.ask, index, prompt, self.engine.words, continuation))
        self.sequences.append(sequence)
        self.index[sequence] = index

    def start(self) -> None:
        """Into the queue; a stream's head goes out now, before its first token."""
        self.connection.on_close = self.client_gone
        self.connection.on_resume = self.flush
        self.engine.live.add(self)
        if self.ask.stream:
            self.connection.open_stream(self.extra)
            self._write(self.answer.greeting())
        for sequence in self.sequences:
            self.engine.scheduler.add(sequence)
        self.engine.wake.set()

    def _deliver(
        self, sequence: Sequence, token: int | None, finish: str | None, stop: int | None
    ) -> str | None:
        choice = self.choices[self.index[sequence]]
        stopped: str | None = None
        if token is not None:
            stopped = choice.add(token, finish, stop)
            self.delivered += 1
        if choice.finish_reason is not None:
            self.engine.account(self, sequence)
        fault = self.fault
        if fault is not None and self.delivered >= (fault.after_tokens or 0) and not self.frozen:
            self.break_(fault)
        elif not self.over and not self.frozen:
            self._emit(choice)
        return stopped

    def _emit(self, choice: SequenceText) -> None:
        if self.ask.stream:
            if self.connection.paused:
                return
            interval = max(self.ask.stream_interval, self.engine.args.stream_interval)
            fresh = len(choice.ids) - choice.ids_sent
            if choice.finish_reason is None and choice.ids_sent > 0 and fresh < interval:
                return
            self._write(self._opening() + self.answer.chunk(choice))
        if all(c.finish_reason is not None for c in self.choices):
            self._finish()

    def _opening(self) -> str:
        if self._open:
            return ""
        self._open = True
        return "".join(self.answer.opening(c) for c in self.choices)

    def _write(self, text: str) -> None:
        if not text:
            return
        self.connection.send(text)
        self.last_write_s = time.monotonic()

    def flush(self) -> None:
        """The client reads again: everything that has come since, as one chunk per choice."""
        if self.over or self.frozen or not self.ask.stream:
            return
        text = ""
        for choice in self.choices:
            unsent_finish = choice.finish_reason is not None and choice.index in self._unfinished()
            if len(choice.ids) > choice.ids_sent or unsent_finish:
                text += self._opening() + self.answer.chunk(choice)
        if text:
            self._write(text)
        if all(c.finish_reason is not None for c in self.choices):
            self._finish()

    def _unfinished(self) -> set[int]:
        return {c.index for c in self.choices if c.ids_sent < len(c.ids)}

    def _finish(self) -> None:
        self._close_books()
        if self.engine.args.enable_prompt_tokens_details:
            self.answer.cached = self.sequences[-1].cached
        if self.ask.stream:
            self._write(self.answer.end(self.choices))
            self.connection.end_stream()
        else:
            self.connection.respond(
                200, msgspec.json.encode(self.answer.whole(self.choices)), extra=self.extra
            )

    def _close_books(self) -> None:
        self.over = True
        self.engine.live.discard(self)

    def client_gone(self) -> None:
        """The connection is closed: free the sequences."""
        if not self.over:
            self._close_books()
            for sequence in self.sequences:
                self.engine.scheduler.abort(sequence)

    def abort(self) -> None:
        """Ends the answer as vLLM aborts one: every open choice ends with finish_reason abort, then [DONE]."""
        self._stop_sequences()
        for choice in self.choices:
            if choice.finish_reason is None:
                choice.finish_reason = "abort"
                self.engine.scheduler.counters.finished["abort"] += 1
                if self.ask.stream and not self.connection.closed:
                    self._write(self._opening() + self.answer.chunk(choice))
        self._finish()

    def fail(self, message: str, status: int = 500) -> None:
        """An error event and [DONE] on a stream; a JSON error otherwise."""
        self._stop_sequences()
        self._close_books()
        error = ApiRefusal(message, status, "InternalServerError")
        if not self.ask.stream:
            self.connection.respond(status, msgspec.json.encode(error.body()))
        else:
            self._write(self.answer.error(error.body()))
            self.connection.end_stream()

    def break_(self, fault: Fault) -> None:
        """One of the stream faults happens now."""
        self.fault = None
        if self.over:
            return
        if fault.kind == "error":
            self.fail(DEAD_MESSAGE)
        elif fault.kind == "abort":
            self.abort()
        elif fault.kind == "freeze":
            self.frozen = True
        elif not self.ask.stream:
            self._cut(fault.kind == "reset")
        elif fault.kind == "done-only":
            self._stop_sequences()
            self._close_books()
            self._write(self.answer.bare_end())
            self.connection.end_stream()
        else:
            self._cut(fault.kind == "reset")

    def _cut(self, reset: bool) -> None:
        self._stop_sequences()
        self._close_books()
        self.connection.on_close = None
        if reset:
            half = self.answer.chunk(self.choices[0])[:40] if self.ask.stream else ""
            self.connection.reset(half)
        else:
            self.connection.cut()

    def _stop_sequences(self) -> None:
        for sequence in self.sequences:
            self.engine.scheduler.abort(sequence)
