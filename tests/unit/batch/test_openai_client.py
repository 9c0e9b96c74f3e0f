"""The lane as the official `openai` client uses it, through the gateway: files, batches, what is refused, and kills."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Batch
from tests.unit.batch.making import CHAT, a_line
from tests.unit.batch.processes import LaneProcesses, lane_processes

from seawall.domain.told import FleetState, read


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaneProcesses]:
    with lane_processes(tmp_path_factory.mktemp("lane")) as lane:
        yield lane


@pytest.fixture
def client(lane: LaneProcesses) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{lane.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def jsonl(lines: list[Any]) -> bytes:
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()


def upload(client: openai.OpenAI, lines: list[Any], **more: Any) -> Any:
    return client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch", **more)


def until_over(client: openai.OpenAI, batch: str) -> Batch:
    while True:
        found = client.batches.retrieve(batch)
        if found.status in ("completed", "failed", "cancelled", "expired"):
            return found
        time.sleep(0.1)


def results(client: openai.OpenAI, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    return [json.loads(line) for line in client.files.content(file).text.splitlines()]


def test_a_batch_is_answered_line_by_line(client: openai.OpenAI) -> None:
    lines = [a_line(f"q{i}") for i in range(40)]
    lines[7] = a_line("q7", body={"model": "m", "messages": "these are none"})
    file = upload(client, lines)
    assert (file.purpose, file.filename, file.status) == ("batch", "in.jsonl", "processed")
    made = client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"who": "me"}
    )
    assert made.status in ("in_progress", "finalizing", "completed") and made.metadata == {"who": "me"}
    assert made.request_counts is not None and made.request_counts.total == 40
    done = until_over(client, made.id)
    assert done.status == "completed" and done.completed_at is not None and done.in_progress_at is not None
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (39, 1)
    out = results(client, done.output_file_id)
    assert [r["custom_id"] for r in out] == [f"q{i}" for i in range(40) if i != 7]
    assert all(r["response"]["status_code"] == 200 and r["error"] is None for r in out)
    assert all(r["response"]["body"]["choices"][0]["finish_reason"] in ("stop", "length") for r in out)
    (bad,) = results(client, done.error_file_id)
    assert bad["custom_id"] == "q7" and bad["response"]["status_code"] == 400
    usage = done.usage
    assert usage is not None and usage.output_tokens == sum(
        r["response"]["body"]["usage"]["completion_tokens"] for r in out
    )


@pytest.mark.parametrize(
    ("endpoint", "body", "shown"),
    [
        ("/v1/completions", {"prompt": "say it", "max_tokens": 3, "ignore_eos": True, "temperature": 0},
         lambda b: bool(b["choices"][0]["text"])),
        ("/v1/responses", {"input": "say it", "max_output_tokens": 3}, lambda b: b["object"] == "response"),
    ],
)  # fmt: skip
def test_every_endpoint_that_a_batch_can_ask_is_answered(
    client: openai.OpenAI, endpoint: Any, body: dict[str, Any], shown: Any
) -> None:
    lines = [a_line(f"q{i}", url=endpoint, body={"model": "m", **body}) for i in range(3)]
    made = client.batches.create(
        input_file_id=upload(client, lines).id, endpoint=endpoint, completion_window="10m"
    )
    done = until_over(client, made.id)
    assert done.error_file_id is None, client.files.content(done.error_file_id or "").text
    out = results(client, done.output_file_id)
    assert [r["custom_id"] for r in out] == ["q0", "q1", "q2"]
    assert all(shown(r["response"]["body"]) for r in out)
    assert done.usage is not None and done.usage.input_tokens > 0, "of every endpoint the tokens are counted"


def test_embeddings_are_answered_in_a_batch(tmp_path: Path) -> None:
    with (
        lane_processes(tmp_path, engine=("--runner", "pooling")) as lane,
        openai.OpenAI(base_url=f"{lane.url}/v1", api_key="n") as client,
    ):
        body = {"model": "m", "input": ["one", "two"]}
        file = upload(client, [a_line(f"q{i}", url="/v1/embeddings", body=body) for i in range(3)])
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="10m"
        )
        done = until_over(client, made.id)
        out = results(client, done.output_file_id)
        assert [r["custom_id"] for r in out] == ["q0", "q1", "q2"]
        assert all(
            [len(d["embedding"]) > 0 for d in r["response"]["body"]["data"]] == [True, True] for r in out
        )
        assert done.usage is not None and done.usage.input_tokens > 0


def test_a_line_gives_its_place_to_a_chat(tmp_path: Path) -> None:
    """Two places, one of them a line's of twenty seconds: two chats of two that come at once are answered first."""
    with (
        lane_processes(tmp_path, places=2) as lane,
        openai.OpenAI(base_url=f"{lane.url}/v1", api_key="n") as client,
    ):
        long = {
            "model": "m",
            "messages": [{"role": "user", "content": "go on"}],
            "max_tokens": 1000,
            "ignore_eos": True,
        }
        file = upload(client, [a_line("long", body=long)])
        made = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        state = f"http://127.0.0.1:{lane.admin_port}/debug/state"
        while httpx2.get(state).json()["fleets"]["f"]["spare"] == 0:
            time.sleep(0.05)
        with ThreadPoolExecutor(2) as chats:
            short = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
            short["extra_body"] = {"ignore_eos": True}
            both = list(chats.map(lambda _: client.chat.completions.create(**short), range(2)))  # type: ignore[call-overload]
        assert all(chat.choices for chat in both)
        now = client.batches.retrieve(made.id)
        assert now.request_counts is not None and now.request_counts.completed == 0
        assert now.model_extra is not None
        while now.model_extra["seawall"]["ran_twice"] == 0:  # type: ignore[index]
            time.sleep(0.1)
            now = client.batches.retrieve(made.id)
        told = httpx2.get(state).json()["fleets"]["f"]
        assert told["failed_total"] == 0, "who gave way has not failed"
        client.batches.cancel(made.id)


