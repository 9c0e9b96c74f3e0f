"""What a prompt costs in tokens, reckoned from what it is before an engine has counted it.

Text by the ratio seen on this fleet, lists of token ids by their number, pictures by their dimensions, sounds by their
seconds. What engines count afterwards corrects the rates; the accounts are settled from it in any case. Forbidden here:
keeping any part of a prompt.
"""

from __future__ import annotations

from binascii import Error, a2b_base64
from math import ceil
from typing import Any, Final
from urllib.parse import unquote

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
DATA: Final = 1_000
"""Where `;base64,` must stand in a data URL."""
SMALL: Final = 16_384
"""Bytes of a prompt in which embeddings and files are not looked for: as text they are no more than a picture."""
PER_CHARACTER: Final = 6
PER_PART: Final = 256
"""Bytes that a character of text takes at most as JSON, and a part of a message besides: what is more in a prompt with
media is the escapes of their data."""


_URL_SAFE: Final = str.maketrans("-_", "+/")


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
    if holds(prompt, b"_url") or holds(prompt, b"input_") or (messages and holds(prompt, b'"source"')):
        return True
    return len(prompt) > SMALL and (holds(prompt, b"_embeds") or holds(prompt, b"file_data"))


def made_of(parsed: Any, size: int) -> Made:
    """Of a prompt with media: the JSON value, and how many bytes it was. Never raises."""
    media, apart, most = 0, 0, 0
    todo: list[Any] = [parsed]
    while todo:
        value = todo.pop()
        if type(value) is str:
            most += PER_CHARACTER * len(value)
            continue
        most += PER_PART
        if type(value) is dict:
            tokens, taken = _part(value)
            media += tokens
            apart += taken
            if not taken:
                most += PER_CHARACTER * sum(map(len, value))
                todo += value.values()
        elif type(value) is list:
            todo += value
    text = max(0, size - apart)
    return Made(text=min(text, most) if apart else text, media=media)


def _part(part: dict[str, Any]) -> tuple[int, int]:
    """Tokens of one part of a message that is a picture or a sound, and the characters of its data or address (at least
    1); (0, 0): it is neither."""
    for kind in ("image_url", "audio_url", "video_url", "input_image", "input_video"):
        value = part.get(kind)
        url = value.get("url") if type(value) is dict else value
        if type(url) is str:
            return _url(kind, url), max(1, len(url))
    if (data := _opaque(part)) is not None:
        return UNKNOWN_IMAGE, max(1, data)
    audio, source = part.get("input_audio"), part.get("source")
    if type(audio) is dict and type(audio.get("data")) is str:
        sound: str = audio["data"]
        return _url("audio", sound) if _is_data(sound) else _blob("audio", sound, 0), max(1, len(sound))
    if type(source) is dict and part.get("type") in ("image", "document"):
        if type(source.get("data")) is str and source.get("type") == "base64":
            return _blob("image", source["data"], 0), max(1, len(source["data"]))
        if type(source.get("url")) is str:
            return _url("image", source["url"]), max(1, len(source["url"]))
    return 0, 0


def _opaque(part: dict[str, Any]) -> int | None:
    """Characters of embeddings or of a file, into which nobody looks here; None: it is neither."""
    for kind in ("image_embeds", "audio_embeds", "video_embeds"):
        value = part.get(kind)
        if type(value) is str:
            return len(value)
        if type(value) is dict:
            return sum(len(one) for one in value.values() if type(one) is str)
    held = part.get("file")
    data = held.get("file_data") if type(held) is dict else part.get("file_data")
    return len(data) if type(data) is str else None


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _url(kind: str, url: str) -> int:
    if _is_data(url):
        at = url[:DATA].lower().find(";base64,")
        if at >= 0:
            known = url[5:at].split("/", 1)[0].lower()
            return _blob(known if known in ("image", "audio", "video") else kind, url, at + 8)
    if "audio" in kind:
        return int(UNKNOWN_AUDIO_S * AUDIO_PER_S)
    return MOST_VIDEO // 4 if "video" in kind else UNKNOWN_IMAGE


def _blob(kind: str, text: str, at: int) -> int:
    """Tokens of base64 data that begins at `at`."""
    head, size = _head(text, at), max(0, len(text) - at) * 3 // 4
    if kind.startswith("audio"):
        seconds = audio_seconds(head, size)
        return ceil((UNKNOWN_AUDIO_S if seconds is None else seconds) * AUDIO_PER_S)
    if kind.startswith("video"):
        return min(MOST_VIDEO, ceil(size * 8 / (VIDEO_KBIT * 1000) * VIDEO_PER_S))
    found = image_size(head)
    return UNKNOWN_IMAGE if found is None else image_tokens(*found)


def image_tokens(width: int, height: int) -> int:
    """Of one picture of so many pixels."""
    return min(MOST_IMAGE, ceil(width / PATCH) * ceil(height / PATCH))


def _head(text: str, at: int) -> bytes:
    """The first bytes of base64 text; empty: it is none."""
    piece = text[at : at + HEAD * 4 // 3]
    if "%" in piece:
        piece = unquote(piece)
    piece = "".join(piece.split()).translate(_URL_SAFE)
    try:
        return a2b_base64(piece[: len(piece) // 4 * 4])
    except (Error, ValueError):
        return b""
