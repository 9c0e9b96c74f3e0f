"""When a GPU's memory ran out, by the log: the weights, the trial step, the KV cache, the graphs and a request "
"each have
another cure, and another process on the GPU has one of its own. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from seawall.diagnose.cause import Cause
from seawall.engines.vllm.raised import exception


@dataclass(frozen=True)
class Moment:
    """A part of an engine's life in which it takes memory."""

    files: str
    """Pattern of a file or function on the way."""
    says: str
    """Pattern of the last of vLLM's own lines before; empty: the way alone tells."""
    what: str
    do: str


MOMENTS: tuple[Moment, ...] = (
    Moment(
        r"vllm/lora/",
        "",
        "while room for adapters is made",
        "lower --max-loras, --max-lora-rank or --gpu-memory-utilization",
    ),
    Moment(
        r"cuda_?graph|cuda/graphs\.py|capture_model",
        r"Capturing (?:CUDA|cuda) ?graph",
        "while CUDA graphs are captured, after the KV cache had taken its share",
        "lower --gpu-memory-utilization (by 0.03 to 0.05), --max-num-seqs or the largest graph "
        "(--max-cudagraph-capture-size); --enforce-eager goes without graphs, and slower",
    ),
    Moment(
        r"_allocate_kv_cache|initialize_kv_cache|kv_cache_utils|cache_engine",
        r"GPU KV cache size|Available KV cache memory",
        "while the KV cache is made",
        "lower --gpu-memory-utilization: something took memory since vLLM measured (another process on this GPU?)",
    ),
    Moment(
        r"sampler\.py|_dummy_sampler",
        r"warming up sampler|Model loading took|torch\.compile takes|Loading model weights took",
        "while vLLM tries out the largest step, before there is a KV cache",
        "lower --max-num-seqs and --max-num-batched-tokens (pictures: --limit-mm-per-prompt); then more tensor "
        "parallelism",
    ),
    Moment(
        r"model_loader|weight_utils|layers/quantization/\S+|vllm/model_executor/models/",
        r"Starting to load model|Loading safetensors|Loading weights|Loading model",
        "while the weights are loaded: they do not fit into it",
        "more tensor parallelism (--tensor-parallel-size), a quantized checkpoint, or a larger GPU; where only little "
        "lacks, a lower --gpu-memory-utilization and --max-num-batched-tokens; seawall "
        "plan does the sum",
    ),
)
"""The first that the way of the exception shows; else the one whose line is the log's last of these."""
_TRIAL, _LOADING = MOMENTS[-2:]
_SERVING = Moment(
    "",
    r"Application startup complete|Uvicorn running on|Avg (?:prompt|generation) throughput",
    "while it served requests: a step needed more than was measured at the start",
    "lower --gpu-memory-utilization (by 0.03 to 0.05) or set --kv-cache-memory-bytes, which leaves room for the "
    "step; lower "
    "--max-num-batched-tokens and --max-num-seqs (pictures: --limit-mm-per-prompt); "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True against pieces that are too small",
)
"""After the start: what the log says before the exception tells, not the way."""
_RUNS = re.compile(r"gpu_model_runner|gpu/model_runner|gpu_worker")
_LOADS = re.compile(r"model_loader|weight_utils")
"""A model's own code runs twice: while it is made and loaded, and while a step is tried out."""


def when_it_ran_out(cause: Cause, log: str) -> Cause:
    """The cause with the moment and the sums of the log; as it is when it is of another kind, or the log tells "
    "none."""
    if cause.id != "gpu/out-of-memory" or "HAMi" in cause.what:
        return cause
    sums = _sums(log)
    if sums and sums.others >= 1.0:
        return replace(
            cause,
            id="gpu/memory-taken",
            certainty="likely",
            what=f"the GPU's memory ran out because another process holds {sums.others:.1f} of its {sums.all:.1f} GiB",
            do="find it (nvidia-smi on the node: an old engine that has not ended, time-slicing, a desktop), or lower "
            "--gpu-memory-utilization to what is left",
        )
    moment = _moment(log)
    had = f" ({sums.free:.1f} of {sums.all:.1f} GiB were free)" if sums else ""
    if moment is None:
        return replace(cause, what=f"{cause.what}{had}")
    return replace(cause, what=f"{cause.what} {moment.what}{had}", do=moment.do)


def _moment(log: str) -> Moment | None:
    raised = exception(log)
    files = raised.files if raised else ()
    if raised is not None and re.search(_SERVING.says, log[: raised.start]):
        return _SERVING
    ran = any(_RUNS.search(f) for f in files) and not any(_LOADS.search(f) for f in files)
    for file in reversed(files):
        for moment in MOMENTS:
            if re.search(moment.files, file):
                return _TRIAL if ran and moment is _LOADING else moment
    said = [(m.start(), moment) for moment in MOMENTS if moment.says for m in re.finditer(moment.says, log)]
    return max(said, key=lambda s: s[0])[1] if said else None


@dataclass(frozen=True)
class GpuSums:
    """What PyTorch says of a GPU's memory, in GiB."""

    all: float
    free: float
    others: float
    """What other processes hold: all, without what is free and what the process itself holds."""


_TOTAL = re.compile(
    r"total capaci?ty of (?P<all>[\d.]+) (?P<all_unit>[KMG]iB)[^\n]{0,40}? of which "
    r"(?P<free>[\d.]+) (?P<free_unit>[KMG]iB) is free"
)
_OWN = re.compile(r"this process has (?P<own>[\d.]+) (?P<own_unit>[KMG]iB) memory in use")
_GIB = {"KiB": 2**-20, "MiB": 2**-10, "GiB": 1.0}


def _sums(log: str) -> GpuSums | None:
    total = _TOTAL.search(log)
    if total is None:
        return None
    all_ = float(total["all"]) * _GIB[total["all_unit"]]
    free = float(total["free"]) * _GIB[total["free_unit"]]
    own = _OWN.search(log, total.end(), total.end() + 300)
    others = all_ - free - float(own["own"]) * _GIB[own["own_unit"]] if own else 0.0
    return GpuSums(all_, free, others)
