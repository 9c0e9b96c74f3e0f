"""How far a forecast may be off, and why: the known error of this kind of model, engine and GPU. Pure.

Half-widths come from recorded start-ups (bench/plan_accuracy.py prints how often they held, with every family of
models left out in turn). They are GiB per GPU beside the weights and the cache; independent doubts are added as
squares. Forbidden here: deciding what a doubt means for the verdict (`memory.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from seawall.decide.plan.beside import adapters_gib, draft_gib
from seawall.decide.plan.setup import GIB, EngineSetup
from seawall.decide.plan.spent import (
    ESTIMATED,
    collectives_gib,
    graphs_gib,
    mixing_bytes,
    sampler_bytes_per_logit,
    tower_gib,
)
from seawall.domain.model import ModelConfig

GRAPH_PASS_BYTES = 128 * 1024
"""Per batched token: what vLLM 0.26 to 0.29 counted as CUDA graphs of Gated DeltaNet (vLLM issue 50780)."""
SECOND_RUNNER = (0, 30, 0)
"""From here vLLM's second model runner is the default. What its sampler takes while memory is profiled has changed
with releases (pull request 57926), and starts of one model were 0.2 and 0.8 GiB off."""
UNKNOWN_WEIGHTS = 0.15
"""Share by which the general formula misses the parameters of architectures that it was not made for."""
WINDOWED_TOKENS = 0.1
"""Tokens of DeepSeek V4's cache in releases whose layout no recorded start shows (0.24 to 0.30)."""


READ_TOKENS = 0.15
"""Tokens of an architecture whose cache was read in its code and never held against vLLM's own layers."""


@dataclass(frozen=True)
class Doubt:
    """One reason why the forecast may be off by so many GiB per GPU, in either direction."""

    gib: float
    why: str


@dataclass(frozen=True)
class Certainty:
    """The forecast's half-width and what it is made of, the largest first."""

    gib: float
    doubts: tuple[Doubt, ...]
    tokens: float = 0.0
    """Further share by which the printed tokens may differ for the same GiB."""
    known: bool = True
    """False: the architecture or the GPU is a guess; nothing that depends on it is said to be impossible."""


def _guessed(model: ModelConfig) -> str:
    return model.quantization.guessed if model.quantization is not None else ""


def margin_gib(setup: EngineSetup) -> float:
    """What separates two starts of the same thing: 2% of the GPU, 0.2 to 0.5 GiB."""
    return min(0.5, max(0.2, 0.02 * setup.gpu.memory_gib))


def certainty(model: ModelConfig, setup: EngineSetup, weights_gib: float) -> Certainty:
    """How sure the forecast of one GPU's memory is."""
    found = [*_of_engine(model, setup), *_of_hardware(model, setup), *_of_model(model, setup, weights_gib)]
    doubts = tuple(sorted((d for d in found if d.gib >= 0.05), key=lambda d: -d.gib))
    extra = math.sqrt(sum(d.gib**2 for d in doubts))
    return Certainty(
        gib=margin_gib(setup) + extra,
        doubts=doubts,
        tokens=_tokens(model, setup),
        known=model.known and not setup.gpu.assumed and not _guessed(model),
    )


def _tokens(model: ModelConfig, setup: EngineSetup) -> float:
    """Share by which the printed tokens may differ for the same GiB."""
    if not model.cache_compared:
        return READ_TOKENS
    windowed = model.compressed is not None and (0, 24, 0) <= setup.version < (0, 31, 0)
    return WINDOWED_TOKENS if windowed else 0.0


