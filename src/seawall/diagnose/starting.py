"""Engines that start and do not get on: their logs write the same wait again and again. Pure rules.

Nothing has died, and a model that loads for long looks the same from outside; the log's last other lines tell the stage
in which it stands. Forbidden here: to call an engine hung whose log still moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from seawall.diagnose.cause import Cause, CauseCertainty, rule
from seawall.diagnose.facts import Facts, Object, name_of, part, seconds_between
from seawall.diagnose.states import ended, statuses
from seawall.domain.units import show_seconds

_WAITS = re.compile(
    r"Waiting for (?:(?P<local>\d+) local, (?P<remote>\d+) remote|\d+) core engine proc"
    r"|No available shared memory broadcast block found|Waiting for (?:engine|EngineCore|output from MQLLMEngine)"
    r"|(?P<lock>does not appear to support flock|(?:still )?waiting to acquire (?:the )?(?:file )?lock)"
    r"|still (?:waiting for|in) (?:WAITING_FOR_REMOTE_KVS|engine|rank)|waiting for (?:remote model|all workers)",
    re.I,
)
"""What a process of vLLM writes while it waits for another one, every 10 or 60 s."""
_AT_LEAST = 4
"""Waits in a row that make it worth a word."""
_LONG_S = 900.0
"""A start that has lasted longer than most weights take to load."""
_TAIL = 400


@dataclass(frozen=True)
class StartStage:
    """A stage of a start, by the last line that is no wait."""

    says: str
    what: str
    do: str
    certainty: CauseCertainty = "possible"


STAGES: tuple[StartStage, ...] = (
    StartStage(
        r"HAMI-core|libvgpu",
        "behind HAMi's library, which takes part in every call to the GPU",
        "a newer HAMi (its library lets ranks wait for each other), or the same Pod on a whole GPU without it: "
        "gpumem and "
        "gpucores left out; NCCL_P2P_DISABLE=1 and --disable-custom-all-reduce tell whether it is the ranks",
        "likely",
    ),
    StartStage(
        r"custom_all_reduce|Init START|NCCL INFO|pynccl|vLLM is using nccl|ncclCommInit|init_distributed|parallel_state"
        r"|rank \d+ in world size|Registering \d+ cuda graph|symm_mem|shm_broadcast\.py",
        "where its GPUs first talk to each other (NCCL, vLLM's own all-reduce)",
        "NCCL_P2P_DISABLE=1 and --disable-custom-all-reduce: where it then starts, the direct way between the GPUs "
        "is shut "
        "(IOMMU or ACS on PCIe, a virtual machine); several nodes: NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME and "
        "NCCL_IB_DISABLE=1; NCCL_DEBUG=INFO names the step",
        "likely",
    ),
    StartStage(
        r"torch\.compile|Compiling a graph|Dynamo bytecode|autotun|Capturing (?:CUDA|cuda) ?graph|cuda_graph"
        r"|flashinfer.*"
        r"(?:jit|build|compil)|ninja|nvcc|warmup|warming up|deep_gemm",
        "where kernels are compiled or graphs captured",
        "the first start on a node compiles for minutes: keep VLLM_CACHE_ROOT, TRITON_CACHE_DIR and "
        "FLASHINFER_WORKSPACE_BASE "
        "on a volume, and CPU in requests; VLLM_DEEP_GEMM_WARMUP=skip; --enforce-eager tells whether it is this",
    ),
    StartStage(
        r"Loading (?:safetensors|weights|model|pt)|Starting to load model|Downloading|Fetching \d+ files"
        r"|Loading checkpoint"
        r"|runai|Streaming",
        "where the weights are read",
        "is the disk slow (a network volume with few IOPS, a mmap over NFS or FUSE), or does it still download? "
        "--safetensors-load-strategy prefetch on network file systems; seawall pull into a local volume; the "
        "start-up budget",
    ),
)
"""The first whose pattern the last line that is no wait has."""


_LOCKED = StartStage(
    "",
    "for the lock of a download",
    "another Pod or a process that was killed holds it, or the volume has no locks (flock: some NFS, FUSE, Lustre): "
    "remove the *.lock files (hub/.locks, .cache/huggingface) while nothing downloads, one Pod per folder, or download "
    "once with a Job (seawall pull) and set HF_HUB_OFFLINE=1",
    "likely",
)


@rule
def stands(facts: Facts) -> Iterator[Cause]:
    """Engines that are not ready and write nothing but that they wait."""
    for pod in facts.pods:
        for status, _, init in statuses(pod):
            running = part(status, "state", "running")
            if init or not running or status.get("ready") is not False or ended(status):
                continue
            log = facts.logs.get(f"{name_of(pod)}/{status.get('name')}", "")
            lines = [line for line in log.splitlines()[-_TAIL:] if line.strip()]
            waits = [m for line in lines if (m := _WAITS.search(line))]
            since = seconds_between(running.get("startedAt"), facts.taken_at)
            if len(waits) >= _AT_LEAST and _WAITS.search(lines[-1]) and (since is None or since >= _LONG_S):
                yield _standing(pod, status, lines, waits[-1], since)


def _standing(
    pod: Object, status: Object, lines: list[str], wait: re.Match[str], since: float | None
) -> Cause:
    others = [line for line in lines if not _WAITS.search(line)]
    if wait["remote"] and int(wait["remote"]) > 0 and not int(wait["local"] or 0):
        stage: StartStage | None = StartStage(
            "",
            f"for {wait['remote']} ranks on other nodes, which have not joined",
            "are their Pods placed, and do their logs name this Pod's address (--data-parallel-address, "
            "--master-addr; a "
            "headless Service with publishNotReadyAddresses)? Their --data-parallel-size and start ranks have to "
            "add up; "
            "a NetworkPolicy between them",
            "likely",
        )
    elif wait["lock"]:
        stage = _LOCKED
    else:
        stage = next(
            (s for line in reversed(others[-12:]) for s in STAGES if re.search(s.says, line, re.I)), None
        )
    shown = " ".join((others or lines)[-1].split())[:200]
    lasts = f" for {show_seconds(since)}" if since else ""
    return Cause(
        id="engine/start-stands",
        certainty=stage.certainty if stage else "possible",
        subject=f"Pod/{name_of(pod)}",
        weight=70,
        what=f"the engine starts{lasts} and stands still"
        + (
            f" {stage.what}"
            if stage
            else ": one of its processes waits for another, and the log names no stage"
        ),
        evidence=(f"log of {status.get('name')}, last but its waiting: {shown}",),
        do=stage.do
        if stage
        else "VLLM_LOGGING_LEVEL=DEBUG and NCCL_DEBUG=INFO name the stage; py-spy dump --pid of the engine's processes "
        "(kubectl exec) shows where; with several GPUs: NCCL_P2P_DISABLE=1 and --disable-custom-all-reduce",
    )
