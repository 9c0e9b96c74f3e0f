"""PostgreSQL and a lane that shares it, killed in the middle of a batch: each line has one result all the same."""

from __future__ import annotations

import time
from pathlib import Path

import openai
from tests.postgres_server import killable_postgres
from tests.unit.batch.making import CHAT, a_line
from tests.unit.batch.processes import lane_processes
from tests.unit.batch.test_openai_client import results, until_over, upload

LINES = 600


def until_done(client: openai.OpenAI, batch: str, lines: int) -> None:
    """Waits for so many results, whatever is away meanwhile."""
    while True:
        try:
            found = client.batches.retrieve(batch)
        except openai.APIStatusError as e:
            assert e.status_code == 503 and "Nothing is lost" in e.message
        else:
            assert found.request_counts is not None
            if found.request_counts.completed >= lines or found.status != "in_progress":
                return
        time.sleep(0.05)


def test_a_database_that_is_killed_and_comes_back_costs_no_line(tmp_path: Path) -> None:
    with (
        killable_postgres() as postgres,
        lane_processes(tmp_path, store=postgres.address) as lane,
        openai.OpenAI(base_url=f"{lane.url}/v1", api_key="none", max_retries=0) as client,
    ):
        lines = [a_line(f"q{i}") for i in range(LINES)]
        batch = client.batches.create(
            input_file_id=upload(client, lines).id, endpoint=CHAT, completion_window="24h"
        ).id
        until_done(client, batch, 60)
        postgres.kill()
        try:
            client.batches.retrieve(batch)
            raise AssertionError("nobody can know now")
        except openai.APIStatusError as e:
            assert e.status_code == 503 and e.response.headers["retry-after"]
        postgres.start()
        until_done(client, batch, 200)
        postgres.kill()
        lane.kill("lane")
        postgres.start()
        lane.start("lane")
        until_done(client, batch, LINES)
        over = until_over(client, batch)
        assert over.status == "completed" and over.request_counts is not None
        assert (over.request_counts.completed, over.request_counts.failed) == (LINES, 0)
        assert [r["custom_id"] for r in results(client, over.output_file_id)] == [
            f"q{i}" for i in range(LINES)
        ]
        assert over.model_extra is not None and over.model_extra["seawall"]["ran_twice"] <= 4 * 32
