"""Targets: each adapter by one contract, cells that are not applicable, what is wasted and doubled, and the pages."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.cli.prove import command
from seawall.cli.prove_targets import cell_line
from seawall.errors import EngineError, InputError
from seawall.load.client import RequestOutcome
from seawall.prove.cases import Case, check
from seawall.prove.pressure import StreamRecord
from seawall.prove.scenarios import SCENARIOS
from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace
from seawall.prove.targets.admin import send
from seawall.prove.targets.command import CommandTarget, UrlTarget
from seawall.prove.targets.grid import Cell, Grid, TargetFacts
from seawall.prove.targets.install import from_pypi
from seawall.prove.targets.known import MISSING, TARGETS, find, find_all
from seawall.prove.targets.meter import tokens_of
from seawall.prove.targets.pages import matrix, short, write_pages
from seawall.prove.targets.run import DEAF, HEALTHY, NEEDS, of_use
from seawall.prove.verdict import Expectation, ScenarioVerdict, judge

CASE = Case(name="c", path="/v1/completions", payload={"stream": True, "return_token_ids": True}, ids=(5, 6, 7, 8),
            text="abcd", finish_reason="length", prompt_tokens=10)  # fmt: skip
TEXT = replace(CASE, payload={"stream": True})
BEFORE, AFTER = (
    ["http://127.0.0.1:9001", "http://127.0.0.1:9002"],
    ["http://127.0.0.1:9002", "http://127.0.0.1:9003"],
)


def came(text: str, ids: list[int] | None = None, error: str | None = None) -> RequestOutcome:
    return RequestOutcome(intended_s=0, ids=ids or [], text=[text], finish_reason="length", error=error)


def a_place(folder: Path, engines: list[str]) -> TargetPlace:
    return TargetPlace(
        folder=folder, port=8123, engines=engines, names=("m", "other"), program=Path("/bin/true"),
        spare_ports=(8124, 8125), fleet=folder / "fleet.yaml", fleet_name="m", folder_for_sockets=folder,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(TARGETS))
def test_an_adapter_says_what_is_run_and_where_it_comes_from(name: str, tmp_path: Path) -> None:
    adapter, place = TARGETS[name](), a_place(tmp_path, BEFORE)
    assert adapter.name == name and adapter.title and adapter.source and adapter.settings
    assert "PyPI" not in adapter.source or re.search(r"==\d", adapter.source), (
        "a program of a registry is pinned"
    )
    told = " ".join([*adapter.argv(place), *adapter.files(place).values(), *adapter.addresses(place)])
    for host in place.hosts:
        assert host.rpartition(":")[2] in told, "every engine is told to it"
    if adapter.argv(place):
        assert "8123" in told and adapter.addresses(place) == ["http://127.0.0.1:8123"]
        assert Need.PROCESS in adapter.can


@pytest.mark.parametrize("name", [n for n, a in TARGETS.items() if Need.REPLICAS in a.can])
def test_an_adapter_that_can_be_told_other_engines_has_a_way_to_tell(name: str) -> None:
    assert TARGETS[name].reload is not TargetAdapter.reload


@pytest.mark.parametrize("name", [n for n, a in TARGETS.items() if Need.SUCCESSOR in a.can])
def test_an_adapter_that_can_be_replaced_has_a_way_to_replace(name: str) -> None:
    assert TARGETS[name].replace is not TargetAdapter.replace


@pytest.mark.parametrize(
    ("status", "may_lack", "fails"),
    [(200, False, False), (404, False, True), (404, True, False), (500, True, True)],
)
async def test_what_a_targets_own_api_refuses_is_said(status: int, may_lack: bool, fails: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 4\r\nconnection: close\r\n\r\ngone".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/workers/1"
        if fails:
            with pytest.raises(EngineError, match=f"answered {status}: gone"):
                await send("DELETE", url, may_lack=may_lack)
        else:
            assert await send("DELETE", url, may_lack=may_lack) == "gone"


async def test_a_command_of_the_users_is_given_the_engines(tmp_path: Path) -> None:
    made = find(
        "'my gateway' --port {port} --up {urls} --hosts={hosts} --model {model} --file {file} {urls...}"
    )
    assert isinstance(made, CommandTarget)
    place = a_place(tmp_path, BEFORE)
    assert made.argv(place)[1:] == [
        "--port", "8123", "--up", ",".join(BEFORE), "--hosts=127.0.0.1:9001,127.0.0.1:9002", "--model", "m",
        "--file", str(tmp_path / "engines.json"), *BEFORE,
    ]  # fmt: skip
    place.engines = AFTER
    await made.reload(place, 0)
    assert json.loads((tmp_path / "engines.json").read_text()) == AFTER
    assert Need.REPLICAS in made.can
    assert Need.REPLICAS not in find("gateway --port {port} {urls...}").can, (
        "nothing tells it of another engine"
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("ngnix", "Did you mean nginx"),
        ("production-stack", "in no registry"),
        ("my-gateway --upstreams {urls}", "{port}"),
        ("'my-gateway --port {port}", "balanced quotes"),
        ("ftp://here", "no such target"),
    ],
)
def test_a_target_that_cannot_be_had_is_refused_with_a_cure(word: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        find(word)
    assert said in str(refused.value)


def test_a_program_that_no_registry_gives_is_refused_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAWALL_CACHE", str(tmp_path))
    monkeypatch.setenv("UV_OFFLINE", "1")
    for _ in range(2):  # what was half made is made again
        with pytest.raises(InputError, match=r"no-such-gateway.*registry"):
            from_pypi("mine", "no-such-gateway==9.9", "mine")


def test_a_gateway_that_runs_already_is_a_target_by_its_url() -> None:
    found = find("http://127.0.0.1:8080/v1")
    assert isinstance(found, UrlTarget) and found.addresses(a_place(Path("x"), BEFORE)) == [
        "http://127.0.0.1:8080"
    ]
    assert found.can == frozenset(), "what happens to its process and its list of engines is not ours"
    assert len(find_all(["nginx", "nginx", "direct"])) == 2


def test_tables_of_scenarios_name_scenarios_that_there_are() -> None:
    assert set(NEEDS) | HEALTHY | DEAF <= set(SCENARIOS)
    assert not set(MISSING) & set(TARGETS)


def test_tokens_that_came_twice_are_told_from_wrong_ones() -> None:
    twice = check(CASE, came("abcbcd", [5, 6, 7, 6, 7, 8]))
    assert (twice.wrong_tokens, twice.doubled_tokens) == (3, 2)
    assert check(CASE, came("abcdabcd", [5, 6, 7, 8] * 2)).doubled_tokens == 4
    assert check(CASE, came("abXcd", [5, 6, 9, 7, 8])).doubled_tokens == 0
    assert check(TEXT, came("abcbcd")).doubled_tokens == 2
    assert check(CASE, came("abcd", [5, 6, 7, 8])).doubled_tokens == 0


def test_ids_that_never_come_are_missed_of_ours_only() -> None:
    assert check(CASE, came("abcd")).wrong_tokens == 4
    assert check(CASE, came("abcd"), any_gateway=True).wrong_tokens == 0
    assert check(CASE, came("abXd"), any_gateway=True).wrong_tokens > 0
    assert check(CASE, came("abcd", [5, 6, 7]), any_gateway=True).wrong_tokens > 0


def test_a_usage_that_nobody_asked_for_is_looked_at_of_ours_only() -> None:
    odd = came("abcd", [5, 6, 7, 8])
    odd.completion_tokens = 0
    asked = replace(CASE, payload={**CASE.payload, "stream_options": {"include_usage": True}})
    assert check(CASE, odd).wrong_usage and check(asked, odd, any_gateway=True).wrong_usage
    assert not check(CASE, odd, any_gateway=True).wrong_usage


def test_in_an_overload_any_refusal_before_the_first_byte_will_do_of_any_gateway() -> None:
    records = [StreamRecord(0, CASE, came("abcd")), StreamRecord(1, CASE, came("", error="http-503"))]
    expected = Expectation(may_reject=True, any_refusal=True)
    for bound, lost in (
        (expected, 0),
        (Expectation(may_reject=True), 1),
        (replace(expected, may_reject=False), 1),
    ):
        told = judge("overload", "overload", records, bound, duration_s=1, resumed=0, retried=0)
        assert (told.lost, told.rejected) == (lost, 1 - lost)


def test_what_is_of_use_is_what_came_whole_or_was_read_before_a_client_left() -> None:
    lost = came("ab", error="eof")
    gone = came("ab", error="cancelled")
    gone.event_s = [1.0, 2.0]
    records = [StreamRecord(0, CASE, came("abcd")), StreamRecord(1, CASE, lost), StreamRecord(2, CASE, gone)]
    assert of_use(records) == (10 + 4) + (10 + 2)


def test_tokens_are_read_from_the_engines_own_counters() -> None:
    page = (
        "# HELP vllm:prompt_tokens_total x\n"
        'vllm:prompt_tokens_total{model_name="m"} 40\nvllm:generation_tokens_total{model_name="m"} 2.0\n'
        "vllm:generation_tokens_created{} 1e9\nnonsense\n"
    )
    assert tokens_of(page) == 42


def verdict_of(*outcomes: RequestOutcome) -> ScenarioVerdict:
    records = [StreamRecord(0, CASE, o, check(CASE, o) if o.ok else None) for o in outcomes]
    return judge("kill", "kill -9", records, Expectation(), duration_s=1, resumed=0, retried=0)


def a_grid() -> Grid:
    good, lost = came("abcd", [5, 6, 7, 8]), came("ab", error="eof")
    lost.detail = "<cut>"
    one = Cell(target="nginx", scenario="kill", title="kill -9", verdict=verdict_of(good, lost), wasted=12)
    grid = Grid(
        cells=[
            one,
            Cell(target="seawall", scenario="kill", title="kill -9", verdict=verdict_of(good), wasted=0),
            Cell(target="direct", scenario="kill", title="kill -9", not_applicable="no process to kill"),
            Cell(target="envoy", scenario="kill", title="kill -9", not_applicable="no registry", failed=True),
        ]
    )
    grid.records["nginx", "kill"] = [
        StreamRecord(0, CASE, good, check(CASE, good)),
        StreamRecord(1, CASE, lost),
    ]
    grid.facts["nginx"] = TargetFacts(
        name="nginx", title="nginx", source="Debian nginx", version="1.2", command=("nginx",), files={"n.conf": "<a>"},
        settings=("least_conn",),
    )  # fmt: skip
    return grid


def test_a_cell_says_in_few_letters_what_happened() -> None:
    by = {c.target: c for c in a_grid().cells}
    assert {t: short(c) for t, c in by.items()} == {
        "nginx": "1 of 2 lost", "seawall": "ok", "direct": "n/a", "envoy": "did not start",
    }  # fmt: skip
    assert [by[t].state for t in by] == ["broken", "kept", "not applicable", "failed"]
    twice = verdict_of(came("abcbcd", [5, 6, 7, 6, 7, 8]))
    assert short(replace(by["nginx"], verdict=twice)) == "2 doubled"


def test_what_is_not_applicable_is_not_red() -> None:
    grid = a_grid()
    assert not grid.kept
    grid.cells = [c for c in grid.cells if c.target in ("seawall", "direct")]
    assert grid.kept
    grid.cells = []
    assert not grid.kept, "a run that played nothing shows nothing"


def test_the_table_fits_a_narrow_terminal() -> None:
    assert max(map(len, matrix(a_grid(), 80))) <= 80
    assert sum("kill" in line for line in matrix(a_grid(), 40)) == 4, (
        "one target a table where there is room for one"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--target", "ngnix"], "Did you mean nginx"),
        (["--target", "nginx", "--without", "resume"], "does not go with --without"),
        (["--target", "nginx", "--context", "c"], "does not go with --context"),
        (["--target", "nginx", "--html", "/proc/pages"], "--html /proc/pages"),
        (["--target", "nginx", "--engine", "vllm", "--scenario", "reset"], "an engine that fails on command"),
    ],
)
def test_what_a_target_cannot_be_combined_with_is_refused_before_anything_starts(
    flags: list[str], said: str, tmp_path: Path
) -> None:
    spec = tmp_path / "fleet.yaml"
    spec.write_text("kind: Fleet\n")
    with pytest.raises(InputError) as refused:
        command.main(["--target", "direct", str(spec), *flags], standalone_mode=False)
    assert said in str(refused.value)


def test_a_cells_line_fits_80_columns() -> None:
    assert max(len(cell_line(c)) for c in a_grid().cells if c.verdict) <= 80


def test_each_cell_that_was_played_has_a_page_that_tells_what_its_clients_saw(tmp_path: Path) -> None:
    write_pages(a_grid(), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"index.html", "nginx.kill.html", "seawall.kill.html"}
    index, page = (tmp_path / "index.html").read_text(), (tmp_path / "nginx.kill.html").read_text()
    assert 'href="nginx.kill.html"' in index and "1 of 2 lost" in index and "no process to kill" in index
    assert "&lt;a&gt;" in index, "its configuration stands there"
    assert "eof: &lt;cut&gt;" in page and "whole and right" in page and "<script" not in page + index
