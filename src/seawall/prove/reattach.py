"""Clients that lose their connection in mid-answer and come again (load/lossy.py). What they were given, however many
parts it came in, must be the one answer: the verdict compares it token by token.
"""

from __future__ import annotations

import asyncio
import signal

from seawall.prove.stage import Stage


async def come_again(stage: Stage) -> None:
    stage.mark("half of the clients lose their connection in mid-answer, once or twice, and come again")
    await asyncio.sleep(4.0)
    if stage.slow:
        return
    count = len(await stage.ready())
    victim = await stage.victim()
    stage.mark(f"kill -9 {victim.name}: answers that nobody reads at the moment go on elsewhere, too")
    stage.signal(victim.pid, signal.SIGKILL)
    await asyncio.sleep(4.0)
    await stage.until_ready(count, 30.0)
