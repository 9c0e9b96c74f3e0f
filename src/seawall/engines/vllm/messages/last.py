"""What says that an engine stands still or has died, and not why: it counts where nothing else is said.

A table only; the texts are those of vLLM and Ray.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

LAST: tuple[Sign, ...] = (
    Sign(
        "engine/stood-still",
        r"\[Watchdog\]Dumped stack to (?P<file>\S{1,200}) due to feed timeout",
        "no step of the engine ended for a while; it has written the stacks of all its threads to {file}",
        "read them before its Pod goes: kubectl exec POD -- cat {file}; the frames on top name what it waits for",
        weight=60,
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/died",
        r"(?:EngineDeadError|Engine core initialization failed|Engine process failed to start|EngineCore "
        r"(?:encountered a fatal error|died unexpectedly|failed to start)"
        r"|The actor is dead because its worker process has died)"
        r"[^\n]{0,120}",
        "the engine process died; the first error above it says why",
        "kubectl logs --previous, read from the first ERROR on",
        weight=40,
        certain=False,
    ),
)
