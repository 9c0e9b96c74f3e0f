"""One gateway process after another: a parent that does nothing but wait, and begins the next when one dies.

The parent has all that a gateway imports and none of what it does, so that a fork of it serves within a tenth of a
second. What the dead one held its keeper gives to the next. The parent passes signals on, and ends as its child ends by
its own will. Forbidden here: an event loop, threads, sockets of clients.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

log = logging.getLogger("seawall.gateway")
PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RENEWED = signal.SIGUSR1
"""From a child to its parent: it has read something that its successors should begin with."""
STABLE_S = 2.0
"""One that has lived for so long did not die of its start, nor of what it took over: streams wait for the next one."""
BACK_OFF_S = (0.0, 0.0, 0.1, 0.5, 2.0, 5.0)
"""Before the next start, after so many that did not last."""


def end_with_parent() -> None:
    """From now on this process gets SIGTERM when its parent dies."""
    libc: Any = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def one_after_another(
    serve: Callable[[Callable[[], None], float], int],
    served: Callable[[], None],
    renewed: Callable[[], None] = lambda: None,
) -> int:
    """Runs `serve` in a child, and in another when that was killed or failed after it had served. `serve` calls its
    first argument once it serves; `served` is called here then. Its second is when its predecessor died (monotonic
    seconds), 0 without one. `renewed` is called here when a child says so (RENEWED), and before another begins. In a
    child it returns what `serve` returns."""
    gc.collect()
    gc.freeze()
    deaths, child, stopping, first, died = 0, 0, False, True, 0.0

    def pass_on(number: int, _: object) -> None:
        nonlocal stopping
        stopping = stopping or number != signal.SIGHUP
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    signal.signal(RENEWED, lambda *_: renewed())
    while True:
        told, tell = os.pipe()
        began = time.monotonic()
        sys.stdout.flush()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, RENEWED))
        child = os.fork()
        if child == 0:
            for number in (*SIGNALS, RENEWED):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(told)
            return serve(partial(_say, tell), died)
        for number in SIGNALS:
            signal.signal(number, pass_on)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(tell)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child, died = 0, time.monotonic()
        if os.read(told, 1):
            first = False
            served()
        os.close(told)
        if stopping or first or code == 0:
            return code if code >= 0 else 128 - code
        deaths = 0 if died - began > STABLE_S else deaths + 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with {code}"
        log.error("the gateway %s: another goes on", how)
        renewed()  # whether or not the dead one had come to say so
        time.sleep(BACK_OFF_S[min(deaths, len(BACK_OFF_S) - 1)])


def _say(tell: int) -> None:
    os.write(tell, b"1")
    os.close(tell)
