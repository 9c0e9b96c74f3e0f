"""What an engine's /metrics say, and how tests wait for it instead of for time."""

from __future__ import annotations

import asyncio
import time
import urllib.request


def total(url: str, name: str) -> float:
    """The sum of all series of `vllm:NAME`."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((f"vllm:{name}{{", f"vllm:{name} "))
    )


def wait_until(url: str, name: str, at_least: float, within_s: float = 90) -> None:
    """Returns when `vllm:NAME` has reached a value."""
    end = time.monotonic() + within_s
    while (seen := total(url, name)) < at_least:
        assert time.monotonic() < end, f"{name} is {seen} after {within_s:.0f} s, wanted {at_least}"
        time.sleep(0.02)


async def until(url: str, name: str, at_least: float, within_s: float = 90) -> None:
    """`wait_until`, while the event loop goes on."""
    await asyncio.to_thread(wait_until, url, name, at_least, within_s)
