"""An open page is told what it asked to see, cheaply however many replicas there are, and never more than it reads."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import msgspec
import pytest

from seawall.console import assets, shown
from seawall.console.console import PAGES, Console, OpenPage, Reply
from seawall.console.sight import ConsoleFleet, ConsoleReplica, ConsoleSight
from seawall.console.trend import POINTS, Trend, quantile
from seawall.domain.told import TPOT_BOUNDS_S, TTFT_BOUNDS_S, FleetState, StreamState, TenantState
from seawall.errors import InputError


def many(n: int, sick: int = 3) -> ConsoleSight:
    replicas = tuple(
        ConsoleReplica(name=f"m-{i:04}", fleet="m", phase="evicted" if i >= n - sick else "ready", in_flight=i % 7,
                    reason="reset" if i >= n - sick else "", where=f"http://10.0.{i // 250}.{i % 250}:8000")
        for i in range(n)
    )  # fmt: skip
    return ConsoleSight(fleets=(ConsoleFleet(name="m", ready=n - sick, wanted=n),), replicas=replicas)


class Reader:
    """A page's end of the stream: it reads events, or says that it is full."""

    def __init__(self, console: Console, query: str = "") -> None:
        self.events: list[dict[str, Any]] = []
        self.full = False
        opened = console.open(query, self._read, lambda: self.full)
        assert isinstance(opened, OpenPage), opened
        self.page = opened

    def _read(self, data: bytes) -> None:
        head, _, body = data.partition(b"\ndata: ")
        assert head == b"event: look" and body.endswith(b"\n\n") and b"\n" not in body[:-2]
        self.events.append(json.loads(body))


def test_a_thousand_replicas_come_in_pages_with_trouble_first() -> None:
    console = Console()
    console.look(many(1000), 1000.0)
    reader = Reader(console, "rows=50")
    told = reader.events[0]["replicas"]
    assert [r["name"] for r in told["rows"][:4]] == ["m-0997", "m-0998", "m-0999", "m-0000"]
    assert (len(told["rows"]), told["found"], told["pages"]) == (50, 1000, 20)
    assert told["phases"] == {"ready": 997, "evicted": 3}
    last = Reader(console, "rows=50&page=99").events[0]["replicas"]
    assert (last["page"], last["rows"][-1]["name"]) == (20, "m-0996")
    assert len(json.dumps(reader.events[0])) < 20_000


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("phase=trouble", 3),
        ("phase=ready", 997),
        ("find=M-099", 10),
        ("find=10.0.3.24", 11),
        ("find=reset&phase=trouble", 3),
        ("fleet=other", 0),
        ("fleet=m&sort=load&page=2", 1000),
    ],
)
def test_filters_are_the_servers_work(query: str, found: int) -> None:
    console = Console()
    console.look(many(1000), 1000.0)
    assert Reader(console, query).events[0]["replicas"]["found"] == found


def test_what_has_not_changed_is_not_told_again() -> None:
    console = Console()
    console.look(many(1000), 1000.0)
    reader = Reader(console)
    console.look(many(1000), 1001.0)
    assert set(reader.events[1]) == {"at"}
    console.look(many(1000, sick=4), 1002.0)
    assert {"fleets", "replicas", "events"} <= set(reader.events[2])
    assert "tenants" not in reader.events[2]


def test_a_page_that_does_not_read_misses_looks_and_no_happening() -> None:
    console = Console()
    console.look(many(10, sick=0), 1000.0)
    reader = Reader(console)
    reader.full = True
    for i in range(1, 4):
        console.look(many(10, sick=i), 1000.0 + i)
    assert len(reader.events) == 1
    reader.full = False
    console.look(many(10, sick=3), 1005.0)
    assert [e["subject"] for e in reader.events[1]["events"]] == ["m-0009", "m-0008", "m-0007"]
    assert len(reader.events[1]["trend"]["t"]) == 2, "the points that it missed"


def test_open_pages_are_bounded_and_a_wrong_wish_is_told_by_name() -> None:
    console = Console()
    readers = [Reader(console) for _ in range(PAGES)]
    refused = console.open("", lambda data: None, lambda: False)
    assert isinstance(refused, Reply) and refused.status == 503
    console.close(readers[0].page)
    Reader(console)
    assert console.reply("/console/api/now", "sort=colour").status == 400
    body = console.reply("/console/api/now", "sort=colour").body
    assert b"sort='colour' is not known. Known: trouble" in body
    assert console.reply("/console/api/nothing", "").status == 404


