"""A time limit for what a test waits for, which a cancellation passes: `asyncio.wait_for` of Python 3.11 may swallow
it, and who was to end goes on for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(waited: Awaitable[T], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await waited
