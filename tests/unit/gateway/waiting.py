"""Waiting for what a test expects, not for a time."""

from __future__ import annotations

import asyncio
from typing import Any


async def until(condition: Any, seconds: float = 5.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")
