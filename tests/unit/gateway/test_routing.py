"""Canary, shadow, sessions, aliases, several workers, spans: what the shell adds to the picker."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path
from random import Random
from types import SimpleNamespace as Some
from typing import Any

import pytest

from seawall.decide.route.pick import Router
from seawall.domain.spec import Gateway, TenantSpec
from seawall.gateway.exchange import shadow
from seawall.gateway.intake.body import BODY
from seawall.gateway.intake.headers import WANTED
from seawall.gateway.intake.peek import AGENTS, SESSION, session_of
from seawall.gateway.process.board import Board
from seawall.gateway.process.metrics import METRICS
from seawall.gateway.process.sums import add_metrics

from .conftest import split


def document(stable: Any, canary: Any, percent: int) -> str:
    replicas = [
        {"name": "s", "fleet": "m", "url": stable.url},
        {"name": "c", "fleet": "m", "url": canary.url, "group": "canary"},
    ]
    return json.dumps({"replicas": replicas, "canary_weights": {"m": percent}})


async def eventually(condition: Any, seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never happened")


async def test_an_attempt_that_the_canary_failed_counts_against_it_even_when_it_was_mended(
    start: Any, engine: Any, other: Any, spec: str, tmp_path: Path
) -> None:
    file = tmp_path / "d.json"
    file.write_text(document(engine, other, 100))
    gateway = await start(spec=spec + "  rollout: {canary: {}}\n", discovery=f"file:{file}")
    sides = gateway.server.app.fleets["m"].stats.sides
    for _ in range(3):
        assert (await gateway.complete())[0] == 200
    assert (sides["canary"].requests, sides["canary"].errors) == (3, 0)
    await other.kill()
    status, _, answer = await gateway.complete()
    assert (status, b'"replica":"a"' in answer) == (200, True), "the client never knew"
    assert sides["canary"].errors >= 1
    assert sides["stable"].errors == 0


async def test_a_canary_gets_its_share_and_the_same_user_the_same_side(
    start: Any, engine: Any, other: Any, spec: str, tmp_path: Path
) -> None:
    file = tmp_path / "d.json"
    file.write_text(document(engine, other, 30))
    canary = "  rollout: {canary: {stickyHeader: x-user}}\n"
    gateway = await start(spec=spec + canary, discovery=f"file:{file}")
    sides: dict[int, set[bytes]] = {}
    for n in (0, 1):
        for user in range(60):
            body = {"model": "m", "prompt": f"{n}"}
            _, _, answer = await gateway.post("/v1/completions", body, x_user=f"u{user}")
            sides.setdefault(user, set()).add(re.findall(b'"replica":"(.)"', answer)[0])
    assert all(len(s) == 1 for s in sides.values())
    share = Counter(next(iter(s)) for s in sides.values())
    assert 8 <= share[b"b"] <= 30
    file.write_text(document(engine, other, 0))
    await eventually(lambda: gateway.server.app.fleets["m"].canary_percent == 0)
    for _ in range(5):
        assert b'"replica":"a"' in (await gateway.complete())[2], "a canary of 0 percent gets nothing"


async def test_shadow_copies_are_compared_and_never_seen(
    start: Any, engine: Any, other: Any, spec: str, tmp_path: Path
) -> None:
    file = tmp_path / "d.json"
    file.write_text(document(engine, other, 0))
    gateway = await start(spec=spec + "  rollout: {canary: {shadow: true}}\n", discovery=f"file:{file}")
    stats = gateway.server.app.fleets["m"].stats
    assert b'"replica":"a"' in (await gateway.complete(temperature=0))[2]
    await eventually(lambda: stats.shadowed == 1 and not other.open)
    other.faults = ["500"]
    assert (await gateway.complete(temperature=0))[0] == 200
    await eventually(lambda: stats.shadow_differed == 1)
    assert (await gateway.complete(stream=True))[0] == 200
    await eventually(lambda: stats.shadowed == 3)
    router = gateway.server.app.fleets["m"].router
    await eventually(lambda: len(other.log) == 3 and router.in_flight == 0)
    assert other.log[0][2] == engine.log[0][2]
    f = await gateway.reconciled()
    assert f["finished_total"] == 3 and f["in_flight"] == 0


async def test_streams_of_both_sides_are_compared_at_temperature_0(
    start: Any, engine: Any, other: Any, spec: str, tmp_path: Path
) -> None:
    file = tmp_path / "d.json"
    file.write_text(document(engine, other, 0))
    spec = spec.replace('resume: "off"', "resume: exact")
    gateway = await start(spec=spec + "  rollout: {canary: {shadow: true}}\n", discovery=f"file:{file}")
    stats = gateway.server.app.fleets["m"].stats
    for more in ({}, {"presence_penalty": 1}):  # recorded as token ids, or for a replay
        assert (await gateway.complete(stream=True, temperature=0, **more))[0] == 200
    await eventually(lambda: (stats.shadow_same, stats.shadow_differed) == (2, 0))
    other.pad = "something else"
    assert (await gateway.complete(stream=True, temperature=0))[0] == 200
    await eventually(lambda: (stats.shadow_same, stats.shadow_differed) == (2, 1))
    other.pad, other.faults = "", ["cut_after_2"]
    assert (await gateway.complete(stream=True, temperature=0))[0] == 200
    await eventually(lambda: (stats.shadow_same, stats.shadow_differed) == (2, 2))
    assert (await gateway.complete(stream=True, temperature=0.5))[0] == 200
    await eventually(lambda: stats.shadowed == 5 and not other.open)
    told = (await gateway.state())["fleets"]["m"]
    assert told["shadow"] == {"same": 2, "differs": 2}
    counted = {side: (n["compared"], n["differed"]) for side, n in told["sides"].items()}
    assert counted == {"stable": (2, 0), "canary": (4, 2)}, (
        "the baseline is asked again to know its own noise"
    )
    page = (await gateway.get("/metrics", admin=True))[2].decode()
    assert 'seawall_shadow_compared_total{fleet="m",result="differs"} 2' in page


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b'{"content":[{"type":"text","text":"a"}]}', b'{"content":[{"type":"text","text":"b"}]}', False),
        (
            b'{"output":[{"id":"1","content":[{"text":"a"}]}]}',
            b'{"output":[{"id":"2","content":[{"text":"a"}]}]}',
            True,
        ),
        (b'{"output":[{"id":"1","content":[{"text":"a"}]}]}', b'{"output":[]}', False),
        (b'{"id":1,"choices":[{"text":"a"}]}', b'{"id":2,"choices":[{"text":"a"}]}', True),
        (b'{"choices":[{"text":"a"}]}', b'{"choices":[{"text":"b"}]}', False),
        (b'{"choices":[{"message":{"content":"a"}}]}', b'{"choices":[]}', False),
        (b'{"choices":[{"text":"a"}]}', b"<html>", False),
    ],
)
def test_shadow_answers_are_equal_when_they_say_the_same(one: bytes, other: bytes, equal: bool) -> None:
    assert shadow.same(one, other) is equal
    assert shadow.comparable(b'{"temperature":0}') and not shadow.comparable(b"{}")


async def test_a_session_stays_with_its_replica(start: Any, engine: Any, other: Any) -> None:
    gateway = await start(engine, other)
    for s in range(6):
        body = {"model": "m", "prompt": "x"}
        answers = [(await gateway.post("/v1/completions", body, x_session_id=f"s{s}"))[2] for _ in range(4)]
        assert len(set(answers)) == 1


async def test_load_that_a_replica_reports_turns_requests_away(start: Any, engine: Any, other: Any) -> None:
    gateway = await start(engine, other)
    engine.load = "TEXT named_metrics.kv_cache_usage_perc=0.99, named_metrics.num_requests_waiting=40"
    await asyncio.gather(*(gateway.complete() for _ in range(4)))
    target = next(t for t in gateway.server.app.fleets["m"].targets if t.replica.url == engine.url)
    assert (target.waiting, target.kv_use) == (40.0, 0.99)
    before = len(engine.log)
    for _ in range(6):
        await gateway.complete()
    assert len(engine.log) - before <= 1


async def test_a_deadline_ends_a_request_wherever_it_is(start: Any, engine: Any) -> None:
    gateway = await start(engine)
    engine.gate = asyncio.Event()
    body = {"model": "m", "prompt": "x"}
    status, _, answer = await gateway.post("/v1/completions", body, x_seawall_deadline="300ms")
    assert status == 504 and b"deadline_exceeded" in answer
    _, headers, answer = await gateway.post(
        "/v1/completions", {**body, "stream": True}, x_seawall_deadline="0.4"
    )
    assert headers["cut"] == "True" and b"deadline_exceeded" in answer
    assert (await gateway.post("/v1/completions", body, x_seawall_deadline="soon"))[0] == 400
    await eventually(lambda: engine.open == 0)
    assert (await gateway.reconciled())["pending"] == 0


async def test_a_changed_spec_is_followed_and_a_broken_one_changes_nothing(
    start: Any, engine: Any, spec: str, tmp_path: Path
) -> None:
    gateway = await start(engine, spec=spec)
    file = tmp_path / "fleet0.yaml"
    file.write_text(spec.replace("gateway: {", "gateway: {aliases: {gpt-4: m}, "))
    await eventually(lambda: "gpt-4" in gateway.server.app.models)
    assert (await gateway.post("/v1/completions", {"model": "gpt-4", "prompt": "x"}))[0] == 200
    assert engine.log[-1][2]["model"] == "m"
    file.write_text("kind: nonsense")
    await eventually(lambda: gateway.server.config.errors == 1)
    assert (await gateway.complete())[0] == 200


def test_workers_share_counts_through_the_board(tmp_path: Path) -> None:
    boards = [Board(tmp_path / "b", i, 3) for i in range(3)]
    for i, b in enumerate(boards):
        b.put("r0", i + 1)
    assert [b.others("r0") for b in boards] == [5, 4, 3]
    router = Router(4, Random(1))
    from seawall.domain.seen import Replica

    router.update([Replica(name="r0", fleet="m", url="http://r:1")])
    target = router.targets["r0"]
    router.set_others(target, 4)
    assert not router.free(), "full, though not through us"
    router.set_others(target, 3)
    assert router.free()
    boards[2].close()
    assert boards[0].others("r0") == 2
    again = Board(tmp_path / "b", 0, 3)
    assert boards[1].others("r0") == 0, "a worker that starts anew holds nothing"
    for b in (boards[0], boards[1], again):
        b.close()


def test_pages_of_workers_add_up() -> None:
    page = '# TYPE a counter\na{x="1 2"} 3\nseawall_replica_up{r="r"} 1\n'
    assert add_metrics([page, page]) == '# TYPE a counter\na{x="1 2"} 6\nseawall_replica_up{r="r"} 1\n'


def test_a_span_carries_the_request_and_its_parent() -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from seawall.gateway.tell.otel import Spans

    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {b"traceparent": f"00-{trace}-{parent}-01".encode()}
    exchange = Some(
        headers=headers, path=b"/v1/completions", model="m", id=b"r", fleet="m", seconds=2.0,
        tokens_in=3, tokens_out=4, status=200,
        outcome="finished", replica="r0", resumed=1, retried=0, first_s=0.5,
    )  # fmt: skip
    spans.note(exchange)  # type: ignore[arg-type]
    spans.close()
    (span,) = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace and f"{span.parent.span_id:016x}" == parent
    assert span.attributes["gen_ai.usage.output_tokens"] == 4 and span.end_time - span.start_time == 2 * 10**9


def test_every_metric_and_every_refusal_is_in_the_reference_page() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs/reference/gateway.md").read_text()
    for name in METRICS:
        assert f"`{name}`" in page
    for source in (root / "src/seawall/gateway").rglob("*.py"):
        for code in re.findall(r'Refusal\(\s*\d+,\s*"(\w+)"', source.read_text()):
            assert f"`{code}`" in page, f"{code} of {source.name}"


def test_every_header_and_every_key_of_the_spec_is_in_the_reference_page() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/gateway.md").read_text()
    framing = {b"host", b"content-type", b"content-length", b"transfer-encoding"}
    for header in WANTED - framing:
        assert f"`{header.decode()}" in page.replace("Authorization", "authorization"), header
    for field in (*fields(Gateway), *fields(TenantSpec)):
        camel = re.sub(r"_(\w)", lambda m: m[1].upper(), field.name)
        assert f"`{camel}`" in page, camel


SESSIONS: dict[str, dict[str, str]] = {
    "a cache key": {"prompt_cache_key": "k", "user": "other"},
    "a response before": {"previous_response_id": "resp_1", "user": "other"},
    "a user": {"user": "u"},
}


@pytest.mark.parametrize("given", range(1, 4 + len(AGENTS)))
def test_of_several_names_of_a_session_the_first_in_the_documented_order_counts(given: int) -> None:
    """Each beats all that come behind it, in whatever order they stand in the request."""
    fields = {"prompt_cache_key": "1", "previous_response_id": "2", "user": "3"}
    members = list(fields.items())[given - 1 :]
    headers = {name: str(n).encode() for n, name in enumerate(AGENTS, 4) if n >= given}
    for order in (1, -1):
        body = BODY.decode(json.dumps(dict(members[::order])))
        assert session_of(body, dict([*headers.items()][::order])) == str(given)
    page = (Path(__file__).parents[3] / "docs/reference/gateway.md").read_text()
    section = page[page.index("## Sessions") : page.index("`sessions: header`")]
    places = [section.index(f"`{name}`") for name in (*fields, *(a.decode() for a in AGENTS[:-1]))]
    assert places == sorted(places), "the page has the same order"


@pytest.mark.parametrize("value", [None, 5, "", [], {"a": "b"}, True])
def test_what_is_no_name_is_no_session(value: Any) -> None:
    names = {"prompt_cache_key": value, "previous_response_id": value, "user": value}
    assert session_of(BODY.decode(json.dumps(names)), {}) is None
    assert session_of(BODY.decode(json.dumps({**names, "user": "u" * 10_000})), {}) == "u" * SESSION


@pytest.mark.parametrize("how", [*SESSIONS, "x-claude-code-session-id", "session_id", "x-session-affinity"])
@pytest.mark.parametrize("setting", ["auto", "header", "off"])
async def test_what_clients_call_a_session_keeps_one_replica(
    start: Any, engine: Any, other: Any, spec: str, setting: str, how: str
) -> None:
    wanted = spec.replace("gateway: {", f"gateway: {{sessions: '{setting}', ")
    gateway = await start(spec=wanted, discovery=f"static:{engine.url},{other.url}")
    body = json.dumps({"model": "m", "prompt": "x", **SESSIONS.get(how, {})}).encode()
    named = "" if how in SESSIONS else f"{how}: a session\r\n"
    head = f"POST /v1/completions HTTP/1.1\r\nHost: g\r\n{named}Content-Length: {len(body)}\r\n"
    head += "Connection: close\r\n\r\n"
    seen = Counter(
        [json.loads(split(await gateway.raw(head.encode() + body))[2])["replica"] for _ in range(6)]
    )
    assert (len(seen) == 1) == (setting == "auto"), seen
