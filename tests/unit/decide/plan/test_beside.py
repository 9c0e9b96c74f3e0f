"""What features take beside the model, worked out from the shapes that vLLM's own classes allocate."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.config.plan_flags import PlanFlags, from_flags
from seawall.decide.plan import plan
from seawall.decide.plan.candidates import Split, gpus_for, setup_for
from seawall.decide.plan.spent import graph_count, largest_graph
from seawall.domain.action import Plan
from seawall.domain.spec import EngineSpec

GIB = 2**30
ON_H100 = {"gpu": "H100-80GB", "tensor_parallel": 1, "max_model_len": 8192, "vllm_version": "0.32.0"}


def of(model: str, *args: str, **flags: Any) -> Plan:
    fleet, shape = from_flags(PlanFlags(model_config=model, vllm_args=args, **{**ON_H100, **flags}))
    return plan(fleet, shape, shorten=False)


def taken(model: str, *args: str, **flags: Any) -> float:
    """GiB of cache that the flags cost."""
    flags["enforce_eager"] = True
    return of(model, **flags).kv_cache_gib_per_gpu - of(model, *args, **flags).kv_cache_gib_per_gpu


@pytest.mark.parametrize(
    ("version", "expert_layers"),
    [
        # 48 layers of 128 experts: w13 has two pairs (2048 in, 768 out), w2 one (768 in, 2048 out).
        ("0.32.0", 48 * 128 * 3 * (2048 + 768)),
        ("0.11.0", 0),  # before, routed experts had no adapters
    ],
)
def test_adapters_of_a_mixture_lie_beside_every_expert(version: str, expert_layers: int) -> None:
    # Attention: 4 x 2048 + (4096 + 2 x 512 + 4096) beside each layer. Embedding and head: 2 x (151936 + 2048).
    width = 48 * (4 * 2048 + 4096 + 2 * 512 + 4096) + 2 * (151_936 + 2048) + expert_layers
    cost = taken("Qwen/Qwen3-30B-A3B", "--enable-lora", "--max-lora-rank", "16", vllm_version=version)
    assert cost == pytest.approx(16 * width * 2 / GIB, rel=0.02, abs=0.002)


def test_experts_that_are_shared_out_have_their_adapters_shared_out() -> None:
    flags = {"tensor_parallel": 2}
    split = taken("Qwen/Qwen3-30B-A3B", "--enable-lora", **flags)
    own = taken("Qwen/Qwen3-30B-A3B", "--enable-lora", expert_parallel=True, **flags)
    halves = 48 * 128 * 3 * (2048 + 768 / 2), 48 * 64 * 3 * (2048 + 768)
    assert split - own == pytest.approx(16 * (halves[0] - halves[1]) * 2 / GIB, abs=0.002)


def test_fully_sharded_adapters_are_divided_whole() -> None:
    flags = {"tensor_parallel": 4}
    half = taken("Qwen/Qwen2.5-7B-Instruct", "--enable-lora", **flags)
    whole = taken("Qwen/Qwen2.5-7B-Instruct", "--enable-lora", "--fully-sharded-loras", **flags)
    # What was whole on each rank: the inputs of QKV and the output of O (4), of gate and up and of down (3).
    assert half - whole == pytest.approx(16 * 28 * 7 * 3584 * 0.75 * 2 / GIB, abs=0.002)


def test_a_draft_model_caches_beside_the_target() -> None:
    """A start of vLLM 0.9 with EAGLE: 135,171 bytes per token, 33 layers of 4,096 where the model has 32."""
    eagle = '{"method": "eagle", "model": "someone/EAGLE-LLaMA3.1", "num_speculative_tokens": 3}'
    made = of("meta-llama/Llama-3.1-8B", "--speculative-config", eagle)
    assert made.kv_bytes_per_token == 33 * 4096
    known = '{"method": "draft_model", "model": "meta-llama/Llama-3.2-1B", "num_speculative_tokens": 3}'
    # 16 layers of 8 KV heads of 64.
    with_draft = of("meta-llama/Llama-3.1-8B", "--speculative-config", known)
    assert with_draft.kv_bytes_per_token == 32 * 4096 + 16 * 2 * 8 * 64 * 2
    ngram = '{"method": "ngram_gpu", "num_speculative_tokens": 3}'
    assert of("meta-llama/Llama-3.1-8B", "--speculative-config", ngram).kv_bytes_per_token == 32 * 4096


def test_whoever_drafts_a_recurrent_state_is_kept_for_each_token() -> None:
    flags = {"kv_cache_memory": int(20 * GIB), "max_model_len": 4096}
    ngram = ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}')
    mtp = ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 3}')
    plain, guessed, own = (of("Qwen/Qwen3.5-9B", *args, **flags) for args in ((), ngram, mtp))
    assert guessed.max_concurrency < 0.7 * plain.max_concurrency
    assert own.max_concurrency == pytest.approx(guessed.max_concurrency, rel=0.2)


def test_layers_that_are_fetched_ahead_keep_one_buffer_each() -> None:
    """Of 64 layers 2 in every 8 go to the host; two layers' buffers stay."""
    plain = of("Qwen/Qwen3-32B")
    away = of("Qwen/Qwen3-32B", "--offload-group-size", "8", "--offload-num-in-group", "2",
              "--offload-prefetch-step", "2")  # fmt: skip
    layer = 2 * (5120 * (64 + 2 * 8) * 128 + 64 * 128 * 5120 + 3 * 5120 * 25_600)
    assert plain.weights_gib_per_gpu - away.weights_gib_per_gpu == pytest.approx(14 * layer / GIB, rel=0.01)
    assert any("host memory" in doubt for doubt in away.unsure)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"tensor_parallel": 8, "decode_context_parallel": 2}, "above 8 KV heads"),
        ({"tensor_parallel": 16, "decode_context_parallel": 4}, "at most 2"),
        ({"tensor_parallel": 16, "decode_context_parallel": 2}, ""),
    ],
)
def test_contexts_are_shared_between_ranks_that_hold_the_same_heads(split: dict[str, int], said: str) -> None:
    made = of("meta-llama/Llama-3.1-70B", **split)
    assert (made.verdict == "invalid") is bool(said)
    assert said in made.reason


