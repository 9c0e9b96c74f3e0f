"""What the gateway says itself: refusals that can be read and traced, hints, pages, credentials, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.gateway.conftest import SPEC, FakeEngine, Gateway, Start, split
from tests.unit.gateway.scripted import ASK, JSON_ANSWER, Bench, post, with_bench

from seawall.gateway.tell import keyring
from seawall.gateway.tell.keyring import KeyRing, Keys


def told(b: Bench, request: bytes) -> tuple[int, dict[str, str], Any]:
    client, pipe = b.connect()
    client.data_received(request)
    status, headers, body = split(bytes(pipe.out))
    return status, headers, json.loads(body) if body else None


EARLY = {
    "no key": post(ASK, b"Origin: http://a\r\nX-Request-Id: mine\r\n"),
    "too large": b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nOrigin: http://a\r\nX-Request-Id: mine\r\n"
    b"Content-Length: 99999\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\nOrigin: http://a\r\nX-Request-Id: mine\r\n\r\n",
    "head": b"GET /health HTTP/1.1\r\nHost: g\r\nOrigin: http://a\r\nX-Request-Id: mine\r\n"
    + b"A: b\r\n" * 200
    + b"\r\n",
    "encoding": b"POST / HTTP/1.1\r\nHost: g\r\nOrigin: http://a\r\nX-Request-Id: mine\r\n"
    b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "twice": b"GET / HTTP/1.1\r\nHost: g\r\nHost: g\r\nOrigin: http://a\r\nX-Request-Id: mine\r\n\r\n",
    "broken behind them": b"GET / HTTP/1.1\r\nHost: g\r\nOrigin: http://a\r\nX-Request-Id: mine\r\nZ: z\r\n"
    b"A : b\r\n\r\n",
}


@pytest.mark.parametrize("name", EARLY)
def test_every_early_refusal_can_be_traced_and_read_by_a_web_page(name: str) -> None:
    def script(b: Bench) -> None:
        if name == "no key":
            b.app.keys, b.app.keys_for_all = KeyRing(), True
        b.app.origins = frozenset({"http://a"})
        b.app.wanted = b.app.wanted | {b"origin"}
        status, headers, body = told(b, EARLY[name])
        assert 400 <= status < 500 and body["error"]["code"]
        assert headers["x-request-id"] == "mine" and headers["access-control-allow-origin"] == "http://a"

    with_bench(script)


AWS = "Root=1-67891233-abcdef012345678912345678"
"""A request's id as AWS's load balancers give it."""
FROM_A = f"Origin: http://a\r\nX-Request-Id: {AWS}\r\n".encode()
LATER = {
    404: post(ASK, FROM_A, path=b"/v1/nowhere"),
    405: b"PUT /v1/embeddings HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n" + FROM_A + b"\r\n",
    415: post(ASK, FROM_A + b"Content-Encoding: br\r\n"),
}


def traced(status: int, headers: dict[str, str], body: bytes) -> int:
    """The status of a refusal that a page of http://a can read, and that has the id it was asked under."""
    assert json.loads(body)["error"]["code"]
    assert headers["x-request-id"] == AWS and headers["access-control-allow-origin"] == "http://a"
    assert "x-request-id" in headers["access-control-expose-headers"].lower()
    return status


@pytest.mark.parametrize("status", LATER)
def test_a_refusal_of_what_was_read_can_be_traced_and_read_by_a_web_page(status: int) -> None:
    def script(b: Bench) -> None:
        b.app.origins = frozenset({"http://a"})
        b.app.wanted = b.app.wanted | {b"origin"}
        b.client.data_received(LATER[status])
        assert traced(*split(bytes(b.pipe.out))) == status

    with_bench(script)


