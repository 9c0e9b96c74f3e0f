"""What further `vllm serve` flags (`engine.extraArgs`) mean for the plan. Pure; flags that do not are passed over.

Names and shapes are vLLM's (0.8 to 0.33). Forbidden here: sizes in bytes, which `memory.py` works out, and saying
that a flag is wrong, which rendering does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seawall.domain.spec import Fleet

Graphs = Literal["full", "piecewise", "decode", "none"]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Speculative decoding as the flags ask for it."""

    method: str
    tokens: int
    model: str = ""
    """The draft model's name; empty for methods that need none."""

    @property
    def built_in(self) -> bool:
        """Drafts by the model's own multi-token-prediction layers."""
        return "mtp" in self.method

    @property
    def separate(self) -> bool:
        """Drafts by a model of its own, which has weights."""
        return not self.built_in and not self.method.startswith(("ngram", "suffix"))


@dataclass(frozen=True, kw_only=True)
class Extra:
    """The flags that decide about memory, beyond those that a spec has fields for."""

    dcp: int = 1
    offload_gib: float = 0.0
    """--cpu-offload-gb: weights of each GPU that lie in host memory."""
    offload_group: int = 0
    """--offload-group-size: of so many layers, the last `offload_in_group` lie in host memory."""
    offload_in_group: int = 1
    offload_ahead: int = 1
    """--offload-prefetch-step: layers that are fetched ahead, each into a buffer."""
    adapters: int = 0
    """--max-loras, when LoRA is on."""
    rank: int = 16
    sharded_adapters: bool = False
    """--fully-sharded-loras."""
    towers: bool = True
    """False: encoders are not loaded (--language-model-only, or no image, video or audio per prompt)."""
    profiles_towers: bool = True
    graphs: Graphs = "full"
    counts_graphs: bool | None = None
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS: CUDA graphs come out of the budget. None: the release's own."""
    captured: tuple[int, ...] = ()
    """--cudagraph-capture-sizes; empty: vLLM's own list."""
    largest: int = 0
    """--max-cudagraph-capture-size; 0: vLLM's own."""
    state_bytes: int = 0
    """--mamba-ssm-cache-dtype: bytes of one element of a recurrent state; 0: the model's own."""
    draft: Draft | None = None
    unread: tuple[str, ...] = field(default=())
    """Flags that change memory in ways that are not worked out here."""


_STATES = {"float32": 4, "float16": 2, "bfloat16": 2}
_UNREAD = (
    "--hf-overrides", "--offload-params", "--cpu-offload-params", "--kv-cache-dtype-skip-layers",
    "--num-gpu-blocks-override",
    "--prefill-context-parallel-size", "--enable-eplb", "--config", "--model-loader-extra-config",
)  # fmt: skip


GRAPHS_VARIABLE = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"


def read_flags(args: Sequence[str], env: Mapping[str, str] | None = None) -> Extra:
    """`engine.extraArgs` and `engine.env` -> what they mean. Values that cannot be read are passed over."""
    given = _options(args)
    compilation = _json(given, "--compilation-config", "-cc")
    graphs, captured, largest = _graphs(given, compilation)
    limits = _json(given, "--limit-mm-per-prompt")
    no_items = bool(limits) and all(v == 0 for v in limits.values())
    on = "--enable-lora" in given
    return Extra(
        dcp=_number(given, "--decode-context-parallel-size", "-dcp") or 1,
        offload_gib=min(10_000.0, _real(given, "--cpu-offload-gb")),
        offload_group=min(10_000, _number(given, "--offload-group-size")),
        offload_in_group=_number(given, "--offload-num-in-group") or 1,
        offload_ahead=min(10_000, _number(given, "--offload-prefetch-step") or 1),
        adapters=(_number(given, "--max-loras") or 1) if on else 0,
        rank=_number(given, "--max-lora-rank") or 16,
        sharded_adapters="--fully-sharded-loras" in given,
        towers=not (no_items or "--language-model-only" in given),
        profiles_towers="--skip-mm-profiling" not in given,
        graphs=graphs,
        counts_graphs={"0": False, "1": True}.get((env or {}).get(GRAPHS_VARIABLE, "")),
        captured=captured,
        largest=largest,
        state_bytes=_STATES.get((given.get("--mamba-ssm-cache-dtype") or [""])[0], 0),
        draft=_draft(_json(given, "--speculative-config", "-sc")),
        unread=tuple(name for name in _UNREAD if name in given),
    )


