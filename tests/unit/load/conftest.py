"""A simulated engine as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from tests.within import within


@pytest.fixture
async def sim_engine() -> AsyncIterator[str]:
    """The URL of a fast simulated engine."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "seawall", "engine", "sim", "--port", "0", "--model-name", "sim", "--sim-step", "0.005",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    line = await within(child.stdout.readline(), 90)
    yield line.decode().split()[-1]
    child.kill()
    await child.wait()
