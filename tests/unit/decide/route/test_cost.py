"""What prompts are reckoned at: pictures by their size, sounds by their length, text by what engines count."""

from __future__ import annotations

import json
import struct
import time
import zlib
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.cost import UNKNOWN_IMAGE, Made, Rates, made_of, may_have_media, token_ids
from seawall.decide.route.media import HEAD, MOST_S, audio_seconds, image_size


def png(width: int, height: int, pad: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"\0" * pad) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, thumbnail: int = 0, pad: int = 0) -> bytes:
    out = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    if thumbnail:  # EXIF with a picture of its own inside, which must not be taken for this one
        out += b"\xff\xe1" + struct.pack(">H", thumbnail + 2) + (jpeg(16, 16) * thumbnail)[:thumbnail]
    out += b"\xff\xdb\x00\x43\0" + b"\1" * 64
    return out + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\0" * (9 + pad)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14)
    else:
        body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(body)) + body + b"\0" * 16


PICTURES = {
    "png": png(1024, 768),
    "jpeg": jpeg(1024, 768),
    "jpeg with a thumbnail": jpeg(1024, 768, thumbnail=60_000),
    "gif": gif(1024, 768),
    "webp": webp(b"VP8 ", 1024, 768),
    "lossless webp": webp(b"VP8L", 1024, 768),
    "extended webp": webp(b"VP8X", 1024, 768),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_says_how_large_it_is(name: str) -> None:
    assert image_size(PICTURES[name]) == (1024, 768)


@given(st.sampled_from(sorted(PICTURES)), st.integers(0, 200), st.binary(max_size=64))
def test_a_file_that_is_cut_off_or_mad_harms_nobody(name: str, keep: int, rest: bytes) -> None:
    found = image_size(PICTURES[name][:keep] + rest)
    assert found is None or (0 < found[0] <= 1 << 16 and 0 < found[1] <= 1 << 16)
    seconds = audio_seconds(PICTURES[name][:keep] + rest, 10**9)
    assert seconds is None or 0 <= seconds <= MOST_S


def wav(seconds: float, rate: int = 16_000) -> bytes:
    data = int(seconds * rate * 2)
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    head = b"RIFF" + struct.pack("<I", data + 36) + b"WAVEfmt " + form
    return head + b"data" + struct.pack("<I", data) + b"\0" * data


def flac(seconds: float, rate: int = 44_100) -> bytes:
    word = rate << 44 | 15 << 36 | int(seconds * rate)
    return b"fLaC\0\0\0\x22" + b"\0" * 10 + word.to_bytes(8, "big") + b"\0" * 16


def mp3(seconds: float) -> bytes:
    return b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 10 + b"\xff\xfb\x90\x00" + b"\0" * int(seconds * 16_000)


@pytest.mark.parametrize("data", [wav(12), flac(12), mp3(12)], ids=["wav", "flac", "mp3"])
def test_a_sound_says_how_long_it_is(data: bytes) -> None:
    assert audio_seconds(data, len(data)) == pytest.approx(12, rel=0.01)


def ogg_page(played: int, body: bytes) -> bytes:
    rest = len(body) % 255
    laces = b"\xff" * (len(body) // 255) + bytes([rest])
    return b"OggS\0\0" + struct.pack("<qIII", played, 1, 0, 0) + bytes([len(laces)]) + laces + body


def opus(seconds: int, page: int = 400) -> bytes:
    """Speech, at about 3 kbit/s: silence mostly."""
    head = ogg_page(0, b"OpusHead\1\1" + struct.pack("<HIhB", 312, 16_000, 0, 0)) + ogg_page(0, b"OpusTags")
    return head + b"".join(ogg_page(48_000 * (n + 1), b"x" * page) for n in range(seconds))


def vorbis(seconds: int) -> bytes:
    form = b"\1vorbis" + struct.pack("<IBIiiiB", 0, 2, 44_100, 0, 0, 0, 0xB8)
    return ogg_page(0, form) + b"".join(ogg_page(44_100 * (n + 1), b"x" * 5_000) for n in range(seconds))


def varying(
    seconds: float, mark: bytes = b"Xing", head: bytes = b"\xff\xfb\x90\0", hertz: int = 44_100
) -> bytes:
    one = head[1] == 0xFB
    frames = struct.pack(">I", int(seconds * hertz / (1152 if one else 576)))
    if mark == b"VBRI":
        tag = b"\0" * 32 + mark + b"\0\1" + b"\0" * 4 + b"\0" * 4 + frames
    else:
        tag = b"\0" * (32 if one else 9) + mark + b"\0\0\0\1" + frames
    return head + tag + b"\0" * int(seconds * 3_000)


def mp4(seconds: float, wide: bool) -> bytes:
    times = struct.pack(">QQIQ" if wide else ">IIII", 0, 0, 600, int(seconds * 600))
    return b"\0\0\0\x18ftypM4A " + b"\0" * 12 + b"mvhd" + bytes([wide]) + b"\0\0\0" + times + b"\0" * 99_999


SOUNDS = {
    "wav, other chunks before": wav(12)[:12] + b"bext\x09\0\0\0fmt zzzzz\0" + wav(12)[12:],
    "flac behind tags": b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 10 + flac(12),
    "opus of silence": opus(12),
    "opus, more than is looked at": opus(12, page=30_000),
    "vorbis": vorbis(12),
    "mp3 of varying rate": varying(12),
    "mp3 of varying rate, lower": varying(12, head=b"\xff\xf3\x40\xc4", hertz=22_050),
    "mp3, Fraunhofer's": varying(12, b"VBRI"),
    "m4a": mp4(12, wide=False),
    "m4a of many hours' format": mp4(12, wide=True),
}


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_sound_of_varying_rate_says_how_long_it_is(kind: str) -> None:
    data = SOUNDS[kind]
    assert audio_seconds(data[:HEAD], len(data)) == pytest.approx(12, rel=0.1)


@given(st.sampled_from(sorted(SOUNDS)), st.integers(0, 200), st.binary(max_size=64))
def test_a_sound_that_is_cut_off_or_mad_harms_nobody(name: str, keep: int, rest: bytes) -> None:
    seconds = audio_seconds(SOUNDS[name][:keep] + rest, 10**9)
    assert seconds is None or 0 <= seconds <= MOST_S


def url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{b64encode(data).decode()}"


BIG = png(1024, 768, pad=1_000_000)
SHAPES: dict[str, Any] = {
    "chat": {"type": "image_url", "image_url": {"url": url(BIG)}},
    "chat, short": {"type": "image_url", "image_url": url(BIG)},
    "responses": {"type": "input_image", "image_url": url(BIG)},
    "messages": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": b64encode(BIG).decode()},
    },
    "embeddings": {"type": "image_embeds", "image_embeds": b64encode(BIG).decode()},
    "embeddings and a grid": {
        "type": "image_embeds",
        "image_embeds": {"image_embeds": b64encode(BIG).decode(), "image_grid_thw": "AAAA"},
    },
    "a file": {"type": "file", "file": {"filename": "a.pdf", "file_data": url(BIG, "application/pdf")}},
    "a file of responses": {"type": "input_file", "file_data": url(BIG, "application/pdf")},
    "a tool's result": {
        "type": "tool_result",
        "content": [
            {"type": "image", "source": {"type": "base64", "data": b64encode(BIG).decode()}},
        ],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_of_a_megabyte_costs_what_it_shows(shape: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, SHAPES[shape]]}]
    raw = json.dumps(messages)
    assert may_have_media(raw.encode())
    cost = Rates().tokens(made_of(json.loads(raw), len(raw)))
    assert 900 < cost < 1400, cost


def wrapped(data: bytes) -> str:
    text = b64encode(data).decode()
    return "\n".join(text[i : i + 76] for i in range(0, len(text), 76))


WRITTEN = {
    "in lines": "data:image/png;base64," + wrapped(BIG),
    "in capitals": "DATA:image/PNG;BASE64," + b64encode(BIG).decode(),
    "with a name": "data:image/png;name=" + "x" * 400 + ";base64," + b64encode(BIG).decode(),
    "for URLs": "data:image/png;base64," + b64encode(BIG).decode().replace("+", "-").replace("/", "_"),
    "percent-encoded": "data:image/png;base64,"
    + b64encode(BIG).decode().replace("+", "%2B").replace("/", "%2F"),
    "without padding": url(BIG).rstrip("="),
    "not as base64": "data:image/svg+xml," + "%3Csvg%3E" * 100_000,
    "under a long address": "https://example.org/" + "a" * 900_000,
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("slashes", [False, True])
def test_an_image_costs_what_it_shows_however_its_data_is_written(how: str, slashes: bool) -> None:
    part = {"type": "image_url", "image_url": {"url": WRITTEN[how]}}
    raw = json.dumps([{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}])
    raw = raw.replace("/", "\\/") if slashes else raw  # as some languages write JSON
    cost = Rates().tokens(made_of(json.loads(raw), len(raw)))
    assert 900 < cost < 1700, cost


def test_text_beside_an_image_counts_however_it_is_escaped() -> None:
    text = "海はどこまでも広い" * 500
    raw = json.dumps([{"content": [{"type": "text", "text": text}, SHAPES["chat"]]}])
    made = made_of(json.loads(raw), len(raw))
    assert len(text) * 6 <= made.text < len(text) * 6 + 2000


@pytest.mark.parametrize(
    "head",
    [
        b"\xff\xd8" + b"\xff" * 190_000,
        b"\xff\xd8" + b"\xff\xd0" * 95_000,
        b"\xff\xd8" + b"\xff\xe1\0\2" * 47_000,
    ],
    ids=["padding", "restarts", "empty segments"],
)
def test_a_picture_that_never_comes_to_its_size_is_given_up_soon(head: bytes) -> None:
    began = time.process_time()
    for _ in range(20):
        assert image_size(head) is None
    assert time.process_time() - began < 0.2, "of CPU; to its end it would be half a second"


def test_files_as_other_programs_write_them() -> None:
    apple = b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\6abcd" + png(1024, 768)[8:]
    assert image_size(apple) == (1024, 768)
    junk = wav(12)[:12] + b"JUNK" + struct.pack("<I", 28) + b"\0" * 28 + wav(12)[12:]
    assert audio_seconds(junk, len(junk)) == pytest.approx(12, rel=0.01)
    cover = b"ID3\4\0\0" + bytes([0, 32, 0, 0]) + b"\0" * 300_000  # a cover picture of 512 KiB
    assert audio_seconds(cover, 524_298 + 12 * 16_000) == pytest.approx(12, rel=0.01)
    assert 50 < (audio_seconds(b"\xff\xf1\x50\x80" + b"\0" * 400, 480_000) or 0) < 70, "AAC"
    assert 100 < (audio_seconds(b"\x1aE\xdf\xa3" + b"\0" * 400, 480_000) or 0) < 140, "a browser's recording"
    sound = {"type": "input_audio", "input_audio": {"data": url(wav(60), "audio/wav"), "format": "wav"}}
    assert 1400 < made_of([{"content": [sound]}], 10**7).media < 1600


def test_sounds_cost_by_their_length_and_what_is_elsewhere_has_a_usual_price() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": b64encode(wav(60)).decode(), "format": "wav"}}
    raw = json.dumps([{"content": [sound]}])
    assert 1400 < made_of(json.loads(raw), len(raw)).media < 1600
    far = [{"content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
    made = made_of(far, 100)
    assert (made.text, made.ids, made.media) == (100 - len("https://example.org/a.png"), 0, UNKNOWN_IMAGE)


def test_token_ids_are_counted() -> None:
    assert token_ids(b"[1, 22, 333]") == 3 and token_ids(b"[[1,2],[3]]") == 3
    assert token_ids(b'"text"') == 0 and token_ids(b'["a","b"]') == 0 and token_ids(b"") == 0


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_value_upsets_it(value: Any) -> None:
    assert made_of(value, 1000).text <= 1000


@pytest.mark.parametrize("per_byte", [0.12, 0.25, 0.6])
def test_text_is_reckoned_by_what_this_fleets_engines_count(per_byte: float) -> None:
    rates = Rates()
    for _ in range(60):
        rates.learn(Made(text=4000), int(4000 * per_byte))
    assert rates.tokens(Made(text=10_000)) == pytest.approx(10_000 * per_byte, rel=0.02)


def test_pictures_are_reckoned_by_what_this_fleets_engines_count() -> None:
    rates = Rates()
    for _ in range(60):
        rates.learn(Made(text=400, media=1036), 100 + 3000)
    assert rates.tokens(Made(text=400, media=1036)) == pytest.approx(3100, rel=0.03)
    assert rates.text == 0.25, "the text's rate is its own"
