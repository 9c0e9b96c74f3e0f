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

import msgspec

from seawall.decide.route.resume.policy import Decoder

MARKS = 64
"""Clean boundaries kept: a rewind further than this starts at the prompt."""
END = b"]}]}\n\n"
"""How an ordinary chunk of one choice ends behind its token ids."""
FRESH = 4096
"""Bytes of whole chunk ends that are kept before they are shortened to text and ids."""
SURE_WITHIN = 16
"""Tokens that may be generated again to begin at a boundary that is certain rather than likely."""

_texts = msgspec.json.Decoder(list[str]).decode
_groups = msgspec.json.Decoder(list[list[int]]).decode


@dataclass(frozen=True, slots=True)
class Mark:
    """A boundary: after `tokens` generated tokens the decoded answer has `chars` characters."""

    tokens: int
    chars: int
    sure: bool = True


class TokenLog:
    """Ids and text of one choice. Appending is bytes only (about 12 bytes a token); reading is for breaks."""

    __slots__ = (
        "_raw",
        "_untold",
        "decoder",
        "fresh",
        "from_chars",
        "hold",
        "ids",
        "lag",
        "mark",
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
        self.marks = [Mark(0, 0)]
        self.from_chars = 0
        self.mark = b""
        """What stands between text and id in `fresh`; set by whoever writes there."""
        self.fresh = bytearray()
        """The ends of ordinary chunks as they came: text, `mark`, one id, END. The writer calls `settle` when
        it has grown to FRESH. One append per chunk is all the writing that a stream costs."""
        self._raw = bytearray()
        """One line per chunk: the inside of a JSON string (which has no raw tab or newline), a tab, ids."""
        self._untold = 0
        """Ids in `_raw`."""

    def settle(self) -> None:
        """Move `fresh` into the record. Neither `mark` nor END can stand inside a JSON string."""
        fresh = self.fresh
        if fresh:
            self._untold += fresh.count(END)
            self._raw += fresh.replace(self.mark, b"\t").replace(END, b"\n")
            fresh.clear()

    def add(self, text: str, ids: list[int]) -> None:
        """The same from values. Raises ValueError if an id is not a token's."""
        if not all(type(token) is int and 0 <= token < 2**32 for token in ids):
            raise ValueError("token ids are whole numbers")
        self.settle()
        self._raw += msgspec.json.encode(text)[1:-1] + b"\t" + ",".join(map(str, ids)).encode() + b"\n"
        self._untold += len(ids)

    @property
    def tokens(self) -> int:
        """Tokens generated so far, in all attempts."""
        self.settle()
        return len(self.ids) + self._untold

    @property
    def nbytes(self) -> int:
        return len(self.fresh) + len(self._raw) + 4 * len(self.ids) + len(self.sent)

    def fold(self) -> None:
        """Read what was appended since the last break: ids, text, clean boundaries.

        Raises ValueError, OverflowError or msgspec.DecodeError if the engine's JSON was not what it seemed.
        """
        self.settle()
        lines = [line.partition(b"\t") for line in self._raw.split(b"\n")[:-1]]
        self._raw.clear()
        self._untold = 0
        if not lines:
            return
        # A replica's death breaks hundreds of streams at once: two decodes each, not two per chunk.
        texts = _texts(b'["' + b'","'.join([line[0] for line in lines]) + b'"]')
        groups = _groups(b"[[" + b"],[".join([line[2] for line in lines]) + b"]]")
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