def test_files_are_listed_read_and_deleted(client: openai.OpenAI) -> None:
    one = upload(client, [a_line("a")], expires_after={"anchor": "created_at", "seconds": 3600})
    two = upload(client, [a_line("b")])
    assert one.expires_at == one.created_at + 3600
    listed = [f.id for f in client.files.list(purpose="batch", limit=1)]
    assert listed[:2] == [two.id, one.id]
    assert client.files.retrieve(one.id) == one
    assert client.files.content(one.id).content == jsonl([a_line("a")])
    assert client.files.delete(one.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(one.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(one.id)


def test_wrong_lines_are_named_at_creation(client: openai.OpenAI) -> None:
    file = upload(client, [a_line("a"), "{", a_line("b", url="/v1/embeddings"), a_line("a")])
    batch = until_over(client, client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h"
    ).id)  # fmt: skip
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    told = [(e.line, e.code) for e in batch.errors.data]
    assert told == [(2, "invalid_json_line"), (3, "mismatched_url"), (4, "duplicate_custom_id")]
    assert batch.output_file_id is None


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"completion_window": "5m"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
    ],
)
def test_what_cannot_be_is_refused(client: openai.OpenAI, changes: dict[str, Any], param: str) -> None:
    file = upload(client, [a_line("a")])
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **changes}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**asked)
    assert refused.value.param == param


def test_unknown_things_are_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("x", b"x"), purpose="assistants")


def test_batches_are_listed_in_pages(client: openai.OpenAI) -> None:
    file = upload(client, [a_line("a")])
    made = [
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="1h").id
        for _ in range(3)
    ]
    page = client.batches.list(limit=2)
    assert page.has_more and len(page.data) == 2
    seen = [b.id for b in client.batches.list(limit=2)]
    assert seen[:3] == sorted(made, key=seen.index) and len(seen) == len(set(seen))


