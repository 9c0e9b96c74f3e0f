"""What must hold for every model, GPU and flag: more memory never fits less, ranks share weights, length costs room."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.decide.plan.kv import kept_blocks
from seawall.decide.plan.memory import spend
from seawall.decide.plan.setup import EngineSetup
from seawall.decide.plan.weights import stage_layers, weigh
from seawall.domain.catalog.gpus import GPUS
from seawall.domain.catalog.models import CONFIGS
from seawall.domain.model import ModelConfig
from seawall.shapes.config import parse

MODELS = [parse(config, name) for name, config in CONFIGS.items()]
VERSIONS = [(0, 7, 3), (0, 8, 3), (0, 11, 0), (0, 15, 0), (0, 19, 0), (0, 21, 0), (0, 30, 0), (0, 32, 0)]


@st.composite
def setups(draw: st.DrawFn) -> EngineSetup:
    return EngineSetup(
        gpu=draw(st.sampled_from(GPUS)),
        tp=draw(st.sampled_from([1, 2, 4, 8])),
        pp=draw(st.sampled_from([1, 2, 3])),
        version=draw(st.sampled_from(VERSIONS)),
        utilization=draw(st.floats(0.3, 0.95)),
        max_model_len=draw(st.integers(1, 200_000)),
        max_num_seqs=draw(st.integers(1, 1024)),
        batched_tokens=draw(st.integers(256, 16384)),
        kv_dtype=draw(st.sampled_from(["auto", "fp8"])),
        eager=draw(st.booleans()),
        prefix_caching=draw(st.booleans()),
    )


models = st.sampled_from(MODELS)


@settings(max_examples=100, deadline=None)
@given(models, setups(), st.floats(1.0, 4.0))
def test_more_memory_never_fits_less(model: ModelConfig, setup: EngineSetup, more: float) -> None:
    small = spend(model, setup)
    large = spend(model, replace(setup, gpu=replace(setup.gpu, memory_gib=setup.gpu.memory_gib * more)))
    assert large.blocks >= small.blocks
    assert large.longest >= small.longest
    if small.verdict == "fits" and more > 1.05:
        assert large.verdict == "fits", (small.reason, large.reason)


@settings(max_examples=70, deadline=None)
@given(models, setups(), st.integers(1, 200_000))
def test_a_longer_context_never_holds_more_requests(
    model: ModelConfig, setup: EngineSetup, more: int
) -> None:
    short = spend(model, setup)
    long = spend(model, replace(setup, max_model_len=setup.max_model_len + more))
    assert long.concurrency <= short.concurrency
    assert long.needed_gib >= short.needed_gib
    if long.fits:
        assert short.fits


@settings(max_examples=70, deadline=None)
@given(models, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]))
def test_tensor_parallelism_splits_weights(model: ModelConfig, tp: int, pp: int) -> None:
    whole, split = weigh(model), weigh(model, tp, pp)
    assert whole.per_gpu / (tp * pp) * 0.6 <= split.per_gpu <= whole.per_gpu * 1.1
    assert weigh(model, 2 * tp, pp).per_gpu <= split.per_gpu
    assert split.total == whole.total


@settings(max_examples=100, deadline=None)
@given(models, setups())
def test_the_longest_accepted_context_is_accepted_and_one_more_block_is_not(
    model: ModelConfig, setup: EngineSetup
) -> None:
    made = spend(model, setup)
    if made.longest and made.verdict != "invalid" and setup.pp == 1:
        usable = made.blocks - kept_blocks(setup)
        assert made.layout.request_blocks(made.longest, setup) <= usable
        if made.longest < max(model.context, setup.max_model_len) and not made.layout.padded_bytes:
            assert made.layout.request_blocks(made.longest + 1, setup) > usable


@given(st.integers(1, 300), st.integers(1, 16))
def test_pipeline_stages_hold_every_layer_once(layers: int, stages: int) -> None:
    if stages <= layers:
        sizes = stage_layers(layers, stages)
        assert sum(sizes) == layers and max(sizes) - min(sizes) <= 1


@settings(max_examples=60, deadline=None)
@given(models, setups())
def test_fp8_cache_holds_at_least_as_many_tokens(model: ModelConfig, setup: EngineSetup) -> None:
    if setup.pp == 1 and model.recurrent is None:
        plain = spend(model, replace(setup, kv_dtype="auto"))
        small = spend(model, replace(setup, kv_dtype="fp8"))
        assert small.tokens >= plain.tokens
