"""What a break makes an engine compute again, counted where a request is tried anew or given up. Arithmetic only.

A continued stream costs its prompt and what it had as a prefill elsewhere; all else is generated again, and the time
in which it held its share of a replica is lost. Of a whole answer that was not streamed only the time is known.
"""

from __future__ import annotations

from typing import NamedTuple

from seawall.decide.route.prefix import BYTES_PER_TOKEN
from seawall.decide.route.resume import StreamSession
from seawall.domain.spec import FleetSpec

UNTOUCHED = ("connect", "keepalive", "503")
"""Kinds of breaks before which the engine has computed nothing."""


class Wasted(NamedTuple):
    """Tokens and GPU-seconds that one break threw away."""

    prompt: int
    """Tokens that are, or were, computed as a prompt once more than needed."""
    completion: int
    """Tokens that were generated, and are generated again or lost."""
    gpu_s: float


def gpus_of(spec: FleetSpec) -> int:
    """GPUs of one replica; a CPU counts as one."""
    hardware = spec.hardware
    ways = (hardware.tensor_parallel or 1) * (hardware.pipeline_parallel or 1) * (hardware.data_parallel or 1)
    return hardware.gpus_per_replica or ways


def wasted(kind: str, session: StreamSession | None, continued: bool, size: int, gpu_s: float) -> Wasted:
    """Of one break of this kind, before the next attempt begins. `continued`: the stream goes on from its tokens.
    `size`: bytes of the request; `gpu_s`: what the attempt has had of its replica."""
    known = session.usage if session is not None else None
    had = session.tokens_out if session is not None else 0
    prompt = known.prompt_tokens if known is not None and known.prompt_tokens else size // BYTES_PER_TOKEN
    if continued:
        return Wasted(prompt + had, 0, 0.0)
    if kind in UNTOUCHED:
        return Wasted(0, had, gpu_s)
    return Wasted(prompt, had, gpu_s)
