"""What a lane allows each tenant, how long it keeps files, what batches cost: over its own door, without an engine."""

from __future__ import annotations

from pathlib import Path

from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.batch.making import a_batch

from seawall.batch.lane import BatchLane
from seawall.batch.outlook import Outlook
from seawall.batch.surface import Surface
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.domain.labels import BATCH_SECRET_HEADER, BATCH_TENANT_HEADER
from seawall.domain.spec import BatchSpec

FLEET = FleetRules("f", frozenset({"m"}), prompt_price=2.0, completion_price=10.0)


class LaneClock:
    """Unix seconds that pass when they are told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_each_tenant_has_so_many_files_and_bytes_and_what_has_had_its_time_makes_room(
    tmp_path: Path,
) -> None:
    clock = LaneClock()
    rules = LaneRules((FLEET,), BatchSpec(files=2, space=1000, retention=7200.0))
    lane = BatchLane(tmp_path, None, rules, now=clock)

    async with TestClient(TestServer(Surface(lane, Outlook(rules), "s").app)) as client:

        async def upload(tenant: str, size: int, **fields: str) -> tuple[int, str]:
            form = FormData({"purpose": "batch", **fields})
            form.add_field("file", b"x" * size, filename="in.jsonl")
            headers = {BATCH_SECRET_HEADER: "s", BATCH_TENANT_HEADER: tenant}
            async with client.post("/v1/files", data=form, headers=headers) as answer:
                told = await answer.json()
                return answer.status, told["error"]["code"] if answer.status != 200 else told["id"]

        soon = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        assert (await upload("a", 400, **soon))[0] == 200
        refused, why = await upload("a", 700)
        assert refused == 413 and why, "more bytes than are left"
        status, kept = await upload("a", 400)
        assert status == 200
        assert await upload("a", 10) == (429, "too_many_files")
        assert (await upload("b", 900))[0] == 200, "another tenant has its own room"
        clock.now += 3601
        await lane.clean()
        holding = await lane.call(lane.store.holding, "a")
        assert (holding.files, holding.size) == (1, 400), "its own time was over, the other's not"
        assert lane.blobs.path(kept).exists() and (await upload("a", 500))[0] == 200
        clock.now += 7201
        await lane.clean()
        assert (await lane.call(lane.store.holding, "a")).files == 0
        assert not lane.blobs.path(kept).exists()
    await lane.close()


def test_a_batch_costs_what_its_tokens_do_at_the_lanes_price() -> None:
    batch = a_batch(model="m", tokens_in=3, tokens_out=2, busy_s=0.5, total=1)
    told = Outlook(LaneRules((FLEET,))).told(batch, 1000.0)
    assert told["cost_usd"] == (3 * 2.0 + 2 * 10.0) / 1e6 and told["gpu_seconds"] == 0.5
