"""The bench's sweep over budgets in its quick form: it ends in time, and compares only what was run as a whole."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def frontier(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "bench"))
    import scaling_frontier

    yield scaling_frontier
    for name in ("scaling", "scaling_frontier"):
        sys.modules.pop(name, None)


def test_what_is_under_way_when_the_time_is_over_is_ended(frontier: Any) -> None:
    """Days of traffic, that nobody waits for."""
    endless = frontier.Job(frontier.Run("spikes", 1, "keda", 1.0), 2000.0)
    began = time.monotonic()
    assert frontier.in_time(1, [endless, endless], 0.2) == []
    assert time.monotonic() - began < frontier.QUICK_S


def test_a_seed_that_lacks_a_setting_is_compared_with_nothing(frontier: Any) -> None:
    wanted = frontier.jobs(frontier.QUICK, ["spikes", "azure"], [600.0], [1, 2])
    assert len(wanted) <= 60, "a second of CPU each, on two cores"
    runs = [job.run for job in wanted]
    assert frontier.complete(runs, wanted) == runs
    kept = frontier.complete(runs[:-1], wanted)
    assert {(r.trace, r.seed) for r in kept} == {("spikes", 1), ("azure", 1), ("spikes", 2)}
