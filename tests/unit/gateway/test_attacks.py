"""What an attacker, or a careless client, sends: it is refused or means the same here as in the engine."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tests.unit.gateway.scripted import ASK, JSON_ANSWER, Bench, Pipe, post, with_bench
from tests.unit.gateway.waiting import until

from seawall.decide.route.resume import Policy
from seawall.decide.route.resume.ways import KNOWN
from seawall.gateway.edge.caller import BODY_S, REFUSED_S, SEND_S
from seawall.gateway.exchange.seam import session
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.peek import made, peek, prompt_of
from seawall.gateway.intake.routes import STREAMS
from seawall.gateway.memory import SLOW_S
from seawall.gateway.process.metrics import exposition
from seawall.gateway.tell.keyring import KeyRing

ANY = [
    b"null", b"true", b"0", b"-1", b"1.5", b'"x"', b"[]", b"{}", b"[1]", b"[null]", b"[{}]", b'{"type":[]}',
    b"9" * 2000, b"1e400", b'[{"content":5}]', b'[{"content":[5]}]', b'[{"content":[{"type":5}]}]', b"[[1],[[2]]]",
    b'{"include_usage":[]}', b'[{"type":["x"]}]', b"[" * 994 + b"]" * 994,
]  # fmt: skip
ROUTES = [b"/v1/chat/completions", b"/v1/completions", b"/v1/messages", b"/v1/responses"]


def answered(b: Bench, request: bytes) -> tuple[bytes, Any]:
    """(head, JSON body) of the one answer that the gateway gives at once."""
    b.client.data_received(request)
    top, _, body = bytes(b.pipe.out).partition(b"\r\n\r\n")
    return top, json.loads(body) if body else None


@pytest.mark.parametrize("route", ROUTES)
def test_a_field_of_any_type_is_an_answer_and_never_an_exception(route: bytes) -> None:
    assert len(ROUTES) == len(STREAMS)

    def script(b: Bench) -> None:
        for name in sorted(
            KNOWN | {"include", "input", "background", "previous_response_id", "tools", "odd"}
        ):
            for value in ANY:
                body = b'{"model":"m","stream":true,"%b":%b}' % (name.encode(), value)
                client, pipe = b.connect()
                client.data_received(post(body, path=route))
                assert client.exchange is not None or pipe.out.startswith(b"HTTP/1.1 4"), (name, value[:20])
                client.connection_lost(None)

    with_bench(script)


def test_numbers_that_only_python_reads_do_not_break_a_session() -> None:
    for value in (b"9" * 1500, b"1e400"):
        body = b'{"model":"m","stream":true,"seed":%b,"n":%b,"min_tokens":%b}' % (value, value, value)
        found = peek(body)
        assert isinstance(found, Body) and made(found, prompt_of(found), len(body)).text < 100_000
        session(b"/v1/completions", body, Policy(), Random(1))


def test_a_fault_of_ours_is_answered_and_logged_without_what_the_client_sent(caplog: Any) -> None:
    def script(b: Bench) -> None:
        b.app.models["m"] = object()  # type: ignore[assignment]
        top, error = answered(b, post(b'{"model":"m","prompt":"secret"}'))
        assert (
            top.startswith(b"HTTP/1.1 500") and error["error"]["code"] == "internal_error" and b.pipe.closed
        )
        assert "app.py:" in caplog.text and "secret" not in caplog.text

    with_bench(script)


@pytest.mark.parametrize(
    ("fields", "stream", "bound"),
    [
        (b'"max_tokens":5.0', None, 5),
        (b'"max_tokens":"5","stream":"true"', True, 5),
        (b'"max_tokens":1e3,"stream":1', True, 1000),
        (b'"max_tokens":"NaN","stream":"off"', False, None),
        (b'"max_tokens":[],"temperature":"0"', None, None),
        (b'"mod\\u0065l":"m","str\\u0065am":true', True, None),
        (b'"stream":false,"stream":true', True, None),
    ],
)
def test_a_body_is_read_as_the_engine_reads_it(fields: bytes, stream: bool | None, bound: int | None) -> None:
    """pydantic takes "5" and 5.0 for 5; Python's JSON takes the last of two keys, as written or escaped."""
    found = peek(b'{"model":"other","model":"m",' + fields + b"}")
    assert isinstance(found, Body)
    assert (found.model, found.stream, found.max_tokens) == ("m", stream, bound)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"model":"m","stream":"maybe"}', "invalid_body"),
        (b'{"model":["m"]}', "invalid_body"),
        (b'{"max_tokens":"5"', "invalid_json"),
        (b'{"model":"m","prompt":"\xff"}', "invalid_json"),
        (b'{"model":"m","prompt":"\xed\xa0\x80"}', "invalid_json"),
        (b'{"model":"m","temperature":NaN}', "invalid_json"),
        (b'{"model":"m\\r\\nx-evil: 1"}', "model_not_found"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_here(body: bytes, code: str) -> None:
    def script(b: Bench) -> None:
        top, error = answered(b, post(body))
        assert error["error"]["code"] == code and b"evil" not in top and not b.up_pipe.out

    with_bench(script)


def test_a_byte_order_mark_and_an_empty_model_are_what_they_are_to_the_engine() -> None:
    def script(b: Bench) -> None:
        body = b'{"model":"","prompt":"x"}'
        b.client.data_received(post(b"\xef\xbb\xbf" + body))
        assert bytes(b.up_pipe.out).endswith(b"\r\n\r\n" + body)

    with_bench(script)


def test_huge_numbers_in_headers_are_just_large() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK, b"x-seawall-priority: " + b"9" * 6000 + b"\r\n"))
        assert b.up_pipe.out
        client, pipe = b.connect()
        client.data_received(
            b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: " + b"0" * 6000 + b"4\r\n\r\nabcd"
        )
        assert pipe.out.startswith(b"HTTP/1.1 404")
        client, pipe = b.connect()
        client.data_received(post(ASK, b"x-seawall-deadline: " + b"9" * 6000 + b"\r\n"))
        assert pipe.out.startswith(b"HTTP/1.1 400") and b"invalid_deadline" in pipe.out

    with_bench(script)


