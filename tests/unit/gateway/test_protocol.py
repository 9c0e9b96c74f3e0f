"""The client side as scripts without sockets: bytes in, bytes out, at any split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.scripted import ANSWER, ASK, JSON_ANSWER, Bench, post, with_bench

from seawall.decide.route.members import TOO_DEEP
from seawall.gateway.edge.caller import BODY_S, HEAD_S, IDLE_S, MAX_HEAD
from seawall.gateway.intake.peek import peek

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP\r\n"
GOOD_BUT_ODD = {
    "leading empty lines": b"\r\n\r\n" + post(ASK),
    "chunked": b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(ASK), ASK),
    "chunk extension": b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n"
    b"0\r\n\r\n" % (len(ASK), ASK),
    "upgrade to h2c, as Java's client asks": post(ASK, UPGRADE),
    "query": post(ASK, path=b"/v1/completions?x=1"),
    "upper case header": post(ASK, b"X-SESSION-ID: 7\r\n"),
}
SMUGGLING = {
    "CL + TE": b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE + CL": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two CL": post(ASK, b"Content-Length: 3\r\n"),
    "CL list": b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 4, 4\r\n\r\nabcd",
    "CL sign": b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: +4\r\n\r\nabcd",
    "TE list": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE odd": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE twice": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "TE in 1.0": b"POST / HTTP/1.0\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"POST / HTTP/1.1\r\nHost: g\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"POST / HTTP/1.1\nHost: g\nContent-Length: 0\n\n",
    "bare LF in header": b"GET / HTTP/1.1\r\nHost: g\nX: y\r\n\r\n",
    "bare CR in value": b"GET / HTTP/1.1\r\nHost: g\r\nX: a\rb\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: g\r\nX: a\0b\r\n\r\n",
    "space before colon": b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length : 0\r\n\r\n",
    "chunk size LF": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n",
    "chunk size overflow": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"f" * 17
    + b"\r\n",
    "CL in trailers": b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two authorizations": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    "HTTP/2.0": b"GET /v1/models HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "control character in URL": b"GET /a\x01b HTTP/1.1\r\nHost: g\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_could_smuggle_is_refused_and_the_connection_ends(name: str) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(SMUGGLING[name] + post(ASK))
        answer = bytes(b.pipe.out)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413")), answer
        assert answer.count(b"\r\n\r\n") == 1 and b.pipe.closed
        assert not b.up_pipe.out, "nothing of it reached a replica"

    with_bench(script)


@pytest.mark.parametrize("name", GOOD_BUT_ODD)
def test_what_is_odd_but_right_is_served(name: str) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(GOOD_BUT_ODD[name])
        top, body = b.sent_upstream()
        assert body == json.loads(ASK) and top.startswith(b"POST /v1/completions HTTP/1.1\r\n")
        b.up.data_received(JSON_ANSWER)
        assert bytes(b.pipe.out).endswith(b"\r\n\r\n" + ANSWER)

    with_bench(script)


@pytest.mark.parametrize("at", [None, 30, 120, -10])
def test_an_offered_upgrade_is_ignored_and_the_next_request_is_understood(at: int | None) -> None:
    def script(b: Bench) -> None:
        get = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n" + UPGRADE + b"\r\n"
        whole = post(ASK, UPGRADE)
        b.client.data_received(get)
        for part in (whole[:at], whole[at:]) if at is not None else (whole,):
            b.client.data_received(part)
        b.up.data_received(JSON_ANSWER)
        b.client.data_received(get)
        assert bytes(b.pipe.out).count(b"HTTP/1.1 200 OK") == 3 and not b.pipe.closed

    with_bench(script)


def test_the_body_is_passed_on_byte_for_byte_and_only_an_alias_is_rewritten() -> None:
    def script(b: Bench) -> None:
        odd = b'{ "prompt" : "\\u00e9", "model":"m" ,"x":1.0e5}'
        b.client.data_received(post(odd))
        assert bytes(b.up_pipe.out).endswith(b"\r\n\r\n" + odd)
        b.up.data_received(JSON_ANSWER)
        b.up_pipe.out.clear()
        b.client.data_received(post(odd.replace(b'"m"', b'"gpt-4"')))
        body = bytes(b.up_pipe.out).partition(b"\r\n\r\n")[2]
        assert b'"model":"m"' in body and b'"\\u00e9"' in body and b"1.0e5" in body

    with_bench(script)


def test_secrets_and_hop_headers_of_the_client_do_not_reach_the_replica() -> None:
    def script(b: Bench) -> None:
        extra = (
            b"Authorization: Bearer sk-secret\r\nCookie: c=1\r\nX-Forwarded-For: 1.2.3.4\r\nTE: trailers\r\n"
        )
        b.client.data_received(post(ASK, extra + b"traceparent: 00-aa-bb-01\r\nX-Request-Id: abc\r\n"))
        top, _ = b.sent_upstream()
        for secret in (b"secret", b"Cookie", b"Forwarded", b"trailers"):
            assert secret not in top
        assert b"traceparent: 00-aa-bb-01" in top and b"x-request-id: abc" in top

    with_bench(script)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"[]", 400, "invalid_body"),
        (b'{"model":1}', 400, "invalid_body"),
        (b'{"model":"m","stream":"maybe"}', 400, "invalid_body"),
        (b'{"model":"\xff"}', 400, "invalid_json"),
        (b'{"model":"nope"}', 404, "model_not_found"),
        (b'{"model":"m","p":"' + b"x" * 3000 + b'"}', 413, "body_too_large"),
    ],
)
def test_bad_bodies_get_openai_errors(body: bytes, status: int, code: str) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(body))
        top, _, answer = bytes(b.pipe.out).partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 %d" % status), (top, answer)
        assert json.loads(answer)["error"]["code"] == code

    with_bench(script)


def test_a_body_that_is_nested_without_end_is_refused() -> None:
    """How deep is too deep depends on the Python: 1,000 levels on 3.11, more on later ones."""
    assert peek(b'{"model":"m","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}") is TOO_DEEP


@pytest.mark.parametrize(
    "path", ["/sleep", "/wake_up", "/metrics", "/invocations", "/v1/load_lora_adapter", "/scale_elastic_ep",
             "/v1/../sleep", "//v1/completions", "/v1/completions/", "/inference/v1/generate", "/collective_rpc",
             "http://x/sleep", "/v1/chat/completions/render"]
)  # fmt: skip
def test_admin_routes_of_an_engine_are_unreachable(path: str) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK, path=path.encode()))
        assert bytes(b.pipe.out).startswith(b"HTTP/1.1 404") and not b.up_pipe.out

    with_bench(script)


def test_time_limits_end_slow_heads_slow_bodies_and_idle_connections() -> None:
    def script(b: Bench) -> None:
        now = b.app.loop.time()
        for first, wait in ((b"GET /v1/mod", HEAD_S), (post(ASK)[:-5], BODY_S)):
            client, pipe = b.connect()
            client.data_received(first)
            client.check(now + wait - 1)
            assert not pipe.closed
            client.check(now + wait + 1)
            assert pipe.closed and pipe.out.startswith(b"HTTP/1.1 408")
        client, pipe = b.connect()
        client.check(now + IDLE_S + 1)
        assert pipe.closed and not pipe.out

    with_bench(script)


def test_heads_are_bounded_however_they_arrive() -> None:
    def script(b: Bench) -> None:
        for head in (b"GET /v1/models HTTP/1.1\r\nHost: g\r\nX: ", b"GET /"):
            client, pipe = b.connect()
            client.data_received(head)
            sent = 0
            while not pipe.out and sent < 4 * MAX_HEAD:
                client.data_received(b"a" * 1000)
                sent += 1000
            assert pipe.out.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")) and sent <= MAX_HEAD + 1000
        client, pipe = b.connect()
        client.data_received(b"GET /v1/models HTTP/1.1\r\nHost: g\r\n" + b"a: b\r\n" * 200 + b"\r\n")
        assert pipe.out.startswith(b"HTTP/1.1 431")

    with_bench(script)


def test_expect_100_is_answered_before_the_body() -> None:
    def script(b: Bench) -> None:
        whole = post(ASK, b"Expect: 100-continue\r\n")
        b.client.data_received(whole[: -len(ASK)])
        assert bytes(b.pipe.out) == b"HTTP/1.1 100 Continue\r\n\r\n"
        b.client.data_received(ASK)
        b.up.data_received(JSON_ANSWER)
        assert ANSWER in b.pipe.out

    with_bench(script)


def stream_answer(events: list[bytes]) -> bytes:
    top = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return top + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in events) + b"0\r\n\r\n"


def chunk_event(text: str, finish: str | None = None) -> bytes:
    doc = {"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


EVENTS = [
    chunk_event("a"),
    b": ping\n\n",
    chunk_event("é\U0001f600"),
    chunk_event("", "stop"),
    b"data: [DONE]\n\n",
]


def cut(data: bytes, points: list[int]) -> list[bytes]:
    at = sorted({p % (len(data) + 1) for p in points})
    return [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True) if i < j]


def unchunk(answer: bytes) -> bytes:
    _, _, rest = answer.partition(b"\r\n\r\n")
    out = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        out, rest = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_of_request_and_stream_gives_the_same_result(asks: list[int], answers: list[int]) -> None:
    def script(b: Bench) -> None:
        body = b'{"model":"m","prompt":"x","stream":true}'
        for part in cut(post(body), asks):
            b.client.data_received(part)
        for part in cut(stream_answer(EVENTS), answers):
            b.up.data_received(part)
        assert unchunk(bytes(b.pipe.out)) == b"".join(EVENTS)
        assert b.pipe.out.endswith(b"0\r\n\r\n") and not b.pipe.closed
        s = b.fleet.stats
        assert (s.admitted, s.finished, s.pending, b.fleet.router.in_flight) == (1, 1, 0, 0)
        assert not b.fleet.active

    with_bench(script)


CORPUS = [*SMUGGLING.values(), *GOOD_BUT_ODD.values(), post(ASK) * 3, JSON_ANSWER, stream_answer(EVENTS)]


def test_bytes_behind_the_last_request_of_a_connection_are_not_answered() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(b"GET /health HTTP/1.0\r\nHost: g\r\n\r\n")
        assert b.pipe.closed and b.pipe.out.count(b"HTTP/1.1 ") == 1
        b.client.data_received(b"  ")
        assert b.pipe.out.count(b"HTTP/1.1 ") == 1

    with_bench(script)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CORPUS), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=6))
def test_mutated_bytes_from_either_side_never_break_the_gateway(
    seed: bytes, changes: list[tuple[int, bytes]]
) -> None:
    """Whatever comes, nothing raises, counters reconcile, and a closed connection is written to no more."""
    data = bytearray(seed)
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new

    def script(b: Bench) -> None:
        b.client.data_received(bytes(data))
        client, _ = b.connect()
        client.data_received(post(ASK))
        if b.up.user is not None:
            b.up.data_received(bytes(data))
        client.connection_lost(None)
        b.client.connection_lost(None)
        s = b.fleet.stats
        assert s.admitted == s.finished + s.failed + s.cancelled and not b.fleet.active

    with_bench(script)
