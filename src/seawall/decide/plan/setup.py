"""What one vLLM process group is asked to do, and vLLM's defaults by version. Pure; nothing is chosen here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from seawall.decide.plan.flags import Extra
from seawall.domain.catalog.gpus import Gpu
from seawall.domain.spec import EngineSpec

GIB = 2**30
PatchVersion = tuple[int, int, int]
NEWEST: PatchVersion = (0, 33, 0)
LAST_V0: PatchVersion = (0, 7, 9)
GRAPHS_INSIDE: PatchVersion = (0, 20, 0)
"""The first version whose CUDA graphs come out of the budget (its message names 0.21; 0.20.0 was seen to do it)."""
GRAPHS_ESTIMATED: PatchVersion = (0, 18, 0)
"""The first version that can be told to do so (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS)."""


@dataclass(frozen=True, kw_only=True)
class EngineSetup:
    """One way to run a model: the flags that decide how memory and time are spent."""

    gpu: Gpu
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: bool = False
    dcp: int = 1
    """Decode-context parallel size."""
    version: PatchVersion = NEWEST
    utilization: float = 0.92
    max_model_len: int
    max_num_seqs: int
    batched_tokens: int
    """max_num_batched_tokens."""
    kv_dtype: str = "auto"
    eager: bool = False
    prefix_caching: bool = True
    draft_tokens: int = 0
    """Speculative tokens of one step, whoever drafts them; 0 without."""
    kv_memory: int | None = None
    """--kv-cache-memory-bytes: the cache's size when it is set by hand."""
    extra: Extra = field(default_factory=Extra)
    """The effect of further flags on memory."""
    version_stated: bool = True
    """False: the newest was taken, because none was given."""
    fork: bool = False
    """A fork or a development build, planned as the release that it names."""

    @property
    def in_flight_tokens(self) -> int:
        """Tokens scheduled and not yet settled: with asynchronous scheduling (0.27) one batch more than stages."""
        batches = self.pp + 1 if self.version >= (0, 27, 0) else 1
        return batches * self.batched_tokens

    @property
    def drafts_itself(self) -> bool:
        """Drafts come from the model's own multi-token-prediction layers."""
        return self.draft_tokens > 0 and self.extra.draft is not None and self.extra.draft.built_in

    @property
    def counts_graphs(self) -> bool:
        """CUDA graphs come out of the budget, instead of on top of it."""
        told = self.extra.counts_graphs
        return self.version >= GRAPHS_INSIDE if told is None else told and self.version >= GRAPHS_ESTIMATED

    @property
    def nvlink(self) -> bool:
        """Ranks of one tensor-parallel group reach each other over NVLink or its like, inside one node."""
        return self.gpu.link_gbs >= 300 and self.tp <= self.gpu.per_node

    @property
    def world(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp * self.dp


def parse_version(text: str | None) -> PatchVersion:
    """The first `x.y.z` or `x.y` in a version string; the newest known when there is none.

    A note that the old engine ran (`0.8.x V0 engine`) counts as the last release that had it by default.
    """
    m = re.search(r"(\d+)\.(\d+|x)(?:\.(\d+))?", text or "")
    if m is None or m[2] == "x":
        return NEWEST
    version = int(m[1]), int(m[2]), int(m[3] or 0)
    return min(version, LAST_V0) if re.search(r"\bV0\b", text or "") else version


def caches_states(version: str | None) -> bool:
    """Whether `vllm serve` caches prefixes of models with recurrent layers unasked: from 0.28 (pull request 50991)."""
    return parse_version(version) >= (0, 28, 0)


def default_utilization(version: PatchVersion) -> float:
    """vLLM config/cache.py: 0.9 until 0.29, 0.92 from 0.30."""
    return 0.92 if version >= (0, 30, 0) else 0.9


def batch_of(engine: EngineSpec, seqs: int, tokens: int) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens) of a spec, from the defaults `seqs` and `tokens` where it leaves one open.

    vLLM refuses a step that could not give each of its sequences a token, so the open one follows the other.
    """
    if engine.max_num_seqs is not None:
        most = engine.max_num_seqs
        return most, engine.max_num_batched_tokens or max(tokens, most)
    tokens = engine.max_num_batched_tokens or tokens
    return min(seqs, tokens), tokens


def default_batch(gpu: Gpu, version: PatchVersion, max_model_len: int) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens) of `vllm serve` without flags (engine/arg_utils.py).

    Before 0.8 the V0 engine without chunked prefill profiled a whole context at once.
    """
    if version < (0, 8, 0):
        return 256, max(2048, max_model_len) if max_model_len <= 32768 else 2048
    small = (gpu.name.startswith("A100") and version >= (0, 9, 0)) or (
        gpu.name == "GB10" and version >= (0, 33, 0)
    )
    big = gpu.memory_gib >= 70 and not small
    if version < (0, 8, 5):  # the first V1 releases: 1024 on every GPU
        seqs, tokens = 1024, 8192 if big else 2048
    elif gpu.memory_gib >= 160 and version >= (0, 22, 0):
        seqs, tokens = 1024, 16384
    else:
        seqs, tokens = (1024, 8192) if big else (256, 2048)
    return seqs, max(1, min(tokens, seqs * max_model_len))
