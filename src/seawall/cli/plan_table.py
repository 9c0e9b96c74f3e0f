"""A plan as a person reads it, and as JSON. The decision first, the reason beside it, the next command last."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from seawall.domain.action import Plan, RejectedChoice
from seawall.domain.columns import parts_wrapped, wrapped
from seawall.domain.units import show_bytes, show_seconds

_SHOWN_REFUSALS = 6
_SHOWN_DOUBTS = 3
_HANG = " " * 11
"""Where the text of a row begins, and its folded lines too."""


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan's fields by name; `startup_budget_s` beside the parts it is made of; infinities become null."""
    data = dataclasses.asdict(plan)
    data["startup_budget_s"] = plan.startup.total_s
    return {k: _plain(v) for k, v in data.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 12) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def after_spec(plan: Plan, spec: str, pinned: bool, here: bool) -> str:
    """What is typed after the plan of a spec. `pinned`: render will not ask for a lockfile. `here`: it is for this
    machine (hardware.cloud: local)."""
    if not plan.fits:
        return f"change {spec} as the reason says, then: seawall plan {spec}"
    if here:
        return f"seawall up {spec}   (for a cluster: seawall render {spec} -o deploy/)"
    if not pinned:
        return f"seawall pull {spec} --lock-only   (pins the weights; then: seawall render {spec} -o deploy/)"
    return f"seawall render {spec} -o deploy/"


def table(plan: Plan, after: str, colour: bool, width: int | None = None) -> str:
    """One screen of text, without a trailing newline; folded between words where the terminal is narrower. `after`:
    what is typed next."""
    version = f"   {plan.quantization}" if plan.quantization else ""
    lines = [f"{plan.fleet}   {plan.model}{version}   {plan.dtype}", ""]
    lines.append(_row(_verdict(plan), f"{_hardware(plan)} per replica"))
    lines.append(_row("", plan.reason))
    for refused in _telling(plan):
        lines.append(_row("", f"not {refused.choice}: {refused.reason}"))
    if len(plan.rejected) > _SHOWN_REFUSALS:
        lines.append(_row("", f"and {len(plan.rejected) - _SHOWN_REFUSALS} more (--json)"))
    lines += ["", _row("memory", _memory(plan))]
    lines.append(
        _row(
            "holds",
            f"{plan.kv_cache_tokens:,} tokens of KV cache: {plan.max_concurrency:.1f} requests of "
            f"{plan.max_model_len:,} tokens; at most {plan.max_model_len_limit:,} tokens are accepted",
        )
    )
    lines += _range(plan)
    if plan.fits:
        lines += _running(plan)
    lines += [_row("note" if i == 0 else "", n) for i, n in enumerate(plan.notes)]
    folded = [more for line in lines for more in _folded(line, width)]
    if colour:
        at = next(i for i, line in enumerate(folded) if line.startswith(_row(_verdict(plan), "")))
        folded[at] = _coloured(folded[at], plan)
    return "\n".join([*folded, "", *wrapped(f"Next: {after}", width, "", "  ")])


def _folded(line: str, width: int | None) -> list[str]:
    at = len(_HANG) if line.startswith("  ") else 0
    return parts_wrapped(line[at:].split("   "), width, line[:at], _HANG[: at or 2])


def _telling(plan: Plan) -> tuple[RejectedChoice, ...]:
    """The refusals that tell most: those nearest in price below the choice, then what was not needed."""
    below = [r for r in plan.rejected if not r.reason.startswith("not needed")]
    above = [r for r in plan.rejected if r.reason.startswith("not needed")]
    keep = max(_SHOWN_REFUSALS - 2, _SHOWN_REFUSALS - len(above))
    return tuple((below[-keep:] + above)[:_SHOWN_REFUSALS])


def _row(label: str, text: str) -> str:
    return f"  {label:8} {text}" if text else f"  {label}"


def _verdict(plan: Plan) -> str:
    return plan.verdict if plan.verdict in ("fits", "tight", "unknown") else "no"


