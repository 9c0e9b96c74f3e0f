"""Numbers that vLLM itself printed for public models: the planner has to come to the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.shapes.published import published

from seawall.config.plan_flags import PlanFlags, from_flags
from seawall.decide.plan import plan
from seawall.domain.action import Plan
from seawall.shapes.config import parse, with_draft

PUBLISHED = published()
H100_019 = {
    "gpu": "H100-80GB-SXM",
    "vllm_version": "0.19.0",
    "gpu_memory_utilization": 0.95,
    "max_model_len": 8192,
}
ON_H100 = {**H100_019, "max_num_seqs": 1024, "max_num_batched_tokens": 8192}


def of(model: str, **flags: Any) -> Plan:
    fleet, shape = from_flags(PlanFlags(model_config=model, **flags))
    return plan(fleet, shape, shorten=False)


@pytest.mark.parametrize(
    ("model", "tp", "weights", "tokens"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 14.99, 476_016),
        ("meta-llama/Llama-3.1-8B-Instruct", 4, 3.77, 2_209_792),
        ("Qwen/Qwen2.5-7B-Instruct", 2, 7.12, 2_390_592),  # 4 KV heads
        ("Qwen/Qwen3-30B-A3B", 1, 56.88, 168_288),  # mixture of experts
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 2, 43.51, 465_936),
        ("google/gemma-2-27b-it", 1, 50.72, 58_672),  # half of the layers see a window
        ("google/gemma-3-12b-it", 1, 23.31, 130_304),  # five of six, and a vision tower
        ("openai/gpt-oss-20b", 2, 7.01, 2_764_768),  # mxfp4 experts
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 4, 53.12, 365_968),  # chunks, 10M-row rotary table
    ],
)
def test_cache_tokens_are_those_of_the_log(model: str, tp: int, weights: float, tokens: int) -> None:
    made = of(model, tensor_parallel=tp, **ON_H100)
    assert made.weights_gib_per_gpu == pytest.approx(weights, rel=0.01)
    assert made.kv_cache_tokens == pytest.approx(tokens, rel=0.01)


@pytest.mark.parametrize(
    ("model", "flags", "weights"),
    [
        ("google/gemma-4-E4B-it", {"gpu": "RTX-3090", "vllm_version": "0.22.1", "max_num_batched_tokens": 2048}, 15.18),
        ("nvidia/Gemma-4-31B-IT-NVFP4", {"gpu": "RTX-PRO-6000", "vllm_version": "0.19.1"}, 31.04),
    ],
)  # fmt: skip
def test_a_gated_encoder_and_two_rotary_tables_are_part_of_gemma_4(
    model: str, flags: dict[str, Any], weights: float, tmp_path: Path
) -> None:
    if model in PUBLISHED:
        config, quantization = PUBLISHED[model]
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantization))
    made = of(str(tmp_path) if model in PUBLISHED else model, max_model_len=32768, **flags)
    assert made.weights_gib_per_gpu == pytest.approx(weights, rel=0.007)


def test_mla_keeps_the_latent_on_every_rank() -> None:
    one, two = (
        of("deepseek-ai/DeepSeek-V2-Lite", gpu="H100-80GB", tensor_parallel=t, max_model_len=8192)
        for t in (1, 2)
    )
    assert one.kv_bytes_per_token == two.kv_bytes_per_token == 27 * 576 * 2
    assert (
        of("deepseek-ai/DeepSeek-R1", gpu="B200", tensor_parallel=8, kv_cache_dtype="fp8").kv_bytes_per_token
        == 61 * 576
    )


def test_sparse_attention_caches_packed_latents_and_index_keys() -> None:
    made = of(
        "deepseek-ai/DeepSeek-V3.2",
        gpu="B200",
        tensor_parallel=8,
        kv_cache_dtype="fp8_ds_mla",
        max_model_len=8192,
    )
    assert made.kv_bytes_per_token == 61 * (656 + 132)
    assert made.block_size == 64


def test_kv_heads_are_repeated_when_there_are_fewer_than_ranks() -> None:
    four, eight = (
        of("Qwen/Qwen3-30B-A3B", gpu="H100-80GB", tensor_parallel=t, max_model_len=8192) for t in (4, 8)
    )
    assert four.kv_bytes_per_token == eight.kv_bytes_per_token == 48 * 2 * 128 * 2


def test_a_recurrent_state_sets_the_block_size() -> None:
    moe = of("Qwen/Qwen3.6-35B-A3B-NVFP4", gpu="GB10", kv_cache_dtype="fp8_e4m3", vllm_version="0.20.0")
    assert moe.block_size == 2096
    dense = of(
        "Qwen/Qwen3.6-27B", gpu="RTX 3090", tensor_parallel=2, kv_cache_dtype="fp8_e5m2", dtype="float16"
    )
    assert dense.block_size == 1568


def test_decode_context_parallelism_multiplies_tokens() -> None:
    flags = {"gpu": "H200", "tensor_parallel": 8, "max_model_len": 65536}
    one = of("deepseek-ai/DeepSeek-R1", **flags)
    four = of("deepseek-ai/DeepSeek-R1", decode_context_parallel=4, **flags)
    assert four.kv_cache_tokens == pytest.approx(4 * one.kv_cache_tokens, rel=0.01)


@pytest.mark.parametrize(
    ("model", "flags", "verdict", "says"),
    [
        ("Qwen/Qwen3-14B", {"tensor_parallel": 5}, "invalid", "KV heads"),
        ("meta-llama/Llama-3.1-70B", {"tensor_parallel": 6}, "invalid", "64 attention heads"),
        ("Qwen/Qwen2.5-72B-AWQ", {"tensor_parallel": 8}, "invalid", "awq block of 128"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", {"tensor_parallel": 4}, "invalid", "fp8 block of 128"),
        ("deepseek-ai/DeepSeek-R1", {}, "oom", "weights alone take"),
        ("Qwen/Qwen3-0.6B", {"max_model_len": 65536}, "invalid", "beyond the model's own 40,960"),
        (
            "Qwen/Qwen3-32B",
            {"max_model_len": 40960, "vllm_version": "0.19.0"},
            "refused",
            "tokens are accepted",
        ),
        (
            "openai/gpt-oss-20b",
            {"gpu_memory_utilization": 0.95, "vllm_version": "0.19.0"},
            "oom",
            "above the budget",
        ),
        ("Qwen/Qwen3-8B", {"gpu_memory_utilization": 1.0}, "oom", "above the budget"),
    ],
)
def test_what_vllm_would_refuse(model: str, flags: dict[str, Any], verdict: str, says: str) -> None:
    made = of(model, gpu="H100-80GB", **{"tensor_parallel": 1, **flags})
    assert (made.verdict, made.fits) == (verdict, False)
    assert says in made.reason


def test_expert_parallelism_does_not_cut_experts() -> None:
    flags = {"gpu": "H100-80GB", "tensor_parallel": 4, "max_model_len": 8192}
    assert of("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", expert_parallel=True, **flags).fits
    dense = of("Qwen/Qwen3-8B", expert_parallel=True, **flags)
    assert dense.verdict == "invalid" and "mixture of experts" in dense.reason


def test_exact_checkpoint_bytes_win_over_the_formula() -> None:
    fleet, shape = from_flags(PlanFlags(model_config="Qwen/Qwen3-8B", gpu="H100-80GB"))
    exact = replace(shape, checkpoint_bytes=17_000_000_000)
    assert plan(fleet, exact).weights_bytes == pytest.approx(17e9, rel=1e-6)


def test_deepseek_v4_needs_what_vllm_asked_for_one_long_request() -> None:
    # vLLM 0.22: "To serve at least one request with the model's max seq len (30000), 6.66 GiB KV cache is needed".
    shape = parse(*PUBLISHED["deepseek-ai/DeepSeek-V4-Flash"][:1])
    fleet, _ = from_flags(
        PlanFlags(model_config="Qwen/Qwen3-8B", gpu="GH200-96GB", tensor_parallel=2, max_model_len=30_000,
                  max_num_batched_tokens=16384, kv_cache_dtype="fp8", vllm_version="0.22.0")
    )  # fmt: skip
    made = plan(fleet, shape, shorten=False)
    assert made.block_size == 256
    assert made.needed_kv_gib_per_gpu == pytest.approx(6.66, abs=0.005)


@pytest.mark.parametrize(
    ("version", "gpu", "length", "cache", "tokens"),
    [
        # Two recorded starts of vLLM 0.23.0 on two H200: "Available KV cache memory: 32.08 GiB".
        ("0.23.0", "H200-141GB", 131_072, 32.084, 1_247_687),
        ("0.23.0", "H200-141GB", 4_096, 32.084, 90_841),
        # A build of vLLM 0.31.1 on eight H100: "GPU KV cache size: 1,728,531 tokens".
        ("0.31.1", "H100-80GB", 262_144, 47.43, 1_728_531),
    ],
)
def test_deepseek_v4_holds_the_tokens_that_vllm_printed(
    version: str, gpu: str, length: int, cache: float, tokens: int
) -> None:
    shape = parse(*PUBLISHED["deepseek-ai/DeepSeek-V4-Flash"][:1])
    fleet, _ = from_flags(
        PlanFlags(model_config="Qwen/Qwen3-8B", gpu=gpu, tensor_parallel=2, max_model_len=length,
                  max_num_batched_tokens=8192, kv_cache_dtype="fp8", kv_cache_memory=int(cache * 2**30),
                  vllm_version=version)
    )  # fmt: skip
    assert plan(fleet, shape, shorten=False).kv_cache_tokens == pytest.approx(tokens, rel=2e-4)


def test_a_calibrated_checkpoint_halves_its_cache_under_auto() -> None:
    config, beside = PUBLISHED["nvidia/Gemma-4-31B-IT-NVFP4"]
    shape = parse(config, beside=beside)
    bytes_of = {}
    for version, dtype in (("0.11.0", "auto"), ("0.19.1", "auto"), ("0.19.1", "fp8"), ("0.19.1", "bfloat16")):
        flags = PlanFlags(model_config="Qwen/Qwen3-8B", gpu="RTX PRO 6000", max_model_len=4096,
                          kv_cache_dtype=dtype, vllm_version=version)  # fmt: skip
        bytes_of[version, dtype] = plan(from_flags(flags)[0], shape, shorten=False).kv_bytes_per_token
    assert bytes_of["0.19.1", "auto"] == bytes_of["0.19.1", "fp8"]
    assert bytes_of["0.11.0", "auto"] == bytes_of["0.19.1", "bfloat16"] == 2 * bytes_of["0.19.1", "auto"]


def test_draft_tokens_lengthen_the_state_of_recurrent_layers() -> None:
    # A start on GB10 (vLLM 0.23.1, two draft tokens): "Setting attention block size to 1600 tokens", 48.6 GiB of cache.
    drafts = ("--speculative-config", '{"method":"mtp","num_speculative_tokens":2}')
    config, beside = PUBLISHED["nvidia/Qwen3.6-27B-NVFP4"]
    shape = with_draft(parse(config, beside=beside), drafts)
    fleet, _ = from_flags(
        PlanFlags(model_config="Qwen/Qwen3-8B", gpu="GB10", tensor_parallel=1, max_model_len=262_144, max_num_seqs=8,
                  max_num_batched_tokens=65_536, kv_cache_dtype="fp8", kv_cache_memory=int(48.6 * 2**30),
                  vllm_version="0.23.1", vllm_args=drafts)
    )  # fmt: skip
    made = plan(fleet, shape, shorten=False)
    assert made.block_size == 1600
    assert made.kv_cache_tokens == pytest.approx(1_394_129, rel=1e-3)


def test_vllm_caches_no_prefixes_of_hybrids_unless_asked() -> None:
    # A start of vLLM 0.20: "Maximum concurrency for 4,096 tokens per request: 36.91x" in 6.56 GiB.
    flags = {"gpu": "RTX-5090", "max_model_len": 4096, "vllm_version": "0.20.0", "tensor_parallel": 1,
             "kv_cache_memory": int(6.56 * 2**30)}  # fmt: skip
    assert of("Qwen/Qwen3.5-9B", **flags).max_concurrency == pytest.approx(36.91, rel=5e-3)
    asked = of("Qwen/Qwen3.5-9B", vllm_args=("--enable-prefix-caching",), **flags)
    assert asked.max_concurrency < 30  # a second state for each request


def test_from_028_vllm_caches_prefixes_of_hybrids_unasked() -> None:
    # A start of vLLM 0.30: 813,374 tokens in 26.72 GiB; without a second state for each request it would be 840,668.
    flags = {"gpu": "GH200-96GB", "max_model_len": 131_072, "vllm_version": "0.30.0", "tensor_parallel": 1,
             "kv_cache_dtype": "fp8", "max_num_seqs": 64, "kv_cache_memory": int(26.72 * 2**30)}  # fmt: skip
    assert of("Qwen/Qwen3.8-27B", **flags).kv_cache_tokens == pytest.approx(813_374, rel=2e-3)
    without = of("Qwen/Qwen3.8-27B", vllm_args=("--no-enable-prefix-caching",), **flags)
    assert without.kv_cache_tokens > 840_000


def test_a_start_that_was_read_after_the_formulas_lies_in_the_range() -> None:
    """Llama 3.1 8B on an A100, vLLM 0.31.0 with its defaults: 56.21 GiB and 460,496 tokens of cache."""
    made = of("meta-llama/Llama-3.1-8B-Instruct", gpu="A100-80GB", vllm_version="0.31.0")
    assert made.kv_cache_tokens == pytest.approx(460_496, rel=0.02)
    low, high = made.kv_cache_gib_range
    assert low <= 56.21 <= high


def test_a_gb10_is_no_big_gpu_to_vllm_since_its_defaults_know_it() -> None:
    batches = [
        of("Qwen/Qwen3-8B", gpu="GB10", vllm_version=v, max_model_len=8192) for v in ("0.32.0", "0.33.0")
    ]
    assert [(p.max_num_seqs, p.max_num_batched_tokens) for p in batches] == [(1024, 8192), (256, 2048)]