@pytest.mark.parametrize("query", ["rows=0", "rows=201", "page=-1", "page=x", "page=²", "colour=1", "kind=x"])
def test_wishes_that_make_no_sense(query: str) -> None:
    with pytest.raises(InputError):
        shown.wish(query)


def test_tenants_and_resumed_streams_are_of_the_chosen_fleet() -> None:
    one = FleetState(
        tenants={"a": TenantState(outcomes={"finished": 2}, tokens_in=5), "b": TenantState(tokens_out=50)},
        streams=[StreamState(id="req-1", for_s=1.0), StreamState(id="req-2", for_s=9.0, resumed=1)],
    )
    console = Console()
    fleets = (ConsoleFleet(name="m", told=one), ConsoleFleet(name="n"))
    console.look(ConsoleSight(fleets=fleets), 1000.0)
    told = Reader(console, "fleet=m").events[0]
    assert [t["name"] for t in told["tenants"]["rows"]] == ["b", "a"]
    assert [s["id"] for s in told["streams"]] == ["req-2", "req-1"]
    assert Reader(console, "fleet=n").events[0]["streams"] == []
    assert Reader(console, "fleet=n").events[0]["trend"]["fleet"] == "n"


def test_charts_tell_rates_and_times_of_the_last_moments() -> None:
    trend = Trend()
    slow = [0] * len(TTFT_BOUNDS_S) + [0]
    for i in range(4):
        counts = list(slow)
        counts[TTFT_BOUNDS_S.index(0.5)] = 10 * i
        told = FleetState(
            finished_total=20 * i, queued=i, ttft_counts=counts, tpot_counts=[0] * (len(TPOT_BOUNDS_S) + 1)
        )
        trend.add(1000.0 + 2 * i, ConsoleFleet(name="m", told=told, ready=2, wanted=None), 0.25)
    shown_now = trend.after(0.0)
    assert shown_now["finished"] == [0, 10, 10, 10]
    assert shown_now["queued"] == [0, 1, 2, 3]
    assert shown_now["wanted"] == [None] * 4
    assert shown_now["ttft_p50"][0] is None, "nothing was measured yet"
    last = shown_now["ttft_p95"][-1]
    assert last is not None and 0.25 < last <= 0.5
    assert shown_now["tpot_p50"] == [None] * 4
    assert shown_now["kv"] == [0.25] * 4
    assert trend.after(1004.0)["t"] == [1006.0]
    for i in range(POINTS + 10):
        trend.add(2000.0 + 2 * i, ConsoleFleet(name="m"), None)
    assert len(trend.after(0.0)["t"]) == POINTS


def test_a_quantile_lies_in_the_bucket_that_holds_its_rank() -> None:
    assert quantile(0.5, (1.0, 2.0), [0, 10, 0]) == pytest.approx(1.5)
    assert quantile(0.95, (1.0, 2.0), [0, 0, 3]) == 2.0
    assert quantile(0.5, (1.0, 2.0), [4, 0, 0]) == pytest.approx(0.5)


def test_files_are_only_those_of_the_page() -> None:
    page = assets.asset("/console")
    assert page is not None and page.kind.startswith("text/html")
    assert assets.asset("/console/") == page
    for path in (
        "/console/../console.py",
        "/console//etc/passwd",
        "/console/lib",
        "/console/nothing.js",
        "/console/%2e%2e",
    ):
        assert assets.asset(path) is None, path


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    for name in assets.known():
        if name.startswith("lib/"):
            continue
        text = (assets.STATIC / name).read_text("utf-8")
        for forbidden in ("http://", "https://", ".innerHTML = ", "eval(", " style=", "onclick="):
            allowed = "http://www.w3.org/2000/svg"
            assert forbidden not in text.replace(allowed, ""), f"{name}: {forbidden}"
    assert "unsafe" not in assets.POLICY


def test_an_open_page_of_a_thousand_replicas_takes_less_than_a_hundredth_of_a_core() -> None:
    """By CPU time, and by the quickest of the looks, for the machine may be busy: each second brings one look, in
    which every replica has changed."""
    console = Console()
    reader = Reader(console, "rows=50")
    spent, base = [], many(1000)
    for second in range(12):
        changed = tuple(
            msgspec.structs.replace(r, in_flight=(i + second) % 9, kv_use=second / 20)
            for i, r in enumerate(base.replicas)
        )
        sight = dataclasses.replace(base, replicas=changed)
        before = time.thread_time()
        console.look(sight, 1000.0 + second)
        spent.append(time.thread_time() - before)
    assert len(reader.events) >= 12
    assert min(spent[2:]) < 0.01
