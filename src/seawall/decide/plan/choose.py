"""The cheapest way that fits, with every refusal's reason. Pure.

Candidates are looked at in order of price. The first that starts, holds the context and (where the spec
leaves room) the latency objectives is taken; what was looked at before and after it is in `rejected`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from seawall.decide.plan.candidates import Split, formats_for, gpus_for, setup_for, splits_for
from seawall.decide.plan.cpu import plan_cpu
from seawall.decide.plan.draw import draw
from seawall.decide.plan.flags import absorbed
from seawall.decide.plan.memory import GpuMemory, spend
from seawall.decide.plan.roofline import Speed, estimate, timing
from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.decide.plan.verdict import starved
from seawall.domain.action import Plan, RejectedChoice, Timing
from seawall.domain.catalog.gpus import Gpu
from seawall.domain.catalog.prices import Prices
from seawall.domain.model import ModelConfig
from seawall.domain.spec import Fleet

ENOUGH_CONTEXT = 8192
"""Tokens: without maxContext, a context that had to be shortened below this (or four requests' length) does not fit."""
ENOUGH_REQUESTS = 2.0
"""Requests of full length that the cache has to hold where the GPU count is open; with one, one client is served."""
SECOND_NODE = 1.15
"""Factor on the price of a replica over several nodes: these fail more often, and start together or not at all."""
TARGET_SHARE = 0.7
"""Scaling target over saturating concurrency: room for what arrives while a replica starts."""


@dataclass(frozen=True)
class Candidate:
    """One way to run the model, judged."""

    gpu: Gpu
    split: Split
    model: ModelConfig
    quantization: str | None
    setup: EngineSetup
    memory: GpuMemory
    speed: Speed | None
    usd_per_hour: float | None

    @property
    def label(self) -> str:
        name = f"{self.split.gpus} x {self.gpu.name}"
        return f"{name} ({self.split})" + (f" {self.quantization}" if self.quantization else "")


def plan(
    fleet: Fleet,
    model: ModelConfig,
    *,
    prices: Prices | None = None,
    calibration: Timing | None = None,
    shorten: bool = True,
) -> Plan:
    """What `fleet` needs: GPUs, split, cache, speed, budgets, cost, and why.

    `calibration` replaces the roofline's step times with measured ones. With `shorten`, a spec without
    maxContext gets the longest context that fits; without it the model's own limit is asked for, as
    `vllm serve` without --max-model-len does. A plan that does not fit comes back with `fits` False and
    the reason and cure; InputError is for what cannot be planned at all (an unknown GPU name).
    """
    prices = prices or Prices()
    fleet = absorbed(fleet)
    if fleet.spec.hardware.gpu.lower() == "cpu":
        return plan_cpu(fleet, model, calibration)
    candidates = _ordered(fleet, model, prices)
    rejected: list[RejectedChoice] = []
    fallback: Candidate | None = None
    best_refused: Candidate | None = None
    open_choice = fleet.spec.hardware.gpu == "auto" or not _fixed(fleet)
    for gpu, split, shaped, quantization in candidates:
        made = _judge(fleet, shaped, gpu, split, quantization, prices, calibration, shorten)
        if not made.memory.fits:
            rejected.append(RejectedChoice(choice=made.label, reason=made.memory.reason))
            if best_refused is None or _nearness(made) > _nearness(best_refused):
                best_refused = made
            continue
        assert made.speed is not None
        if open_choice and not made.speed.meets_slo:
            rejected.append(
                RejectedChoice(choice=made.label, reason=f"fits, but too slow: {made.speed.slo_reason}")
            )
            fallback = fallback or made
            continue
        if open_choice and made.memory.concurrency < ENOUGH_REQUESTS:
            few = f"fits, but holds only {made.memory.concurrency:.1f} requests of {made.setup.max_model_len:,} tokens"
            rejected.append(RejectedChoice(choice=made.label, reason=few))
            fallback = fallback or made
            continue
        rejected += _dearer(fleet, candidates, made, prices)
        return _to_plan(fleet, made, prices, rejected)
    if fallback is not None:
        kept = [r for r in rejected if r.choice != fallback.label]
        return _to_plan(fleet, fallback, prices, kept)
    assert best_refused is not None
    return _to_plan(fleet, best_refused, prices, [r for r in rejected if r.choice != best_refused.label])


def _fixed(fleet: Fleet) -> bool:
    hw = fleet.spec.hardware
    return bool(hw.gpus_per_replica or hw.tensor_parallel or hw.pipeline_parallel)


def _ordered(
    fleet: Fleet, model: ModelConfig, prices: Prices
) -> list[tuple[Gpu, Split, ModelConfig, str | None]]:
    """All candidates, cheapest first; the user's own format before the smaller ones he allows."""
    out: list[tuple[tuple[float, int, int, int], Gpu, Split, ModelConfig, str | None]] = []
    for rank, (shaped, quantization) in enumerate(formats_for(fleet, model)):
        for gpu in gpus_for(fleet):
            each = prices.per_gpu_hour(gpu.name)
            for order, split in enumerate(splits_for(fleet, model, gpu)):
                cost = split.gpus * (each if each is not None else gpu.memory_gib / 20)
                if split.gpus > (fleet.spec.hardware.gpus_per_node or gpu.per_node):
                    cost *= SECOND_NODE
                out.append(((cost, rank, split.gpus, order), gpu, split, shaped, quantization))
    out.sort(key=lambda c: c[0])
    return [c[1:] for c in out]


def _judge(
    fleet: Fleet,
    model: ModelConfig,
    gpu: Gpu,
    split: Split,
    quantization: str | None,
    prices: Prices,
    calibration: Timing | None,
    shorten: bool,
) -> Candidate:
    asked = fleet.spec.traffic.max_context
    setup = setup_for(fleet, model, gpu, split, asked or model.context)
    memory = spend(model, setup)
    if asked is None and shorten and memory.verdict in ("refused", "tight", "unknown"):
        longest = _longest_safely(model, setup, memory)
        traffic = fleet.spec.traffic
        least = max(ENOUGH_CONTEXT, 4 * (traffic.prompt_tokens + traffic.output_tokens))
        if longest >= min(least, model.context):
            setup = setup_for(fleet, model, gpu, split, longest)
            memory = spend(model, setup)
    speed = None
    if memory.fits:
        step = calibration or timing(model, setup, memory)
        speed = estimate(setup, memory, fleet.spec.traffic, step)
    each = prices.per_gpu_hour(gpu.name)
    cost = None if each is None else each * split.gpus
    return Candidate(gpu, split, model, quantization, setup, memory, speed, cost)


def _longest_safely(model: ModelConfig, setup: EngineSetup, memory: GpuMemory) -> int:
    """The longest context with the forecast's margin kept, in whole KiB of tokens."""
    shape = memory.layout.checked()
    blocks = shape.blocks((memory.kv_gib - 1.02 * memory.off_gib) * GIB)
    longest = shape.longest(blocks, model.context, replace(setup, max_model_len=model.context))
    return longest // 1024 * 1024 if longest >= 1024 else longest


def _nearness(c: Candidate) -> tuple[int, float]:
    order = {"tight": 5, "unknown": 4, "refused": 3, "oom": 2, "invalid": 1}
    return order.get(c.memory.verdict, 0), c.memory.kv_gib - c.memory.needed_gib


def _dearer(
    fleet: Fleet,
    candidates: list[tuple[Gpu, Split, ModelConfig, str | None]],
    made: Candidate,
    prices: Prices,
) -> list[RejectedChoice]:
    """The GPU types that `auto` passed over, each with its reason."""
    if fleet.spec.hardware.gpu != "auto" or made.usd_per_hour is None:
        return []
    out, seen = [], {made.gpu.name}
    after = False
    for gpu, split, _, _ in candidates:
        after = after or (gpu is made.gpu and split == made.split)
        each = prices.per_gpu_hour(gpu.name)
        if after and gpu.name not in seen and each is not None:
            seen.add(gpu.name)
            out.append(
                RejectedChoice(
                    choice=f"{split.gpus} x {gpu.name}",
                    reason=f"not needed: ${each * split.gpus:.2f}/h against ${made.usd_per_hour:.2f}/h",
                )
            )
    return out


def _to_plan(fleet: Fleet, c: Candidate, prices: Prices, rejected: list[RejectedChoice]) -> Plan:
    spec, memory, speed = fleet.spec, c.memory, c.speed
    drawn = draw(fleet, c.model, c.gpu.name, c.setup, memory, speed)
    saturating = speed.concurrency if speed else 0
    rate = speed.tokens_per_s / max(1, spec.traffic.output_tokens) if speed else 0.0
    queue = (speed.room if speed else 1) + max(8, math.ceil(rate * spec.traffic.slo.ttft))
    usd = c.usd_per_hour
    per_million = None
    if usd is not None and speed and speed.tokens_per_s > 0:
        per_million = usd / 3600 / (TARGET_SHARE * speed.tokens_per_s) * 1e6
    return replace(
        drawn,
        reason=memory.reason if memory.fits else f"{memory.reason}; {_cure(memory, c.setup)}",
        gpus_per_replica=c.split.gpus,
        nodes_per_replica=math.ceil(c.split.gpus / (spec.hardware.gpus_per_node or c.gpu.per_node)),
        quantization=c.quantization,
        converted=c.quantization is not None and c.model.assumed_format,
        saturating_concurrency=saturating,
        scaling_target=spec.scaling.target or max(1.0, round(TARGET_SHARE * saturating, 1)),
        engine_queue_bound=spec.engine.max_queued_requests or queue,
        gateway_queue_bound=spec.gateway.max_queued
        or max(8, math.ceil(60 * rate * max(1, spec.scaling.min))),
        usd_per_hour=usd,
        usd_per_million_tokens=per_million,
        prices_as_of=prices.as_of if usd is not None else None,
        rejected=tuple(rejected),
        notes=(*_notes(fleet, c), *drawn.notes),
    )


def _cure(memory: GpuMemory, setup: EngineSetup) -> str:
    """The cure for what is wrong."""
    if memory.verdict == "refused" and memory.longest > 0:
        return f"set maxContext to {memory.longest} or less, take more GPUs, or an fp8 KV cache"
    if "above the budget" in memory.reason:
        return f"lower gpu_memory_utilization below {setup.utilization:g}, or enforce eager mode"
    if memory.verdict == "unknown":
        return "try it, or give it more room"
    if memory.verdict == "tight":
        return "shorten maxContext a little, or take more GPUs"
    if memory.verdict == "invalid" and "beyond" in memory.reason:
        return "shorten maxContext, or give the model a rope_scaling"
    if memory.verdict == "invalid" and starved(setup):
        return f"raise maxNumBatchedTokens to {setup.max_num_seqs} or more, or leave it out"
    if memory.verdict == "invalid":
        return "use a power of two that divides the attention heads"
    return "take more or larger GPUs, or allow a smaller format (allowQuantizations)"


def _notes(fleet: Fleet, c: Candidate) -> tuple[str, ...]:
    notes = [*c.model.notes]
    if c.gpu.assumed:
        notes.append(c.gpu.assumed)
    asked = fleet.spec.traffic.max_context
    if asked is None and c.setup.max_model_len < c.model.context:
        notes.append(
            f"context shortened from the model's {c.model.context:,} to {c.setup.max_model_len:,} tokens to fit"
        )
    if c.speed and not c.speed.meets_slo:
        notes.append(f"the objective is not held: {c.speed.slo_reason}")
    if c.speed:
        notes.append(c.speed.timing.told)
    if c.quantization == "fp8" and c.gpu.capability and c.gpu.capability < 8.9:
        notes.append(f"{c.gpu.name} has no fp8 arithmetic: weights are stored in fp8 and computed in 16 bit")
    if c.setup.pp > 1:
        notes.append("with pipeline parallelism throughput is estimated without overlap of the stages")
    return tuple(notes)
