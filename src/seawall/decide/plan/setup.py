"""What one vLLM process group is asked to do, and vLLM's defaults by version. Pure; nothing is chosen here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seawall.domain.catalog.gpus import Gpu

GIB = 2**30
Version = tuple[int, int, int]
NEWEST: Version = (0, 32, 0)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One way to run a model: the flags that decide how memory and time are spent."""

    gpu: Gpu
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: bool = False
    dcp: int = 1
    """Decode-context parallel size."""
    version: Version = NEWEST
    utilization: float = 0.92
    max_model_len: int
    max_num_seqs: int
    batched_tokens: int
    """max_num_batched_tokens."""
    kv_dtype: str = "auto"
    eager: bool = False
    prefix_caching: bool = True
    draft_tokens: int = 0
    """Speculative tokens of a multi-token-prediction head; 0 without."""
    kv_memory: int | None = None
    """--kv-cache-memory-bytes: the cache's size when it is set by hand."""

    @property
    def world(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp * self.dp


def parse_version(text: str | None) -> Version:
    """The first `x.y.z` or `x.y` in a version string; the newest known when there is none."""
    m = re.search(r"(\d+)\.(\d+|x)(?:\.(\d+))?", text or "")
    if m is None or m[2] == "x":
        return NEWEST
    return int(m[1]), int(m[2]), int(m[3] or 0)


def default_utilization(version: Version) -> float:
    """vLLM config/cache.py: 0.9 until 0.29, 0.92 from 0.30."""
    return 0.92 if version >= (0, 30, 0) else 0.9


def default_batch(gpu: Gpu, version: Version, max_model_len: int) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens) of `vllm serve` without flags (engine/arg_utils.py).

    Before 0.8 the V0 engine without chunked prefill profiled a whole context at once.
    """
    if version < (0, 8, 0):
        return 256, max(2048, max_model_len) if max_model_len <= 32768 else 2048
    big = gpu.memory_gib >= 70 and not gpu.name.startswith("A100")
    if big and gpu.memory_gib >= 160 and version >= (0, 22, 0):
        seqs, tokens = 1024, 16384
    elif big and version >= (0, 8, 3):
        seqs, tokens = (1024, 8192) if version >= (0, 9, 0) else (256, 8192)
    else:
        seqs, tokens = 256, 2048
    return seqs, max(1, min(tokens, seqs * max_model_len))
