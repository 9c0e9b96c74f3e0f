"""How much memory a gateway process needs, and how much of it may be held of others' bytes. Arithmetic, shared by what
runs a gateway and by what renders one. Sizes in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from seawall.domain.spec import Fleet

MIB: Final = 2**20
BASE: Final = 96 * MIB
"""A process that holds nothing."""
LEAST: Final = 16 * MIB
DEFAULT: Final = 1024 * MIB
"""Of the process, where neither the spec nor a control group says."""
RENDERED: Final = 2048 * MIB
"""A rendered gateway's limit at least: what the defaults need, with some air."""
LARGE_AT_ONCE: Final = 16
"""So many of the largest bodies a rendered gateway takes at a time."""
USUAL_BODY: Final = 16 * 1024
RECORD: Final = 64 * 1024
"""Of a stream: 4,000 tokens at 16 bytes each."""
MOST_QUEUED: Final = 10_000
MOST_STREAMS: Final = 20_000
STEP: Final = 128 * MIB


def bound_of(process: int) -> int:
    """What a process that may use so much may hold: a third of what is left is for what Python adds, for copies that
    are being made, and for holes in the heap."""
    return max(LEAST, (process - BASE) * 2 // 3)


def process_for(held: int) -> int:
    """The other way round, in whole steps."""
    return -(-(BASE + held * 3 // 2) // STEP) * STEP


def needed(fleets: Iterable[Fleet]) -> int:
    """Of a process that serves these fleets: what one of them asks for, or what follows from the bodies and the streams
    that they allow, as a power of two: few changes of a spec shall restart gateways."""
    given, largest, held = 0, 0, 0
    for fleet in fleets:
        spec = fleet.spec.gateway
        given = max(given, spec.memory or 0)
        largest = max(largest, spec.max_body)
        places = (spec.max_in_flight or fleet.spec.engine.max_num_seqs or 256) * fleet.spec.scaling.max
        queued = MOST_QUEUED if spec.max_queued is None else spec.max_queued
        held += min(queued, MOST_QUEUED) * USUAL_BODY + min(places, MOST_STREAMS) * RECORD
    if given:
        return given
    wanted, size = process_for(held + LARGE_AT_ONCE * largest), RENDERED
    while size < wanted:
        size *= 2
    return size
