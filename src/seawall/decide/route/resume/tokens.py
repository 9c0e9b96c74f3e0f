"""The *continue* way: what the client has, as token ids, and where among them it is safe to go on.

A boundary between tokens is *clean* when the text up to it is whole: vLLM holds back half characters, so a
token that produced text ended on one. Ids behind the last clean boundary are generated again. With stop
strings the engine holds back the last max(len)-1 characters too, and they die with it: the boundary must
lie before the last *sent* character, and what the client already has is generated again, compared and
swallowed. See docs/reference/resume.md. Forbidden here: I/O, clocks, the shapes of other routes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

import msgspec

from seawall.decide.route.resume.policy import Decoder

MARKS = 64
"""Clean boundaries kept: a rewind further than this starts at the prompt."""
SURE_WITHIN = 16
"""Tokens that may be generated again to begin at a boundary that is certain rather than likely."""

_encode: Final = msgspec.json.encode
_texts = msgspec.json.Decoder(list[str]).decode
_groups = msgspec.json.Decoder(list[list[int]]).decode


@dataclass(frozen=True, slots=True)
class Mark:
    """A boundary: after `tokens` generated tokens the decoded answer has `chars` characters."""

    tokens: int
    chars: int
    sure: bool = True


START: Final = Mark(0, 0)


class TokenLog:
    """Ids and text of one choice. Appending is bytes only (about 12 bytes a token); reading is for breaks."""

    __slots__ = (
        "_raw",
        "_untold",
        "decoder",
        "from_chars",
        "hold",
        "ids",
        "lag",
        "marks",
        "sent",
    )

    def __init__(self, hold: int, lag: int, decoder: Decoder | None) -> None:
        """`hold`: characters by which a rewind must stay behind the sent text (longest stop string - 1).
        `lag`: characters by which sent text stays behind decoded text (the same, or 0)."""
        self.hold = hold
        self.lag = lag
        self.decoder = decoder
        self.ids = array("I")
        self.sent = ""
        self.marks = [START]
        self.from_chars = 0
        self._raw = bytearray()
        """Two lines per chunk: the inside of a JSON string (which has no raw newline), and ids."""
        self._untold = 0
        """Ids in `_raw`."""

    def add_line(self, line: bytes) -> None:
        """What one chunk brought: text, LF, its only id, LF, both as they were written in JSON."""
        self._raw += line
        self._untold += 1

    def add(self, text: str, ids: list[int]) -> None:
        """The same from values. Raises ValueError if an id is not a token's."""
        if not text and not ids:
            return
        for token in ids:
            if type(token) is not int or not 0 <= token < 2**32:
                raise ValueError("token ids are whole numbers")
        written = str(ids[0]) if len(ids) == 1 else ",".join(map(str, ids))
        self._raw += b"%b\n%b\n" % (_encode(text)[1:-1], written.encode())
        self._untold += len(ids)

    @property
    def tokens(self) -> int:
        """Tokens generated so far, in all attempts."""
        return len(self.ids) + self._untold

    def recent(self, count: int) -> list[int]:
        """The last ids, as far as they came since the last break. Nothing changes; a few microseconds."""
        lines = bytes(self._raw[-64 * count :]).split(b"\n")
        last = lines[-2:0:-2][:count]
        last.reverse()
        return [int(i) for i in b",".join(last).split(b",") if i][-count:]

    def recent_text(self, count: int) -> str:
        """The text of the last chunks, as many as they are of `count`, since the last break. Nothing changes."""
        lines = bytes(self._raw[-128 * count :]).split(b"\n")
        last = lines[-3:0:-2][:count]
        last.reverse()
        return "".join(_texts(b'["' + b'","'.join(last) + b'"]'))

    @property
    def nbytes(self) -> int:
        return len(self._raw) + 4 * len(self.ids) + len(self.sent)

    def fold(self) -> None:
        """Read what was appended since the last break: ids, text, clean boundaries.

        Raises ValueError, OverflowError or msgspec.DecodeError if the engine's JSON was not what it seemed.
        """
        if not self._raw:
            return
        lines = self._raw[:-1].split(b"\n")
        self._raw.clear()
        self._untold = 0
        # A replica's death breaks hundreds of streams at once: two decodes each, not two per chunk.
        texts = _texts(b'["' + b'","'.join(lines[::2]) + b'"]')
        groups = _groups(b"[[" + b"],[".join(lines[1::2]) + b"]]")
        chars, tokens = self.from_chars, len(self.ids)
        clean: list[tuple[int, int, int]] = []
        for text, new in zip(texts, groups, strict=True):
            tokens += len(new)
            if text:
                chars += len(text)
                clean.append((tokens, chars + self.lag, len(new)))
        self.ids.extend(token for new in groups for token in new)
        self._mark(clean[-MARKS:])
        generated = self.sent[: self.from_chars] + "".join(texts)
        if len(generated) > len(self.sent):
            self.sent = generated
        self.from_chars = chars

    def all_text(self) -> str:
        """The answer so far. Raises as `fold` does."""
        self.fold()
        return self.sent

    def _mark(self, clean: list[tuple[int, int, int]]) -> None:
        """Boundaries behind chunks with text, as (tokens, characters, tokens in the chunk)."""
        for tokens, chars, width in clean:
            sure = width == 1
            if self.decoder is not None:
                if self.decoder.decode(list(self.ids[max(0, tokens - 8) : tokens])).endswith("�"):
                    continue
                sure = True
            self.marks.append(Mark(tokens, chars, sure))
        del self.marks[1 : -MARKS + 1]

    def boundary(self, greedy: bool) -> Mark:
        """Where to go on. Call `fold` first. `greedy`: generating some tokens again gives the same ones."""
        limit = len(self.sent) - (0 if self.lag else self.hold)
        fitting = [mark for mark in self.marks if mark.chars <= max(0, limit)]
        last = fitting[-1]
        if last.sure or not greedy:
            return last
        near = [mark for mark in fitting if mark.sure and last.tokens - mark.tokens <= SURE_WITHIN]
        return near[-1] if near else last

    def rewind(self, mark: Mark) -> str:
        """Go on from `mark`: forget the tokens behind it. Returns the sent text that will come again."""
        del self.ids[mark.tokens :]
        self.marks = [m for m in self.marks if m.tokens <= mark.tokens]
        self.from_chars = mark.chars
        return self.sent[mark.chars :]

    def distrust(self, mark: Mark) -> None:
        """The boundary was not clean after all (a likely one that failed): never use it again."""
        if mark.tokens:
            self.marks = [m for m in self.marks if m.tokens < mark.tokens]