@pytest.mark.parametrize("target", [b"/v1/../sleep", b"http://g/sleep", b"http://g/v1/completions/../../sleep",
                                    b"/%2e%2e/sleep", b"/v1%2fcompletions", b"//v1/completions", b"*", b"g:80",
                                    b"/sleep?/v1/completions", b"/v1/completions;/../sleep",
                                    b"/v1/completions%00"])  # fmt: skip
def test_no_spelling_of_a_path_reaches_another_route(target: bytes) -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK, path=target))
        assert b.pipe.out.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")) and not b.up_pipe.out

    with_bench(script)


def test_a_whole_url_as_target_is_understood_and_the_replica_gets_the_path() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK, path=b"HTTP://g:1/v1/completions?x=/sleep"))
        assert b.sent_upstream()[0].startswith(b"POST /v1/completions HTTP/1.1\r\n")

    with_bench(script)


def test_what_a_client_writes_into_headers_stays_in_its_line() -> None:
    def script(b: Bench) -> None:
        odd = b"x-request-id: a b\r\ntraceparent: 00-\xe9\ttab\r\nx-session-id: " + b"\xff" * 100 + b"\r\n"
        b.client.data_received(post(ASK, odd))
        lines = b.sent_upstream()[0].split(b"\r\n")
        assert [x for x in lines if x.startswith(b"traceparent")] == [b"traceparent: 00-\xe9\ttab"]
        assert not any(b"a b" in x or b"\xff" in x for x in lines)

    with_bench(script)