@pytest.mark.parametrize("stream", [False, True])
async def test_so_can_one_for_want_of_places_or_replicas(
    start: Start, engine: FakeEngine, tmp_path: Path, stream: bool
) -> None:
    file, (secret,) = keys_of(tmp_path, "k.json", "a")
    more = f"allowedOrigins: [http://a], keysFile: {file}, tenants: [{{name: a, tokenQuota: 1}}], "
    gateway = await start(engine, spec=SPEC.replace('{resume: "off",', f'{{{more}resume: "off",'))
    asks = {"model": "m", "prompt": "x", "stream": stream}
    headers = {"Authorization": f"Bearer {secret}", "Origin": "http://a", "X-Request-Id": AWS}
    assert traced(*await gateway.post("/v1/completions", asks, **headers)) == 429
    away = await start(spec=SPEC.replace('{resume: "off",', '{allowedOrigins: [http://a], resume: "off",'))
    assert traced(*await away.post("/v1/completions", asks, Origin="http://a", X_Request_Id=AWS)) == 503


def test_what_is_no_http_at_all_gets_an_id_too() -> None:
    def script(b: Bench) -> None:
        assert told(b, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")[1]["x-request-id"].startswith("req-")

    with_bench(script)


@pytest.mark.parametrize(("path", "meant"), [
    ("/chat/completions", "/v1/chat/completions"), ("/v1/chat/completions/", "/v1/chat/completions"),
    ("/v1/v1/chat/completions", "/v1/chat/completions"), ("//v1/embeddings", "/v1/embeddings"),
    ("/V1/Completions", "/v1/completions"), ("/v1/chat/completion", "/v1/chat/completions"),
    ("/messages", "/v1/messages"), ("/v1/chat%2Fcompletions", "/v1/chat/completions"),
    ("/openai/v1/responses", "/v1/responses"), ("/models", "/v1/models"), ("/sleep", ""), ("/", ""),
    ("/" + "a" * 5000, "")])  # fmt: skip
def test_a_path_that_is_not_there_names_the_one_that_was_meant(path: str, meant: str) -> None:
    def script(b: Bench) -> None:
        status, _, body = told(b, post(ASK, path=path.encode()))
        message = body["error"]["message"]
        assert status == 404 and not b.up_pipe.out
        assert (f"Did you mean {meant}?" in message) if meant else ("mean" not in message)

    with_bench(script)


@pytest.mark.parametrize("path", ["/v1/files", "/v1/files/f-1/content", "/v1/batches"])
def test_files_and_batches_without_a_lane_say_what_turns_it_on(path: str) -> None:
    def script(b: Bench) -> None:
        status, _, body = told(b, post(ASK, path=path.encode()))
        assert (status, body["error"]["code"]) == (404, "no_batch_lane") and not b.up_pipe.out
        assert "spec.gateway.batch" in body["error"]["message"]

    with_bench(script)


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("GET", "/v1/chat/completions", "POST"), ("PUT", "/v1/embeddings", "POST"), ("DELETE", "/v1/responses", "POST"),
    ("POST", "/v1/models", "GET, HEAD"), ("DELETE", "/v1/models/m", "GET, HEAD"), ("PUT", "/health", "GET, HEAD"),
    ("OPTIONS", "/pooling", "POST"), ("PUT", "/ping", "GET, HEAD, POST")])  # fmt: skip
