"""What a prompt costs in tokens, reckoned from what it is before an engine has counted it.

Text by the ratio seen on this fleet, lists of token ids by their number, pictures by their dimensions, sounds by their
seconds. What engines count afterwards corrects the rates; the accounts are settled from it in any case. Forbidden here:
keeping any part of a prompt.
"""

from __future__ import annotations

from binascii import Error, a2b_base64
from math import ceil
from typing import Any, Final

from seawall.decide.route.media import HEAD, audio_seconds, image_size
from seawall.decide.route.scan import holds

PATCH: Final = 28
"""Pixels of the square that becomes one token, as in Qwen's and most newer models; corrected by what engines count."""
MOST_IMAGE: Final = 16_384
"""Tokens of one picture: engines scale larger ones down."""
UNKNOWN_IMAGE: Final = 1_024
"""Tokens of a picture that is fetched from elsewhere or cannot be read."""
AUDIO_PER_S: Final = 25.0
UNKNOWN_AUDIO_S: Final = 30.0
VIDEO_PER_S: Final = 300.0
VIDEO_KBIT: Final = 1_000
MOST_VIDEO: Final = 32_768
TEXT_PER_BYTE: Final = 1 / 4
LEARN: Final = 0.1
DATA: Final = 100
"""Where `;base64,` must stand in a data URL."""


class Made:
    """What a prompt is made of. A plain class, as all that is made for every request: compiled, it costs a sixth of a
    tuple with names."""

    __slots__ = ("ids", "media", "text")

    def __init__(self, text: int = 0, ids: int = 0, media: int = 0) -> None:
        self.text: Final = text
        """Bytes as the client wrote them."""
        self.ids: Final = ids
        """Token ids."""
        self.media: Final = media
        """Tokens of pictures and sounds, by PATCH and AUDIO_PER_S."""


NOTHING_MADE: Final = Made()


class Rates:
    """What engines of one fleet make of it."""

    __slots__ = ("media", "text")

    def __init__(self) -> None:
        self.text = TEXT_PER_BYTE
        """Tokens per byte."""
        self.media = 1.0
        """Tokens that engines count for one that was reckoned."""

    def tokens(self, made: Made) -> int:
        """What the prompt will probably cost."""
        return int(made.text * self.text + made.ids + made.media * self.media) + 1

    def learn(self, made: Made, counted: int) -> None:
        """An engine has counted it."""
        if counted <= 0:
            return
        if not made.media:
            if made.text >= 64:
                self.text += LEARN * (min(2.0, max(0.02, (counted - made.ids) / made.text)) - self.text)
            return
        rest = counted - made.ids - made.text * self.text
        if rest > 0 and made.media * 2 >= made.text * self.text:
            self.media += LEARN * (min(8.0, max(0.05, rest / made.media)) - self.media)


def token_ids(raw: bytes | memoryview) -> int:
    """How many numbers a JSON list of token ids has, or lists of them; 0: it is none."""
    start = bytes(raw[:64]).replace(b" ", b"").replace(b"\n", b"").lstrip(b"[")
    if not start[:1].isdigit() or bytes(raw[:1]) != b"[":
        return 0
    return bytes(raw).count(b",") + 1


def may_have_media(prompt: bytes, messages: bool = True) -> bool:
    """Whether a prompt has any of the words without which there are no pictures, sounds or videos in it. `messages`: it
    may be one of /v1/messages, where each has a `source`."""
    return holds(prompt, b"_url") or holds(prompt, b"input_") or (messages and holds(prompt, b'"source"'))


def made_of(parsed: Any, size: int) -> Made:
    """Of a prompt with media: the JSON value, and how many bytes it was. Never raises."""
    media, apart = 0, 0
    todo: list[Any] = [parsed]
    while todo:
        value = todo.pop()
        if type(value) is dict:
            tokens, taken = _part(value)
            media += tokens
            apart += taken
            if not taken:
                todo += [v for v in value.values() if type(v) is dict or type(v) is list]
        elif type(value) is list:
            todo += [v for v in value if type(v) is dict or type(v) is list]
    return Made(text=max(0, size - apart), media=media)


def _part(part: dict[str, Any]) -> tuple[int, int]:
    """Tokens of one part of a message that is a picture or a sound, and the bytes of its data (at least 1); (0, 0): it
    is neither."""
    for kind in ("image_url", "audio_url", "video_url", "input_image", "input_video"):
        value = part.get(kind)
        url = value.get("url") if type(value) is dict else value
        if type(url) is str:
            return _url(kind, url)
    audio, source = part.get("input_audio"), part.get("source")
    if type(audio) is dict and type(audio.get("data")) is str:
        return _blob("audio", audio["data"], 0)
    if type(source) is dict and part.get("type") in ("image", "document"):
        if type(source.get("data")) is str and source.get("type") == "base64":
            return _blob("image", source["data"], 0)
        if type(source.get("url")) is str:
            return UNKNOWN_IMAGE, 1
    return 0, 0


def _url(kind: str, url: str) -> tuple[int, int]:
    if url.startswith("data:"):
        at = url.find(";base64,", 0, DATA)
        if at >= 0:
            mime = url[5:at]
            known = mime.split("/", 1)[0]
            return _blob(known if known in ("image", "audio", "video") else kind, url, at + 8)
    if "audio" in kind:
        return int(UNKNOWN_AUDIO_S * AUDIO_PER_S), 1
    return MOST_VIDEO // 4 if "video" in kind else UNKNOWN_IMAGE, 1


def _blob(kind: str, text: str, at: int) -> tuple[int, int]:
    """Tokens of base64 data that begins at `at`, and its length as text."""
    head, size = _head(text, at), max(0, len(text) - at) * 3 // 4
    if kind.startswith("audio"):
        seconds = audio_seconds(head, size)
        return ceil((UNKNOWN_AUDIO_S if seconds is None else seconds) * AUDIO_PER_S), max(1, len(text))
    if kind.startswith("video"):
        return min(MOST_VIDEO, ceil(size * 8 / (VIDEO_KBIT * 1000) * VIDEO_PER_S)), max(1, len(text))
    found = image_size(head)
    if found is None:
        return UNKNOWN_IMAGE, max(1, len(text))
    return image_tokens(*found), max(1, len(text))


def image_tokens(width: int, height: int) -> int:
    """Of one picture of so many pixels."""
    return min(MOST_IMAGE, ceil(width / PATCH) * ceil(height / PATCH))


def _head(text: str, at: int) -> bytes:
    """The first bytes of base64 text; empty: it is none."""
    piece = text[at : at + HEAD * 4 // 3]
    try:
        return a2b_base64(piece[: len(piece) // 4 * 4])
    except (Error, ValueError):
        return b""
