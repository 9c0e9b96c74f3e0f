"""What tenants may ask of engines that they share: fields, media, and whose prompts are cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.gateway.conftest import SPEC, FakeEngine, Gateway, Start
from tests.unit.gateway.test_front import keys_of

from seawall.config.load import parse_fleets
from seawall.decide.route.prefix import BLOCK_BYTES
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.manners import POWERS, Manners, manners_of, misses_manners, refuse_url, salt_of
from seawall.gateway.intake.peek import blocks, peek

MINE = msgspec.Raw(b'"mine"')
SHARED = "tenants: [{name: a}, {name: b}]"


def manners(gateway: str = SHARED) -> Manners:
    fleet = parse_fleets(SPEC.replace('{resume: "off",', f'{{{gateway}, resume: "off",'))[0]
    return manners_of(fleet.spec.gateway)


ALONE = manners("retries: 3")


@pytest.mark.parametrize("field", sorted(POWERS))
def test_what_gives_power_over_an_engine_is_for_fleets_without_strangers(field: str) -> None:
    body = json.dumps({"model": "m", "prompt": "x", field: {"a": 1}}).encode()
    refusal = misses_manners(body, manners())
    assert refusal is not None and refusal.code == "field_not_allowed" and refusal.param == field
    assert misses_manners(body, ALONE) is None
    escaped = body.replace(f'"{field}'.encode(), b'"\\u%04x%b' % (ord(field[0]), field[1:].encode()))
    assert misses_manners(escaped, manners()) is not None, "however it is spelt"
    assert misses_manners(body, manners(f"{SHARED}, allowFields: [{field}]")) is None
    assert misses_manners(body, manners(f"refuseFields: [{field}]")) is not None


def test_templates_and_tensors_come_in_by_no_back_door() -> None:
    for name in ("chat_template", "tokenize"):
        body = json.dumps({"messages": [], "chat_template_kwargs": {name: "x"}}).encode()
        assert misses_manners(body, manners()) is not None and misses_manners(body, ALONE) is None
    fine = json.dumps({"messages": [], "chat_template_kwargs": {"enable_thinking": False}}).encode()
    assert misses_manners(fine, manners()) is None


def chat(part: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()


@pytest.mark.parametrize("kind", ["image_embeds", "audio_embeds", "video_embeds", "prompt_embeds"])
def test_a_tensor_is_refused_however_its_part_is_told(kind: str) -> None:
    """vLLM takes the kind of a part without a type, or with a `uuid`, from its keys."""
    for part in ({"type": kind, kind: "A"}, {kind: "A"}, {"type": "image_url", "uuid": "u", kind: "A"}):
        assert misses_manners(chat(part), manners()) is not None
        assert misses_manners(chat(part), ALONE) is None
        assert misses_manners(chat(part), manners(f"{SHARED}, allowFields: [{kind}]")) is None


WHERE = [
    lambda u: chat({"type": "image_url", "image_url": {"url": u}}),
    lambda u: chat({"type": "image_url", "image_url": u}),
    lambda u: chat({"image_url": u}),
    lambda u: chat({"type": "audio_url", "audio_url": {"url": u}}),
    lambda u: chat({"type": "video_url", "video_url": {"url": u}}),
    lambda u: chat({"type": "image", "source": {"type": "url", "url": u}}),
    lambda u: chat(
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": u}}]}
    ),
    lambda u: json.dumps(
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": u}]}]}
    ).encode(),
    lambda u: json.dumps({"input": [{"content": [{"type": "input_file", "file_url": u}]}]}).encode(),
    lambda u: json.dumps(
        {"documents": {"content": [{"type": "image_url", "image_url": {"url": u}}]}}
    ).encode(),
    lambda u: chat({"type": "image_url", "image_url": {"url": u}}).replace(b"image_url", b"image\\u005furl"),
]


@pytest.mark.parametrize("where", range(len(WHERE)))
@pytest.mark.parametrize(
    ("url", "alone", "strict", "listed"),
    [
        ("data:image/png;base64,AAAA", True, True, True),
        ("https://img.example.com/a.png?b=c#d", True, False, True),
        ("HTTPS://IMG.example.com:8443/a", True, False, True),
        ("http://169.254.169.254/latest/meta-data", True, False, False),
        ("https://img.example.com.evil.net/", True, False, False),
        ("https://img.example.com@evil.net/", True, False, False),
        ("https://evil.net\\@img.example.com/", True, False, False),
        ("https://img.example.com\\@evil.net/", True, False, False),
        ("https://img.example.com\t.evil.net/", True, False, False),
        ("https:/\\evil.net/", True, False, False),
        ("//img.example.com/a", True, False, False),
        ("ftp://img.example.com/a", True, False, False),
        ("file:///etc/passwd", False, False, False),
        ("FiLe:/etc/passwd", False, False, False),
        (" file:///etc/passwd", False, False, False),
    ],
)
def test_media_are_fetched_from_where_the_fleet_allows(
    where: int, url: str, alone: bool, strict: bool, listed: bool
) -> None:
    body = WHERE[where](url)
    some = manners(f"{SHARED}, mediaHosts: [img.example.com]")
    assert [misses_manners(body, m) is None for m in (ALONE, manners(), some)] == [alone, strict, listed]
    assert (misses_manners(body, manners(f"{SHARED}, mediaHosts: ['*']")) is None) is alone


@pytest.mark.parametrize("part", [
    {"type": "text", "text": "see https://example.com/image_url and file:///etc/passwd"},
    {"type": "tool_use", "name": "open", "input": {"url": "https://example.com", "image_url": "file:///a"}},
    {"type": "image", "source": {"type": "base64", "data": "AAAA"}}])  # fmt: skip
def test_what_is_only_written_about_is_no_media(part: Any) -> None:
    tools = [{"function": {"parameters": {"properties": {"image_url": {"default": "http://a"}}}}}]
    body = json.dumps({**json.loads(chat(part)), "tools": tools}).encode()
    assert misses_manners(body, manners()) is None and misses_manners(body, ALONE) is None


def test_keys_of_routes_about_media_count_there() -> None:
    body = b'{"prompt":"x","image":["http://a/b"]}'
    assert misses_manners(body, manners()) is None
    assert misses_manners(body, manners(), "images") is not None
    assert misses_manners(b'{"prompt":"http://a","image":"AAAA"}', manners(), "speech") is None
    assert refuse_url("", frozenset()) is None


async def ask(gateway: Gateway, secret: str, body: bytes, path: str = "/v1/completions") -> int:
    return (await gateway.post(path, body, Authorization=f"Bearer {secret}"))[0]


async def test_tenants_do_not_share_a_prefix_cache(start: Start, engine: FakeEngine, tmp_path: Path) -> None:
    file, (a, b) = keys_of(tmp_path, "k.json", "a", "b")

    async def salts(more: str) -> list[Any]:
        engine.log.clear()
        spec = SPEC.replace(
            '{resume: "off",', f'{{keysFile: {file}, {SHARED}, aliases: {{x: m}}, {more} resume: "off",'
        )
        gateway = await start(engine, spec=spec)
        for secret, body in ((a, b'{"model":"m"}'), (a, b'{"model":"x" }\n'), (b, b'{"model":"m"}'),
                             (a, b'{"model":"m","cache_salt":"mine"}'), (b, b'{"model":"m","cache\\u005fsalt":"mine"}'),
                             (b, b'{"cache_salt":"%b","cache_salt":7}' % salt_of("m", "a").encode()),
                             (a, b'{}'), (a, b'{"model":"m","stream":true,"prompt":"y"}')):  # fmt: skip
            assert await ask(gateway, secret, body) == 200
        return [data.get("cache_salt") for _, _, data in engine.log]

    of_a, of_b = salt_of("m", "a"), salt_of("m", "b")
    got = await salts("")
    assert got == [of_a, of_a, of_b, salt_of("m", "a", MINE), salt_of("m", "b", MINE), of_b, of_a, of_a]
    assert len({*got}) == 4 and all(len(s) == 43 and not set(s) & set("@/\\") for s in got)
    assert await salts("cachePerTenant: false,") == [None, None, None, "mine", "mine", 7, None, None]


async def test_without_tenants_a_salt_is_the_clients_own(start: Start, engine: FakeEngine) -> None:
    gateway = await start(engine)
    await gateway.post("/v1/completions", {"model": "m", "cache_salt": "mine"})
    await gateway.post("/v1/completions", {"model": "m"})
    assert [data.get("cache_salt") for _, _, data in engine.log] == ["mine", None]


async def test_a_clients_priority_does_not_override_its_tenants(
    start: Start, engine: FakeEngine, tmp_path: Path
) -> None:
    file, (a,) = keys_of(tmp_path, "k.json", "a")
    spec = SPEC.replace('{resume: "off",', f'{{keysFile: {file}, {SHARED}, resume: "off",')
    gateway = await start(engine, spec=spec)
    assert await ask(gateway, a, b'{"model":"m","priority":-9}') == 400 and not engine.log
    assert (
        await ask(gateway, a, chat({"type": "image_url", "image_url": "http://a/b"}), "/v1/chat/completions")
        == 400
    )


def test_the_routing_index_is_salted_alike() -> None:
    body = peek(json.dumps({"prompt": "x" * 3 * BLOCK_BYTES}).encode())
    assert isinstance(body, Body)
    found = {tuple(blocks(body, salt)) for salt in ("", "a", "b")}
    assert len(found) == 3 and len({b for row in found for b in row}) == 9
