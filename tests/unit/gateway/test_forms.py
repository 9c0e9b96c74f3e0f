"""Routes for audio and images: forms with files, whose model is found, and answers that are heard as they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.gateway.conftest import split
from tests.unit.gateway.scripted import ANSWER, JSON_ANSWER, Bench, with_bench

from seawall.gateway.intake.forms import Form, read_form
from seawall.gateway.intake.manners import POWERS

FILE = bytes(range(256)) * 3 + b"\r\n--not the boundary\r\n"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--b0u\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b0u--\r\n"


AUDIO = part("file", FILE, '; filename="a.wav"\r\nContent-Type: audio/wav')
TYPE = b"multipart/form-data; boundary=b0u"


def sent(body: bytes, path: bytes = b"/v1/audio/transcriptions", content_type: bytes = TYPE) -> bytes:
    top = b"POST %b HTTP/1.1\r\nHost: g\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return top % (path, content_type, len(body)) + body


def with_room(b: Bench) -> Bench:
    b.app.max_body = 1 << 20
    b.fleet.spec = b.fleet.spec.__class__(**{**vars(b.fleet.spec), "max_body": 1 << 20})
    return b


@pytest.mark.parametrize(
    "path", [b"/v1/audio/transcriptions", b"/v1/audio/translations", b"/v1/images/edits"]
)
@pytest.mark.parametrize("order", [0, 1])
def test_the_model_is_found_in_the_form_and_the_file_is_passed_on(path: bytes, order: int) -> None:
    def script(b: Bench) -> None:
        with_room(b)
        body = form(*[AUDIO, part("model", b"m")][:: 1 - 2 * order], part("language", b"en"))
        b.client.data_received(sent(body, path))
        top, _, got = bytes(b.up_pipe.out).partition(b"\r\n\r\n")
        assert got == body and b"content-type: " + TYPE in top and top.startswith(b"POST " + path)
        assert b"application/json" not in top
        b.up.data_received(JSON_ANSWER)
        assert bytes(b.pipe.out).endswith(ANSWER)

    with_bench(script)


def test_an_alias_is_replaced_and_an_unknown_model_is_none() -> None:
    def script(b: Bench) -> None:
        with_room(b)
        b.client.data_received(sent(form(part("model", b"gpt-4"), AUDIO)))
        assert bytes(b.up_pipe.out).endswith(form(part("model", b"m"), AUDIO))
        client, pipe = b.connect()
        client.data_received(sent(form(part("model", b"nope"), AUDIO)))
        assert pipe.out.startswith(b"HTTP/1.1 404")

    with_bench(script)


WRONG: dict[str, tuple[bytes, bytes]] = {
    "two models": (TYPE, form(part("model", b"m"), part("model", b"other"), AUDIO)),
    "a model that is a file": (TYPE, form(part("model", b"m", '; filename="m"'), AUDIO)),
    "a long model": (TYPE, form(part("model", b"m" * 10_000), AUDIO)),
    "cut": (TYPE, form(part("model", b"m"), AUDIO)[:-30]),
    "another boundary": (b"multipart/form-data; boundary=x", form(part("model", b"m"))),
    "no boundary": (b"multipart/form-data", form(part("model", b"m"))),
    "a boundary with a space": (b'multipart/form-data; boundary="b 0u"', form(part("model", b"m"))),
    "two boundaries": (b"multipart/form-data; boundary=b0u; boundary=x", form(part("model", b"m"))),
    "nothing": (TYPE, b""),
    "many parts": (TYPE, form(*[part(f"f{n}", b"") for n in range(1_000)])),
    "a part without a name": (TYPE, form(b"--b0u\r\nContent-Disposition: form-data\r\n\r\nx\r\n")),
    "a part without headers": (TYPE, form(b"--b0u\r\n\r\nx\r\n", part("model", b"m"))),
    "two names": (TYPE, form(part("model", b"m", '\r\nContent-Disposition: form-data; name="x"'))),
    "a huge head": (TYPE, form(part("model", b"m", "\r\nX: " + "a" * 10_000))),
    "a preamble": (TYPE, b"x\r\n" + form(part("model", b"m"))),
    "bare LF": (TYPE, form(part("model", b"m")).replace(b"\r\n", b"\n")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_form_that_could_be_read_in_two_ways_is_refused(name: str) -> None:
    def script(b: Bench) -> None:
        with_room(b)
        content_type, body = WRONG[name]
        b.client.data_received(sent(body, content_type=content_type))
        status, _, said = split(bytes(b.pipe.out))
        assert (status, json.loads(said)["error"]["code"]) == (400, "invalid_form") and not b.up_pipe.out

    with_bench(script)


def test_a_form_on_a_route_for_json_is_no_json() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(sent(form(part("model", b"m")), b"/v1/completions"))
        assert b.pipe.out.startswith(b"HTTP/1.1 400") and not b.up_pipe.out

    with_bench(script)


@pytest.mark.parametrize(
    "kind", [b"audio/mpeg", b"audio/pcm;rate=24000", b"text/event-stream; charset=utf-8"]
)
def test_audio_and_events_are_heard_as_they_come(kind: bytes) -> None:
    def script(b: Bench) -> None:
        with_room(b)
        b.client.data_received(sent(form(part("model", b"m"), AUDIO)))
        b.up.data_received(
            b"HTTP/1.1 200 OK\r\nContent-Type: "
            + kind
            + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        )
        assert b"first" in b.pipe.out, "not held until it is whole"
        b.up.data_received(b"4\r\nlast\r\n0\r\n\r\n")
        _, headers, body = split(bytes(b.pipe.out))
        assert body == b"firstlast" and headers["content-type"] == kind.decode() and headers["cut"] == "False"

    with_bench(script)


def test_json_of_these_routes_is_json() -> None:
    def script(b: Bench) -> None:
        for path in (b"/v1/audio/speech", b"/v1/images/generations"):
            ask: dict[str, Any] = {"model": "gpt-4", "input": "hello"}
            b.client.data_received(sent(json.dumps(ask).encode(), path, b"application/json"))
            assert b.sent_upstream()[1] == {**ask, "model": "m"}
            b.up.data_received(JSON_ANSWER)
            b.up_pipe.out.clear()

    with_bench(script)


def test_what_a_form_is_read_as() -> None:
    found = read_form(b'Multipart/Form-Data;  boundary="b0u"', form(AUDIO, part("vllm_xargs", b"{}")))
    assert isinstance(found, Form) and found.model is None and found.names == {"file", "vllm_xargs"}
    assert "vllm_xargs" in POWERS, "and so tenants may not send it"
