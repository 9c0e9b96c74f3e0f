"""The time that the tables may take: they grow, and CI runs all of them. Counted in CPU time, so that a busy machine is
no failure."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

CPU_S = {"test_requests": 15.0, "test_bodies": 25.0, "test_engines": 10.0, "test_differential": 10.0}
"""Seconds of each file, a minute in all, in whichever form of the code runs: the other one has the other minute."""


@pytest.fixture(scope="module", autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a file that takes more than its share."""
    name = request.module.__name__.rpartition(".")[2]
    began = time.process_time()
    yield
    spent = time.process_time() - began
    most = CPU_S.get(name)
    assert most is None or spent <= most, f"{name} took {spent:.0f} s of CPU, {most:.0f} are for it"