def test_405_says_what_is_allowed(method: str, path: str, allow: str) -> None:
    def script(b: Bench) -> None:
        status, headers, _ = told(
            b, f"{method} {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert status == 405 and headers["allow"] == allow

    with_bench(script)


def test_pages_for_load_balancers_and_clients() -> None:
    def script(b: Bench) -> None:
        def get(path: str) -> tuple[int, dict[str, str], bytes]:
            client, pipe = b.connect()
            client.data_received(f"GET {path} HTTP/1.1\r\nHost: g\r\n\r\n".encode())
            return split(bytes(pipe.out))

        assert get("/ping")[0] == get("/version")[0] == get("/ready")[0] == 200
        assert json.loads(get("/version")[2])["version"]
        b.app.keys, b.app.keys_for_all = KeyRing(), True
        assert (get("/ready")[0], get("/ping")[0], get("/version")[0]) == (200, 200, 401)
        target = next(iter(b.fleet.targets))
        b.fleet.evict(target, "a test")
        assert get("/ready")[0] == 503 and b"no replica" in get("/ready")[2]
        b.app.closing = True
        assert b"draining" in get("/ready")[2]

    with_bench(script)


@pytest.mark.parametrize("headers", [
    "Authorization: Bearer {k}", "x-api-key: {k}", "api-key: {k}", "Authorization: Bearer no\r\nx-api-key: {k}",
    "Authorization: Bearer {k}\r\nx-api-key: no", "Authorization: Basic eDp5\r\napi-key: {k}",
    "x-api-key: sk-ant-no\r\napi-key: {k}", "Authorization: {k}"])  # fmt: skip
def test_any_valid_credential_of_several_lets_in(headers: str) -> None:
    secret, key = keyring.make("a")

    def script(b: Bench) -> None:
        ring = KeyRing()
        ring.replace(Keys((key,)))
        b.app.keys, b.app.keys_for_all = ring, True
        assert told(b, post(ASK, b"x-api-key: no\r\napi-key: no\r\n"))[0] == 401
        b.client.data_received(post(ASK, headers.format(k=secret).encode() + b"\r\n"))
        assert b.up_pipe.out and secret.encode() not in b.up_pipe.out

    with_bench(script)


def keys_of(folder: Path, name: str, *tenants: str) -> tuple[Path, list[str]]:
    made = [keyring.make(t) for t in tenants]
    path = folder / name
    path.touch(0o600)
    path.write_bytes(msgspec.json.encode(Keys(tuple(key for _, key in made))))
    return path, [secret for secret, _ in made]


def two_fleets(a: Path, b: Path | None) -> str:
    def fleet(name: str, keys: Path | None) -> str:
        line = f"keysFile: {keys}" if keys else ""
        gateway = SPEC.replace("{name: m}", f"{{name: {name}}}")
        return gateway.replace('{resume: "off",', f'{{resume: "off", {line},' if line else '{resume: "off",')

    return fleet("one", a) + "---" + fleet("two", b)


async def asks(gateway: Gateway, model: str, key: str) -> int:
    got = await gateway.post(
        "/v1/completions", {"model": model, "prompt": "x"}, Authorization=f"Bearer {key}"
    )
    return got[0]


async def test_keys_belong_to_their_fleet(start: Start, engine: FakeEngine, tmp_path: Path) -> None:
    one, (first,) = keys_of(tmp_path, "one.json", "a")
    two, (second,) = keys_of(tmp_path, "two.json", "a")
    discovery = f"static:one={engine.url},two={engine.url}"
    gateway = await start(engine, spec=two_fleets(one, two), discovery=discovery)
    got = [await asks(gateway, m, k) for m in ("one", "two") for k in (first, second)]
    assert got == [200, 401, 401, 200]
    _, _, page = split(
        await gateway.raw(
            f"GET /v1/models HTTP/1.1\r\nHost: g\r\nx-api-key: {second}\r\nConnection: close\r\n\r\n".encode()
        )
    )
    assert [m["id"] for m in json.loads(page)["data"]] == ["two"]
    both = f"x-api-key: {first}\r\napi-key: {second}\r\nConnection: close\r\n"
    body = b'{"model":"two","prompt":"x"}'
    assert b"200 OK" in await gateway.raw(post(body, both.encode())), "any valid one, for this fleet"


async def test_a_fleet_without_keys_of_its_own_is_open_to_every_key_and_to_nobody_else(
    start: Start, engine: FakeEngine, tmp_path: Path
) -> None:
    one, (first,) = keys_of(tmp_path, "one.json", "a")
    gateway = await start(
        engine, spec=two_fleets(one, None), discovery=f"static:one={engine.url},two={engine.url}"
    )
    assert [await asks(gateway, m, k) for m in ("one", "two") for k in (first, "none")] == [
        200,
        401,
        200,
        401,
    ]


async def test_what_is_left_of_a_rate_is_told(start: Start, engine: FakeEngine, tmp_path: Path) -> None:
    file, (secret,) = keys_of(tmp_path, "k.json", "a")
    limits = (
        "{name: a, requestsPerMinute: 3, tokensPerMinute: 1000}"  # a request's come back in 15 s, not at once
    )
    spec = SPEC.replace('{resume: "off",', f'{{keysFile: {file}, tenants: [{limits}], resume: "off",')
    gateway = await start(engine, spec=spec)
    seen: list[int] = []
    while 429 not in seen:  # a slow machine's minute gives more than three
        assert len(seen) < 20
        status, headers, _ = await gateway.post(
            "/v1/completions", {"model": "m", "prompt": "x"}, Authorization=f"Bearer {secret}"
        )
        assert headers["x-ratelimit-limit-requests"] == "3"
        left = int(headers["x-ratelimit-remaining-requests"])
        assert 0 <= left <= 2 and (status == 200 or left == 0)
        tokens = int(headers["x-ratelimit-limit-tokens"]), int(headers["x-ratelimit-remaining-tokens"])
        assert 0 < tokens[1] < tokens[0] == 1000
        assert int(headers["x-ratelimit-reset-requests"].removesuffix("s")) > 0
        seen.append(status)
    assert seen[:3] == [200, 200, 200]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_replica_is_named_to_who_asks(start: Start, engine: FakeEngine, stream: bool) -> None:
    gateway = await start(engine)
    body = {"model": "m", "prompt": "x", "stream": stream}
    assert "x-seawall-replica" not in (await gateway.post("/v1/completions", body))[1]
    name = (await gateway.post("/v1/completions", body, x_seawall_replica="?"))[1]["x-seawall-replica"]
    assert name in (await gateway.get("/metrics", admin=True))[2].decode()


def test_anthropics_clients_get_anthropics_errors() -> None:
    def script(b: Bench) -> None:
        large = b"POST /v1/messages HTTP/1.1\r\nHost: g\r\nContent-Length: 9999\r\n\r\n"
        status, _, body = told(b, large)
        assert (status, body["type"], body["error"]["type"]) == (413, "error", "request_too_large")
        chunks = (
            b"POST /v1/messages HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n"
            + b"a" * 4095
        )
        assert told(b, chunks)[2]["error"]["type"] == "request_too_large"
        assert told(b, post(b"{}", path=b"/v1/nothing"))[2]["error"]["type"] == "not_found_error"

    with_bench(script)


async def test_models_say_what_the_engine_says(start: Start, engine: FakeEngine) -> None:
    engine.longest = 4096
    spec = SPEC.replace("file:///none", "file:///none, adapters: [{name: lora, source: file:///l}]")
    gateway = await start(engine, spec=spec)
    cards = {c["id"]: c for c in json.loads((await gateway.get("/v1/models"))[2])["data"]}
    assert cards["m"]["max_model_len"] == cards["lora"]["max_model_len"] == 4096
    assert (cards["m"]["parent"], cards["lora"]["parent"]) == (None, "m") and cards["m"]["created"] > 1.7e9
    assert json.loads((await gateway.get("/v1/models/lora"))[2]) == cards["lora"]
    assert not engine.log, "asked once, and no request of a client's"


async def test_models_are_listed_also_while_no_engine_answers(start: Start, engine: FakeEngine) -> None:
    engine.always = "hang"
    gateway = await start(engine, spec=SPEC.replace("spec:", "spec:\n  traffic: {maxContext: 2k}"))
    cards = json.loads((await gateway.get("/v1/models"))[2])["data"]
    assert cards[0]["max_model_len"] == 2048


def test_json_routes_that_pool_and_classify_reach_an_engine() -> None:
    def script(b: Bench) -> None:
        for path in (b"/pooling", b"/classify"):
            b.client.data_received(post(ASK, path=path))
            assert b.sent_upstream()[0].startswith(b"POST " + path)
            b.up.data_received(JSON_ANSWER)
            b.up_pipe.out.clear()

    with_bench(script)
