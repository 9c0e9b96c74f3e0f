"""What says that an engine stands still or has died, and not why: it counts where nothing else is said.

A table only; the texts are those of vLLM and Ray.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

_ENDED = r"(?:exit ?code:? |exitcode ?[=:] |Failed (?:Engine )?core proc\(s\): \{[^}\n]*: )-"
"""How vLLM and torchrun write that one of their processes ended by a signal, up to its number."""
LAST: tuple[Sign, ...] = (
    Sign(
        "engine/host-memory",
        _ENDED + r"9\b|Signal 9 \(SIGKILL\) received by PID",
        "one of the engine's processes was killed from outside (SIGKILL), which is mostly the kernel for want of host "
        "memory",
        "the memory limit against the container's use (kubectl top pod --containers; memory.events in its cgroup "
        "counts "
        "oom_kill, dmesg on the node names the process): raise it; /dev/shm, pinned buffers, KV offloading and "
        "weights "
        "that are read through memory by each rank count into it",
        weight=75,
        certain=False,
    ),
    Sign(
        "engine/host-memory",
        r"The process is killed by SIGKILL by OOM killer due to high memory usage",
        "a worker of Ray went away without a word: the kernel killed it for want of host memory, or it crashed",
        "the Pod's memory limit and its use (kubectl top pod); RAY_memory_monitor_refresh_ms=0 where Ray's own "
        "monitor did "
        "it; for a crash the worker's own log, /tmp/ray/session_latest/logs/worker-*.err",
        weight=70,
        certain=False,
    ),
    Sign(
        "engine/shm",
        _ENDED + r"7\b",
        "one of the engine's processes died of a bus error (SIGBUS): /dev/shm is too small for its ranks (64 MiB "
        "in a Pod)",
        "mount an emptyDir {{medium: Memory, sizeLimit: 8Gi}} at /dev/shm",
        weight=75,
        certain=False,
    ),
    Sign(
        "container/segfault",
        _ENDED
        + r"(?P<signal>11|6|8)\b|Fatal Python error: (?P<why>Segmentation fault|Aborted|Floating point exception)",
        "native code of one of the engine's processes crashed (signal {signal}{why}): kernels, a library or a "
        "driver that "
        "do not go together",
        "PYTHONFAULTHANDLER=1 (and ulimit -c) shows where; vLLM's own image unchanged; --enforce-eager and "
        "NCCL_P2P_DISABLE=1 tell which part it is; dmesg on the node names the library; another vLLM image",
        weight=70,
        certain=False,
    ),
    Sign(
        "container/segfault",
        _ENDED + r"4\b|Fatal Python error: Illegal instruction|Illegal instruction(?: \(core dumped\))?",
        "this CPU lacks an instruction that the image was built for (AVX512, AMX, AVX2)",
        "an image for this CPU, or nodes that have the instruction (lscpu); of a virtual machine: pass the "
        "host's CPU on",
        weight=75,
        certain=False,
    ),
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
