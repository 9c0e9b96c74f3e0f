"""What is written down of files and batches, and what a batch and its tenant are charged with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.batch.making import CHAT, a_line
from tests.unit.batch.played_fleet import played
from tests.virtual_time import run

from seawall.batch.audit import ActionLog
from seawall.batch.lane import BatchLane
from seawall.batch.metrics import exposition
from seawall.batch.outlook import Outlook
from seawall.batch.surface import Surface
from seawall.batch.words import BatchRecord
from seawall.config.load import parse_fleets
from seawall.decide.batch.rules import FleetRules, LaneRules, rules_of
from seawall.domain.labels import BATCH_SECRET_HEADER, BATCH_TENANT_HEADER
from seawall.errors import InputError

OWN = {BATCH_SECRET_HEADER: "s", BATCH_TENANT_HEADER: "acme"}
PRICED = FleetRules("f", frozenset({"m"}), completion_price=10.0, gpus=4)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_what_a_tenant_does_is_written_down(tmp_path: Path) -> None:
    log, now = tmp_path / "audit.jsonl", [1000.0]
    rules = LaneRules((FleetRules("f", frozenset({"m"})),))
    lane = BatchLane(tmp_path, None, rules, now=lambda: now[0], audit=ActionLog(str(log)))
    async with TestClient(TestServer(Surface(lane, Outlook(rules), "s").app)) as client:

        async def ask(method: str, path: str, **more: Any) -> dict[str, Any]:
            async with client.request(method, path, headers=OWN, **more) as answer:
                assert answer.status == 200
                found: dict[str, Any] = await answer.json()
                return found

        async def upload(*lines: dict[str, Any]) -> str:
            form = FormData({"purpose": "batch"})
            form.add_field("file", "".join(json.dumps(line) + "\n" for line in lines), filename="in.jsonl")
            return str((await ask("POST", "/v1/files", data=form))["id"])

        async def create(file: str) -> str:
            asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
            return str((await ask("POST", "/v1/batches", json=asked))["id"])

        good, bad = await upload(a_line("secret-name")), await upload(a_line("x", method="GET"))
        runs, fails = await create(good), await create(bad)
        await ask("POST", f"/v1/batches/{runs}/cancel")
        await ask("DELETE", f"/v1/files/{bad}")
    now[0] += 90 * 86_400
    await lane.clean()
    await lane.close()
    lines = written(log)
    assert [(line["action"], line["id"]) for line in lines] == [
        ("file.created", good), ("file.created", bad), ("batch.created", runs), ("batch.created", fails),
        ("batch.over", fails), ("batch.cancelling", runs), ("file.deleted", bad), ("batch.forgotten", fails),
    ]  # fmt: skip
    assert {line["tenant"] for line in lines} == {"acme"} and lines[0]["time"].startswith(
        "1970-01-01T00:16:40"
    )
    assert lines[4]["status"] == "failed" and "GET" in lines[4]["why"]
    assert "secret-name" not in log.read_text()


def test_a_batch_that_is_over_is_written_down_with_its_bill_and_so_is_its_tenants(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"

    async def story() -> tuple[BatchRecord, float, str]:
        async with played(tmp_path, rules=PRICED, audit=ActionLog(str(log))) as lane:
            await lane.submit([24] * 320)
            began = lane.now()
            await lane.until(320)
            took = lane.now() - began
            while not (batch := await lane.lane.call(lane.lane.store.batch, "batch_1")).over:
                await asyncio.sleep(0.1)
            return batch, took, await exposition(lane.lane, lane.outlook, lane.worker)

    batch, took, page = run(story())
    (line,) = written(log)
    assert (line["action"], line["status"], line["completed"], line["tenant"]) == (
        "batch.over",
        "completed",
        320,
        "t",
    )
    assert line["tokens_out"] == 320 * 24 and line["cost_usd"] == pytest.approx(320 * 24 * 10.0 / 1e6)
    # Alone at its replica of four GPUs, from its first line to its last.
    assert line["gpu_seconds"] == pytest.approx(4 * took, rel=0.25)
    assert f'seawall_batch_tokens_total{{tenant="t"}} {320 * 24 + batch.tokens_in:.1f}' in page
    assert 'seawall_batch_gpu_seconds_total{tenant="t"}' in page
    assert 'seawall_batch_cost_usd_total{tenant="t"} 0.0768' in page


def test_a_replicas_gpus_are_the_fleets() -> None:
    text = """\
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: big}
spec:
  model: {source: "hf://a/b"}
  hardware: {gpu: H100-80GB, tensorParallel: 4}
  gateway: {batch: {}}
"""
    (fleet,) = rules_of(parse_fleets(text)).fleets
    assert fleet.gpus == 4


def test_a_log_that_cannot_be_is_said_at_the_start_and_later_costs_nobody_anything(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--audit"):
        ActionLog(str(tmp_path / "none" / "audit.jsonl"))
    folder = tmp_path / "there"
    folder.mkdir()
    log = ActionLog(str(folder / "audit.jsonl"))
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    log.note(1000.0, "file.deleted", "t", "file-1")
    assert log.lost == 1