def _coloured(line: str, plan: Plan) -> str:
    word, code = _verdict(plan), 32 if plan.fits else 33 if plan.verdict in ("tight", "unknown") else 31
    return line.replace(word, f"\x1b[1;{code}m{word}\x1b[0m", 1)


def _hardware(plan: Plan) -> str:
    if plan.gpu == "cpu":
        return f"the CPU, {show_bytes(plan.host_memory_bytes)} of memory"
    split = [f"tensor parallel {plan.tensor_parallel}"]
    split += [f"pipeline parallel {plan.pipeline_parallel}"] if plan.pipeline_parallel > 1 else []
    split += [f"data parallel {plan.data_parallel}"] if plan.data_parallel > 1 else []
    split += ["expert parallel"] if plan.expert_parallel else []
    nodes = f" on {plan.nodes_per_replica} nodes" if plan.nodes_per_replica > 1 else ""
    return f"{plan.gpus_per_replica} x {plan.gpu}{nodes} ({', '.join(split)})"


def _range(plan: Plan) -> list[str]:
    """How sure the forecast is: where the cache may end up, and why the range is wide, when it is."""
    low, high = plan.kv_cache_gib_range
    few, many = plan.kv_cache_tokens_range
    if plan.gpu == "cpu" or high <= 0:
        return []
    lines = [_row("sure", f"within {low:.1f} to {high:.1f} GiB of KV cache: {few:,} to {many:,} tokens")]
    return lines + [_row("", f"unsure by {why}") for why in plan.unsure[:_SHOWN_DOUBTS]]


def _memory(plan: Plan) -> str:
    if plan.gpu == "cpu":
        return (
            f"per replica: weights {plan.weights_gib_per_gpu:.1f}   activations {plan.activation_gib_per_gpu:.1f}   "
            f"processes {plan.non_torch_gib_per_gpu:.1f}   KV cache {plan.kv_cache_gib_per_gpu:.1f} GiB"
        )
    return (
        f"per GPU: weights {plan.weights_gib_per_gpu:.1f}   activations {plan.activation_gib_per_gpu:.1f}   "
        f"non-torch {plan.non_torch_gib_per_gpu:.1f}   graphs {plan.cuda_graph_gib_per_gpu:.1f}   "
        f"KV cache {plan.kv_cache_gib_per_gpu:.1f} GiB"
    )


def _running(plan: Plan) -> list[str]:
    start = plan.startup
    rows = [
        _row(
            "speed",
            f"saturates near {plan.saturating_concurrency} requests ({plan.bound}): "
            f"{plan.tokens_per_s:,.0f} output tokens/s, "
            f"first token {show_seconds(plan.ttft_s)}, then {show_seconds(plan.tpot_s)} each",
        ),
        _row(
            "start",
            f"{show_seconds(start.total_s)} budget: image {show_seconds(start.image_s)} + weights "
            f"{show_bytes(plan.weights_bytes)} {show_seconds(start.weights_s)} + load and graphs "
            f"{show_seconds(start.load_s)}, x1.5",
        ),
        _row(
            "node",
            f"memory {show_bytes(plan.host_memory_bytes)}   /dev/shm {show_bytes(plan.shm_bytes)}   "
            f"ephemeral {show_bytes(plan.ephemeral_bytes)}   volume {show_bytes(plan.volume_bytes)}",
        ),
        _row(
            "scale",
            f"at {plan.scaling_target:g} requests per replica; {plan.engine_queue_bound} at most in an engine, "
            f"{plan.gateway_queue_bound} queued in the gateway, then 429",
        ),
    ]
    if plan.usd_per_hour is not None:
        million = plan.usd_per_million_tokens
        each = f"   ${million:.2f} per million output tokens at 70% load" if million is not None else ""
        rows.append(
            _row(
                "cost",
                f"${plan.usd_per_hour:.2f}/h per replica on demand{each}   prices of {plan.prices_as_of}",
            )
        )
    return rows
