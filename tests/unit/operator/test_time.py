"""Time in the operator is read and waited for by its clock alone; its tests are stories under a clock that jumps."""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import seawall.operator
from seawall.testing.clock import StoryClock
from seawall.testing.story import others_run

ROOM = Path(seawall.operator.__file__).parent
SUITE = Path(__file__).parent
BARE = {("asyncio", "sleep"), ("time", "sleep"), ("time", "time"), ("time", "monotonic"), ("datetime", "now")}
MOST_S = 1.5
"""Seconds of bare sleeping in all tests of the operator together."""


def calls(path: Path) -> Iterator[tuple[ast.Call, tuple[str, str]]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
                yield node, (module, name)


def test_nothing_in_the_operator_reads_or_waits_for_the_machines_time() -> None:
    found = [
        f"{path.name}:{node.lineno}: {'.'.join(name)}"
        for path in sorted(ROOM.glob("*.py"))
        for node, name in calls(path)
        if name in BARE
    ]
    assert not found, f"ask the clock: {found}"


def test_the_operators_tests_hardly_sleep() -> None:
    slept = {
        f"{path.name}:{node.lineno}": node.args[0]
        for path in sorted(SUITE.glob("*.py"))
        for node, name in calls(path)
        if name in (("asyncio", "sleep"), ("time", "sleep"))
    }
    spans = {
        at: float(arg.value) if isinstance(arg, ast.Constant) else float("inf") for at, arg in slept.items()
    }
    assert sum(spans.values()) <= MOST_S, spans


async def test_a_story_wakes_each_sleeper_at_its_own_moment() -> None:
    import asyncio

    clock, woken = StoryClock(), list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now()))

    tasks = [asyncio.ensure_future(sleeper(n, s)) for n, s in (("late", 30.0), ("soon", 1.0))]
    await asyncio.sleep(0)
    clock.advance(0.5)
    await asyncio.sleep(0)
    assert not woken
    clock.advance(3600)
    await asyncio.gather(*tasks)
    assert [name for name, _ in woken] == ["soon", "late"]
    assert clock.now() == 3600.5


def test_who_would_run_is_seen_though_nobody_lets_him() -> None:
    at_work = threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"a", b"b", 2_000_000))
    at_work.start()
    while at_work.is_alive() and not (seen := others_run()):
        pass
    assert seen
    at_work.join()
    while others_run():  # other tests' threads are done soon
        pass