def test_a_refused_head_request_gets_no_body_and_the_connection_goes_on() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(b"HEAD /nothing HTTP/1.1\r\nHost: g\r\n\r\n")
        assert b.pipe.out.startswith(b"HTTP/1.1 404") and b.pipe.out.endswith(b"\r\n\r\n")
        b.client.data_received(post(ASK))
        b.up.data_received(JSON_ANSWER)
        assert b.pipe.out.count(b"HTTP/1.1 200 OK") == 1

    with_bench(script)


def test_thousands_of_offered_upgrades_in_one_read_are_just_answered() -> None:
    async def script(b: Bench) -> None:
        one = b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        b.client.data_received(one * 3000)
        await until(lambda: b.pipe.out.count(b"HTTP/1.1 200 OK") == 3000, 20)

    with_bench(script)


def test_http_1_0_is_not_told_to_continue() -> None:
    def script(b: Bench) -> None:
        head = b"POST /v1/completions HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(
            ASK
        )
        b.client.data_received(head)
        assert not b.pipe.out
        b.client.data_received(ASK)
        b.up.data_received(JSON_ANSWER)
        assert b.pipe.out.startswith(b"HTTP/1.1 200 OK")

    with_bench(script)


class Stuck(Pipe):
    """A client that does not read: what is written stays, and a close waits for it."""

    unsent = 0
    aborted = False

    def abort(self) -> None:  # type: ignore[override]
        self.aborted = self.closed = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


@pytest.mark.parametrize("streams", [True, False], ids=["in mid-stream", "behind its last answer"])
def test_a_client_that_takes_nothing_gives_its_place_back(streams: bool) -> None:
    def script(b: Bench) -> None:
        b.client.transport = pipe = Stuck()  # type: ignore[assignment]
        now = b.app.loop.time()
        if streams:
            b.client.data_received(post(ASK))
            b.client.pause_writing()
        for second, unsent in ((0, 900), (50, 900), (55, 800), (110, 800)):
            pipe.unsent = unsent
            b.client.check(now + second)
            assert not pipe.aborted, "it took 100 bytes after 55 s"
        b.client.check(now + 55 + SEND_S + 1)
        assert pipe.aborted

    with_bench(script)


def test_an_error_of_the_messages_route_has_the_shape_of_its_clients() -> None:
    def script(b: Bench) -> None:
        _, error = answered(b, post(b'{"model":"nope"}', path=b"/v1/messages"))
        assert error["type"] == "error" and error["error"]["type"] == "not_found_error"

    with_bench(script)


def test_only_pages_of_allowed_origins_may_read_answers() -> None:
    ask = b"Origin: %b\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a\r\n"

    def answers(
        b: Bench, allowed: list[str], origin: bytes, keys: KeyRing | None = None
    ) -> tuple[bytes, bytes]:
        gateway = replace(b.fleet.fleet.spec.gateway, allowed_origins=allowed)
        b.app.configure([replace(b.fleet.fleet, spec=replace(b.fleet.fleet.spec, gateway=gateway))], keys)
        client, pipe = b.connect()
        client.data_received(b"OPTIONS /v1/completions HTTP/1.1\r\nHost: g\r\n" + ask % origin + b"\r\n")
        before = bytes(pipe.out)
        client.data_received(post(b'{"model":"nope"}', b"Origin: %b\r\n" % origin))
        return before, bytes(pipe.out)[len(before) :]

    def script(b: Bench) -> None:
        for allowed, origin in (([], b"http://a"), (["http://a"], b"http://b"), (["http://a"], b"null")):
            before, answer = answers(b, allowed, origin)
            assert before.startswith(b"HTTP/1.1 405") and b"access-control" not in before + answer
        before, answer = answers(b, ["http://a"], b"http://a")
        assert before.startswith(b"HTTP/1.1 200") and b"access-control-allow-headers: x-a\r\n" in before
        assert answer.startswith(b"HTTP/1.1 404") and b"access-control-allow-origin: http://a\r\n" in answer
        assert b"vary: origin" in answer and b"allow-methods" not in answer
        assert b"access-control-allow-origin: *\r\n" in answers(b, ["*"], b"http://b")[1]
        before, answer = answers(b, ["http://a"], b"http://a", KeyRing())
        assert before.startswith(b"HTTP/1.1 200"), "a preflight carries no key"
        assert answer.startswith(b"HTTP/1.1 401") and b"access-control-allow-origin: http://a\r\n" in answer
        client, pipe = b.connect()
        client.data_received(
            b"GET /health HTTP/1.1\r\nHost: g\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n"
        )
        assert re.findall(rb"HTTP/1.1 (\d+)", pipe.out) == [b"200", b"401"]

    with_bench(script)