@pytest.mark.parametrize(
    ("args", "flags", "largest", "count"),
    [
        # vLLM 0.32: 1, 2, 4, every eighth below 256 (31), every sixteenth to 512 (17).
        ((), {}, 512, 51),
        ((), {"gpu": "B200"}, 1024, 83),
        ((), {"max_num_seqs": 16}, 32, 7),
        (("--max-cudagraph-capture-size", "2048"), {"max_num_seqs": 16}, 2048, 147),  # as it is said
        (("--max-cudagraph-capture-size", "2048"), {"max_num_batched_tokens": 1024}, 1024, 83),
        (("--cudagraph-capture-sizes", "1", "2", "4", "4", "4096"), {"max_num_batched_tokens": 2048}, 4, 3),
        # Of 8 requests with 2 drafted tokens each: up to 48 tokens, and 3, 6 and 12 beside the grid.
        (
            ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2}'),
            {"max_num_seqs": 8},
            48,
            12,
        ),
        (("--enable-lora",), {}, 512, 102),
    ],
)
def test_graphs_are_captured_for_the_batches_that_vllm_captures(
    args: tuple[str, ...], flags: dict[str, Any], largest: int, count: int
) -> None:
    fleet, shape = from_flags(PlanFlags(model_config="Qwen/Qwen3-8B", vllm_args=args, **{**ON_H100, **flags}))
    gpu = gpus_for(fleet)[0]
    asked = setup_for(fleet, shape, gpu, Split(1, 1, 1), 8192)
    assert largest_graph(shape, asked) == largest
    assert graph_count(shape, asked) == count


def test_the_variable_that_leaves_graphs_out_of_the_budget_is_read() -> None:
    fleet, shape = from_flags(PlanFlags(model_config="meta-llama/Llama-3.1-8B", **ON_H100))
    counted = plan(fleet, shape)
    engine: EngineSpec = fleet.spec.engine
    engine.env["VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"] = "0"
    free = plan(fleet, shape)
    assert free.kv_cache_gib_per_gpu - counted.kv_cache_gib_per_gpu == pytest.approx(
        counted.cuda_graph_gib_per_gpu
    )


def test_layers_that_share_a_cache_held_projections_that_nobody_reads_until_0_32() -> None:
    # Gemma 4 E4B: the last 18 of 42 layers, 3 of them full (2 heads of 512), 15 of a window (2 heads of 256).
    before, lean = (
        of("google/gemma-4-E4B-it", gpu="L4", vllm_version=version).weights_gib_per_gpu
        for version in ("0.31.0", "0.32.0")
    )
    assert before - lean == pytest.approx(2560 * 2 * 2 * (3 * 512 + 15 * 256) * 2 / GIB, abs=0.001)


def test_small_embeddings_have_a_buffer_of_one_step_where_images_are_served() -> None:
    few, many = (
        of("google/gemma-4-E4B-it", max_num_batched_tokens=n).weights_gib_per_gpu for n in (2048, 8192)
    )
    # What projects them is counted with them.
    assert many - few == pytest.approx(6144 * 42 * 256 * 2 / GIB, rel=0.04)
    told = [
        of("google/gemma-4-E4B-it", "--language-model-only", max_num_batched_tokens=n).weights_gib_per_gpu
        for n in (2048, 8192)
    ]
    assert told[0] == told[1]