_WHOLE: dict[str, tuple[str, str]] = {
    "--max-model-len": ("traffic", "max_context"),
    "--max-num-seqs": ("engine", "max_num_seqs"),
    "--max-num-batched-tokens": ("engine", "max_num_batched_tokens"),
    "--max-num-queued-reqs": ("engine", "max_queued_requests"),
    "--kv-cache-memory-bytes": ("engine", "kv_cache_memory"),
    "--tensor-parallel-size": ("hardware", "tensor_parallel"),
    "-tp": ("hardware", "tensor_parallel"),
    "--pipeline-parallel-size": ("hardware", "pipeline_parallel"),
    "-pp": ("hardware", "pipeline_parallel"),
    "--data-parallel-size": ("hardware", "data_parallel"),
    "-dp": ("hardware", "data_parallel"),
}
"""Flags with a whole number for which a spec has a field -> that field."""
_SWITCHES: dict[str, tuple[str, str, bool]] = {
    "--enforce-eager": ("engine", "enforce_eager", True),
    "--no-enforce-eager": ("engine", "enforce_eager", False),
    "--enable-prefix-caching": ("engine", "prefix_caching", True),
    "--no-enable-prefix-caching": ("engine", "prefix_caching", False),
    "--enable-expert-parallel": ("hardware", "expert_parallel", True),
    "-ep": ("hardware", "expert_parallel", True),
}
_SCALE = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""A number as vLLM reads it: `16k` is 16,000, `16K` is 16,384."""


def absorbed(fleet: Fleet) -> Fleet:
    """The fleet with its spec's fields as its `engine.extraArgs` will have them: those flags come last and win, so a
    plan without them would be of another engine. Values that vLLM reads and we do not are passed over."""
    new: dict[str, dict[str, Any]] = {}
    given = {
        name.replace("_", "-"): values for name, values in _options(fleet.spec.engine.extra_args).items()
    }
    for name, values in given.items():
        if name in _WHOLE and values and (number := _whole(values[-1])):
            part, field_name = _WHOLE[name]
            new.setdefault(part, {})[field_name] = number
        elif name in _SWITCHES:
            part, field_name, on = _SWITCHES[name]
            new.setdefault(part, {})[field_name] = on
        elif name == "--gpu-memory-utilization" and 0 < (share := _real(given, name)) <= 1:
            new.setdefault("engine", {})["gpu_memory_utilization"] = share
    if not new:
        return fleet
    parts = {part: replace(getattr(fleet.spec, part), **fields) for part, fields in new.items()}
    return replace(fleet, spec=replace(fleet.spec, **parts))


def _whole(text: str) -> int:
    """A positive whole number as vLLM reads it; 0: none."""
    scale = _SCALE.get(text[-1:], 1)
    try:
        value = float(text[:-1] if scale > 1 else text) * scale
    except ValueError:
        return 0
    return int(value) if 0 < value < 2**53 else 0


def _options(args: Sequence[str]) -> dict[str, list[str]]:
    """Flag -> its values, `--name=value` and `--name value` alike; `--json.key value` is put under its JSON flag."""
    out: dict[str, list[str]] = {}
    name = ""
    for arg in args:
        if arg.startswith("-") and not arg.lstrip("-")[:1].isdigit():
            name, eq, value = arg.partition("=")
            out[name] = [value] if eq else []
        elif name:
            out[name].append(arg)
    return out


def _number(given: dict[str, list[str]], *names: str) -> int:
    text = next((given[n][0] for n in names if given.get(n)), "")
    return min(int(text), 10**9) if text.isdigit() else 0


def _real(given: dict[str, list[str]], name: str) -> float:
    try:
        return max(0.0, float((given.get(name) or ["0"])[0]))
    except ValueError:
        return 0.0


def _json(given: dict[str, list[str]], *names: str) -> dict[str, Any]:
    text = next((given[n][0] for n in names if given.get(n)), "")
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    found = value if isinstance(value, dict) else {}
    for name in names:
        prefix = name + "."
        found |= {
            k.removeprefix(prefix): _plain(v[0]) for k, v in given.items() if k.startswith(prefix) and v
        }
    return found


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _graphs(given: dict[str, list[str]], compilation: dict[str, Any]) -> tuple[Graphs, tuple[int, ...], int]:
    sizes = [int(s) for s in given.get("--cudagraph-capture-sizes", []) if s.isdigit()]
    listed = compilation.get("cudagraph_capture_sizes")
    if not sizes and isinstance(listed, list):
        sizes = [s for s in listed if isinstance(s, int) and not isinstance(s, bool) and 0 < s < 10**6]
    largest = _number(given, "--max-cudagraph-capture-size")
    own = compilation.get("max_cudagraph_capture_size")
    if not largest and isinstance(own, int) and not isinstance(own, bool) and 0 < own < 10**6:
        largest = own
    mode = str(compilation.get("cudagraph_mode", "")).upper()
    level = compilation.get("mode", compilation.get("level"))
    graphs: Graphs = "full"
    if mode == "NONE" or "-O0" in given or level == 0:
        graphs = "none"
    elif mode == "PIECEWISE":
        graphs = "piecewise"
    elif mode in ("FULL_DECODE_ONLY", "FULL"):
        graphs = "decode"
    return graphs, tuple(sorted(set(sizes)))[:4096], largest


def _draft(config: dict[str, Any]) -> Draft | None:
    tokens = config.get("num_speculative_tokens")
    method = str(config.get("method") or "").lower()[:40]
    model = str(config.get("model") or "")[:200]
    if not config or not (method or model):
        return None
    if not method:
        method = "eagle3" if "eagle" in model.lower() else "draft_model"
    count = tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 < tokens <= 64 else 1
    return Draft(method=method, tokens=count, model="" if method.startswith(("ngram", "suffix")) else model)
