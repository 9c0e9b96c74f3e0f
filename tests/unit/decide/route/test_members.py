"""Large bodies are cut into the members that a decoder finds in them, and rewritten without reading them again."""

from __future__ import annotations

import json
import tracemalloc
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route import members as m
from seawall.decide.route.resume import Policy, StreamSession

DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def values(fields: dict[str, msgspec.Raw]) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in fields.items()}


@given(
    st.dictionaries(st.text(), VALUES, max_size=6),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.dictionaries(st.sampled_from(["model", "a", "", "x"]), VALUES, max_size=3),
)
def test_members_are_what_a_decoder_finds(
    doc: dict[str, Any], indent: Any, ascii_: bool, new: dict[str, Any]
) -> None:
    body = json.dumps(doc, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    try:
        expected = values(DECODER.decode(body))
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    found = m.read_members(body)
    assert values(found.fields) == expected
    try:
        wanted = {name: msgspec.json.encode(value) for name, value in new.items()}
    except UnicodeEncodeError:
        return
    changed = found.with_fields(wanted)
    assert values(changed.fields) == values(DECODER.decode(changed.body)) == {**expected, **wanted}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"a":1', b'{"a":[1}', b'{"a" 1}', b'{"a":"\\"}', b'{"a":1}x', b'{a:1}', b'{"a":1,}', b"{,}",
     b'{"a":}',
     b'{"a":1 "b":2}', b'{"\xff":1}', b'{"a":"\xff"}'],
)  # fmt: skip
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(m.Unreadable):
        m.read_members(body)


@pytest.mark.parametrize("window", [3, 4, 7, 16])
def test_windows_change_nothing(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "WINDOW", window)
    text = 'a\\"[é]{\\\\' * 20
    doc = {"a": [1, {"b": text}, text], "c": {"x": [[], {}]}, "d": text, "e": 1e5}
    body = json.dumps(doc, ensure_ascii=False).encode()
    assert values(m.read_members(body).fields) == values(DECODER.decode(body))


def test_keys_and_values_are_bounded_and_honest_bodies_pass() -> None:
    keys = b'{"model":"m",' + b",".join(b'"k%d":1' % n for n in range(750_000)) + b"}"
    with pytest.raises(m.Unreadable) as refused:
        m.read_members(keys)
    assert refused.value.refusal.code == "too_many_keys"
    with pytest.raises(m.Unreadable) as refused:
        m.read_members(b'{"x":[' + b",".join([b"[]"] * 150_000) + b"]}")
    assert refused.value.refusal.code == "too_many_values"
    assert m.read_members(b'{"prompt":[' + b",".join([b"12345"] * 1_000_000) + b"]}").fields.keys() == {
        "prompt"
    }
    honest = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a: b, " * 9000}]}).encode()
    assert not m.has_too_many_keys(honest, len(honest) - 40)
    assert m.has_too_many_keys(keys[:60_000] + b"}", 0)


@pytest.mark.parametrize("fields", [{}, {"stream_options": {"x": 1}}, {"temperature": 0}, {"seed": 3}])
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_large_request_is_the_same_session_and_is_held_once(route: str, fields: dict[str, Any]) -> None:
    text = "wall " * 200_000
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": text}],
                       "prompt": text, **fields}).encode()  # fmt: skip
    tracemalloc.start()
    members = m.read_members(body)
    members.look_for_parts()
    large = StreamSession(route, body, Policy(), Random(1), members)
    size = len(body)
    del members, body
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 0.2 * size or held < 1.2 * size, "the client's own form is gone, or is what is sent"
    small = StreamSession(route, bytes(json.dumps(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}], "prompt": text, **fields}
    ).encode()), Policy(), Random(1))  # fmt: skip
    assert large.row.name == small.row.name
    assert json.loads(large.first_request()) == json.loads(small.first_request())


@pytest.mark.parametrize(
    ("part", "shown"),
    [({"type": "text", "text": "a"}, False), ({"type": "image_url", "image_url": {}}, True)],
)
def test_parts_that_are_no_text_are_seen(part: dict[str, Any], shown: bool) -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": 'say "type": "image"' * 5000}, part]}]
    members = m.read_members(json.dumps({"messages": said}).encode())
    members.look_for_parts()
    assert members.shows_parts is shown