def test_what_strangers_send_makes_no_new_series() -> None:
    def script(b: Bench) -> None:
        def series() -> set[bytes]:
            return {line.rpartition(b" ")[0] for line in exposition(b.app, []).splitlines()}

        ask = b'{"model":"model-%d"}'
        b.client.data_received(post(ask % 0) + b"GET /0 HTTP/1.1\r\nHost: g\r\n\r\n")
        before = series()
        for n in range(1, 30):
            extra = b"x-session-id: %d\r\nAuthorization: Bearer sk-sw-%d-x\r\nx-request-id: %d\r\n" % (
                n,
                n,
                n,
            )
            client, _ = b.connect()
            client.data_received(post(ask % n, extra) + b"GET /%d HTTP/1.1\r\nHost: g\r\n\r\n" % n)
        assert series() == before

    with_bench(script)


def test_a_client_that_leaves_ends_its_request_at_the_replica_at_once() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK))
        assert not b.up_pipe.closed
        b.client.connection_lost(ConnectionResetError())
        assert b.up_pipe.closed and b.fleet.stats.cancelled == 1, "in the same turn of the loop"

    with_bench(script)


def test_a_body_that_trickles_in_is_refused_though_it_never_stops() -> None:
    def script(b: Bench) -> None:
        b.client.data_received(post(ASK)[: -len(ASK)])
        began = b.client.body_since
        for second, n in ((10, 1), (25, 2), (29, 3)):
            b.client.data_received(ASK[n : n + 1])
            b.client.since = began + second
            b.client.check(began + second)
            assert not b.pipe.closed
        b.client.check(began + BODY_S + 1)
        assert b.pipe.closed and b.pipe.out.startswith(b"HTTP/1.1 408")

    with_bench(script)


def test_bodies_on_their_way_are_bounded_together_and_the_slowest_go_first() -> None:
    def script(b: Bench) -> None:
        b.app.max_body = 2**28
        b.app.memory.bound = 4 * 2**26 + 2**20
        open_, part = [], bytes(2**26)
        for n in range(5):
            client, pipe = b.connect()
            client.data_received(
                b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % (2**26 + 9)
            )
            client.data_received(part)
            client.body_since += n - 10 * SLOW_S
            open_.append(pipe)
        assert [bool(pipe.out) for pipe in open_] == [True, False, False, False, False]
        assert open_[0].out.startswith(b"HTTP/1.1 503") and b'"overloaded"' in open_[0].out
        assert b"retry-after: " in open_[0].out

    with_bench(script)


def test_a_body_that_was_refused_is_read_to_its_end_so_that_the_answer_arrives() -> None:
    def script(b: Bench) -> None:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\n"
        b.client.data_received(head + b"x" * 1000)
        answer = bytes(b.pipe.out)
        assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer and not b.pipe.closed
        b.client.data_received(b"x" * 1000 + post(ASK))
        b.client.check(b.client.since + 5)
        assert bytes(b.pipe.out) == answer and not b.up_pipe.out and not b.pipe.closed
        b.client.check(b.client.since + REFUSED_S + 1)
        assert b.pipe.closed

    with_bench(script)