def _of_engine(model: ModelConfig, setup: EngineSetup) -> Iterator[Doubt]:
    total, version = setup.gpu.memory_gib, setup.version
    if not setup.version_stated:
        yield Doubt(0.02 * total + graphs_gib(model, setup), "no vLLM version given")
    if setup.fork:
        yield Doubt(0.03 * total, "a fork or development build")
    if version < (0, 10, 0):
        yield Doubt(0.03 * total, "vLLM before 0.10")
    if (0, 19, 1) <= version < (0, 20, 0) and setup.extra.counts_graphs is None:
        yield Doubt(graphs_gib(model, setup), "CUDA graphs moved into the budget between vLLM 0.19 and 0.20")
    if ESTIMATED[0] <= version < ESTIMATED[1]:
        # One card and one set of flags were seen to give 0.62, 0.86, 1.59 and, once, 7.3 GiB.
        yield Doubt(0.5 * graphs_gib(model, setup), "vLLM's own estimate of CUDA graphs, which varies")
    if version >= SECOND_RUNNER:
        share = 0.5 * setup.max_num_seqs * model.vocab * sampler_bytes_per_logit(setup, 2) / GIB
        yield Doubt(max(0.5, share), "vLLM's second model runner, of which few starts were recorded")
    if (0, 8, 0) <= version < (0, 9, 0) and setup.max_num_seqs > 256:
        # vLLM 0.8 fell back to the V0 engine for much that the V1 engine could not do yet.
        gap = (setup.max_num_seqs - 256) * model.vocab * 38.4 / GIB
        yield Doubt(gap, "vLLM 0.8 may have run its old engine")
    draft = draft_gib(model, setup)
    if draft:
        known = model.draft is not None
        name = "" if known else f": {setup.extra.draft.model!r} is not known" if setup.extra.draft else ""
        yield Doubt(0.3 if known else 0.5 + draft, f"a draft model{name}")
    if setup.drafts_itself:
        yield Doubt(0.02 * total, "speculative decoding by the model's own layers")
    if adapters := adapters_gib(model, setup):
        yield Doubt(0.3 * adapters, "buffers of LoRA adapters")
    if setup.extra.offload_gib or setup.extra.offload_group:
        yield Doubt(0.5 + 0.05 * setup.extra.offload_gib, "weights in host memory")
    for flag in setup.extra.unread:
        yield Doubt(0.05 * total, f"{flag} is not worked out")


def _of_hardware(model: ModelConfig, setup: EngineSetup) -> Iterator[Doubt]:
    gpu = setup.gpu
    if gpu.unified:
        yield Doubt(0.03 * gpu.memory_gib, "memory that is shared with the host")
    if gpu.assumed:
        yield Doubt(0.05 * gpu.memory_gib, "a GPU that is not in the catalogue")
    if gpu.capability == 0:
        yield Doubt(0.04 * gpu.memory_gib, "AMD: only NVIDIA's start-ups were recorded")
    if setup.tp > 1 and setup.nvlink and 0 < gpu.capability < 9:
        yield Doubt(0.5, "NCCL's share on GPUs before Hopper")
    if setup.tp > 1 and not setup.nvlink:
        inside = 0.0 if setup.eager else collectives_gib(model, setup)
        yield Doubt(0.5 + inside, "tensor parallel without NVLink")


def _of_model(model: ModelConfig, setup: EngineSetup, weights_gib: float) -> Iterator[Doubt]:
    if not model.known:
        doubt = UNKNOWN_WEIGHTS * weights_gib + 0.05 * setup.gpu.memory_gib
        yield Doubt(doubt, f"architecture {model.architecture!r} is not known here")
    if not model.cache_compared:
        yield Doubt(0.1, f"what {model.architecture!r} caches was never compared with vLLM's own layers")
    if name := _guessed(model):
        yield Doubt(0.5 * weights_gib, f"quantization {name!r} is not known here")
    if model.assumed_format:
        yield Doubt(0.06 * weights_gib, "which layers are quantized is assumed")
    if mixing := mixing_bytes(model, setup) / GIB:
        yield Doubt(0.3 * mixing, "workspace of recurrent layers")
        if (0, 26, 0) <= setup.version < (0, 30, 0) and not setup.eager:
            passing = GRAPH_PASS_BYTES * setup.batched_tokens / setup.tp / GIB
            yield Doubt(passing, "vLLM 0.26 to 0.29 may count a pass of recurrent layers as CUDA graphs")
    if tower := tower_gib(model, setup):
        yield Doubt(0.3 * tower, "the vision encoder's largest image")
    if model.compressed is not None:
        # Two recorded starts were 1% and 60% off: its workspaces grow with a batch that is rarely written down.
        yield Doubt(0.03 * weights_gib + 0.04 * setup.gpu.memory_gib, "compressed attention")
    elif model.latent is not None:
        yield Doubt(0.02 * weights_gib, "what latent attention keeps twice")
    elif model.experts is not None:
        yield Doubt(0.01 * weights_gib, "kernels of the mixture of experts")