def test_a_cancelled_batch_keeps_what_was_answered(client: openai.OpenAI) -> None:
    lines = [a_line(f"q{i}", body={"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 40})
             for i in range(600)]  # fmt: skip
    batch = client.batches.create(
        input_file_id=upload(client, lines).id, endpoint=CHAT, completion_window="24h"
    )
    while client.batches.retrieve(batch.id).request_counts.completed < 20:  # type: ignore[union-attr]
        time.sleep(0.05)
    assert client.batches.cancel(batch.id).status == "cancelling"
    over = until_over(client, batch.id)
    assert over.status == "cancelled" and over.cancelled_at is not None and over.request_counts is not None
    out = results(client, over.output_file_id)
    assert 20 <= len(out) == over.request_counts.completed < 600
    assert len({r["custom_id"] for r in out}) == len(out)
    with pytest.raises(openai.ConflictError):
        done = client.batches.create(
            input_file_id=upload(client, [a_line("a")]).id, endpoint=CHAT, completion_window="1h"
        )
        until_over(client, done.id)
        client.batches.cancel(done.id)


def test_lines_are_no_demand_and_no_arrivals(client: openai.OpenAI, lane: LaneProcesses) -> None:
    def told() -> FleetState:
        with urllib.request.urlopen(f"http://127.0.0.1:{lane.admin_port}/debug/state", timeout=10) as answer:
            return read(json.load(answer)).fleets["f"]

    before = told()
    file = upload(client, [a_line(f"q{i}") for i in range(60)])
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert told().pending == 0
    assert until_over(client, batch.id).status == "completed"
    after = told()
    assert after.admitted_total >= before.admitted_total + 60
    assert after.arrived_total == before.arrived_total and after.pending == after.spare == 0


def test_the_lanes_own_door_is_closed_to_others(lane: LaneProcesses) -> None:
    with (
        openai.OpenAI(base_url=f"http://127.0.0.1:{lane.lane_port}/v1", api_key="x", max_retries=0) as direct,
        pytest.raises(openai.AuthenticationError),
    ):
        direct.files.list()


def seawall(lane: LaneProcesses, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "seawall", "batch", *args, "--url", lane.url],
        capture_output=True,
        text=True,
        timeout=110,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_submits_waits_and_writes(lane: LaneProcesses, tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(jsonl([a_line(f"q{i}") for i in range(30)]))
    code, said, told = seawall(
        lane, "submit", str(path), "--wait", "--results", str(out), "--metadata", "run=7"
    )
    assert code == 0, told
    assert "completed   30 of 30 lines" in said and "Next: seawall batch results batch_" in said
    assert [json.loads(line)["custom_id"] for line in out.read_text().splitlines()] == [
        f"q{i}" for i in range(30)
    ]
    code, said, _ = seawall(lane, "status", "--json")
    found = json.loads(said)
    assert (code, found["status"], found["metadata"]) == (0, "completed", {"run": "7"})
    code, said, _ = seawall(lane, "results", found["id"])
    assert code == 0 and said == out.read_text()
    code, said, _ = seawall(lane, "list", "--limit", "1")
    assert code == 0 and found["id"] in said and "100%" in said


def test_the_command_line_names_the_line_that_is_wrong(lane: LaneProcesses, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl([a_line("a"), a_line("b", method="GET")]))
    code, said, told = seawall(lane, "submit", str(path))
    assert code == 1 and "line 2: `method` is 'GET'; use POST." in said and "Mend them" in told
    path.write_text("no json\n")
    code, _, told = seawall(lane, "submit", str(path))
    assert code == 2 and f"{path}:1" in told and "Traceback" not in told
    code, _, told = seawall(lane, "results", "batch_none")
    assert code == 2 and "no batch" in told


def test_a_killed_lane_goes_on_where_it_was(client: openai.OpenAI, lane: LaneProcesses) -> None:
    """-9 of the worker, of the gateway and of the engine while it runs: each line has one result."""
    batch = client.batches.create(
        input_file_id=upload(client, [a_line(f"q{i}") for i in range(1500)]).id,
        endpoint=CHAT,
        completion_window="24h",
    )
    for name in ("lane", "gateway", "engine", "lane"):
        before = client.batches.retrieve(batch.id).request_counts.completed  # type: ignore[union-attr]
        while True:
            found = client.batches.retrieve(batch.id)
            assert found.request_counts is not None
            if found.status != "in_progress" or found.request_counts.completed > before + 60:
                break
            time.sleep(0.02)
        lane.kill(name)
        lane.start(name)
    done = until_over(client, batch.id)
    assert done.status == "completed" and done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (
        1500,
        1500,
        0,
    )
    assert [r["custom_id"] for r in results(client, done.output_file_id)] == [f"q{i}" for i in range(1500)]
    assert done.model_extra is not None and 0 <= done.model_extra["seawall"]["ran_twice"] <= 4 * 32
