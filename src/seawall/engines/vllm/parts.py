"""Parts of an engine that can be left out or exchanged: which one an exception came from, and how to go without it.

A failure inside a part has the same first remedy whatever its words are. A table; forbidden here: single messages
(those are `messages/`), and what kind of failure it is (`places.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seawall.engines.vllm.raised import Raised


@dataclass(frozen=True)
class EnginePart:
    """A part of vLLM or of what is beneath it, and the way around it."""

    name: str
    """In words, behind `it was`."""
    files: str
    """Pattern of a file that is of this part."""
    without: str
    """What starts the engine without it."""
    words: str = ""
    """Pattern of what only this part's messages have, wherever they were raised."""


PARTS: tuple[EnginePart, ...] = (
    EnginePart(
        "in DeepGEMM's warm-up", r"deep_gemm_warmup", "VLLM_USE_DEEP_GEMM=0, or VLLM_DEEP_GEMM_WARMUP=skip"
    ),
    EnginePart(
        "in DeepGEMM", r"deep_?gemm", "VLLM_USE_DEEP_GEMM=0 (for the experts only: VLLM_MOE_USE_DEEP_GEMM=0)"
    ),
    EnginePart(
        "in an adapter's kernels",
        r"vllm/lora/|punica",
        "start without adapters to see that it is this, or merge them",
    ),
    EnginePart(
        "in speculative decoding", r"spec_decode|eagle|medusa|dflash", "start without --speculative-config"
    ),
    EnginePart(
        "while the KV cache was moved",
        r"kv_transfer|kv_offload|lmcache|nixl|mooncake",
        "start without --kv-transfer-config",
    ),
    EnginePart(
        "in AITER",
        r"aiter",
        "VLLM_ROCM_USE_AITER=0 (or only one of its parts: VLLM_ROCM_USE_AITER_MOE=0, _MLA=0, _MHA=0, _FP4BMM=0, "
        "_FP8BMM=0)",
    ),
    EnginePart(
        "in the memory pool that sleep mode and offloading use",
        r"device_allocator|cumem|camem",
        "start without --enable-sleep-mode, and without expandable_segments:True in PYTORCH_CUDA_ALLOC_CONF; an "
        "image whose build has this allocator (a newer one)",
    ),
    EnginePart("in FlashInfer's tuning", r"flashinfer/autotuner", "--no-enable-flashinfer-autotune"),
    EnginePart(
        "in the sampler",
        r"flashinfer/sampling|topk_topp_sampler|rejection_sampler",
        "VLLM_USE_FLASHINFER_SAMPLER=0",
    ),
    EnginePart(
        "in the sum over the GPUs that is joined with a norm (FlashInfer)",
        r"flashinfer/comm|allreduce_(?:rms_)?fusion|flashinfer_all_reduce",
        '--compilation-config \'{"pass_config": {"fuse_allreduce_rms": false}}\'',
    ),
    EnginePart(
        "between the GPUs",
        r"custom_all_reduce|symm_mem|quick_all_reduce",
        "--disable-custom-all-reduce and VLLM_ALLREDUCE_USE_SYMM_MEM=0",
    ),
    EnginePart("in the balancing of experts", r"/eplb/", "start without --enable-eplb"),
    EnginePart("in overlapped batches", r"ubatch", "start without --enable-dbo"),
    EnginePart(
        "in the experts' kernels",
        r"fused_moe|cutlass_moe|moe_wna16|deep_ep|triton_kernels",
        "another --moe-backend (triton, marlin)",
    ),
    EnginePart(
        "in the layers that keep a state (Mamba, GDN)",
        r"mamba|gdn|linear_attn|fla/ops|causal_conv1d",
        "--no-enable-prefix-caching (their states are copied for it), --mamba-cache-mode none, another "
        "--gdn-prefill-backend",
    ),
    EnginePart(
        "in attention",
        r"attention|flash_attn|flash_mla|triton_attn|flashinfer/(?:decode|prefill|mla|cascade)",
        "another --attention-backend (TRITON_ATTN, FLASH_ATTN)",
    ),
    EnginePart(
        "in the quantized layers",
        r"quantization/|scaled_mm|marlin|flashinfer/gemm|flashinfer/fp\d",
        "another --linear-backend or checkpoint",
    ),
    EnginePart(
        "in structured output",
        r"xgrammar|outlines|llguidance|structured_output",
        'another backend: --structured-outputs-config \'{"backend": "guidance"}\'',
    ),
    EnginePart(
        "in CUDA graphs",
        r"cuda_?graph|cuda/graphs\.py",
        '--compilation-config \'{"cudagraph_mode": "PIECEWISE"}\', or --enforce-eager, which is slower',
    ),
    EnginePart(
        "in torch.compile",
        r"torch/_(?:inductor|dynamo|functorch)|vllm/compilation",
        "an empty VLLM_CACHE_ROOT first (what was compiled for another image or GPU lies there), then "
        "--compilation-config '{\"mode\": 0}', or --enforce-eager, which is slower",
    ),
    EnginePart(
        "in the bookkeeping of the KV cache",
        r"v1/core/(?:kv_cache_manager|block_pool|single_type_kv_cache_manager|kv_cache_coordinator)",
        "--no-enable-prefix-caching",
    ),
    EnginePart(
        "in the loader of another format",
        r"model_loader/(?:runai|tensorizer|bitsandbytes|gguf|sharded|dummy)|fastsafetensors|instanttensor",
        "--load-format auto, from a folder with safetensors",
    ),
    EnginePart(
        "in the conversion to a model that embeds or classifies",
        r"models/adapters\.py|layers/pooler|worker/gpu/pool|/pooling/|embedding_utils",
        "--runner pooling beside --convert embed or classify; rerankers: --hf-overrides with the architectures, "
        "classifier_from_token and is_original_qwen3_reranker of the model's card",
    ),
    EnginePart("in the second model runner", r"vllm/v1/worker/gpu/", "VLLM_USE_V2_MODEL_RUNNER=0"),
    EnginePart(
        "in async scheduling",
        r"async_scheduler",
        "--no-async-scheduling",
        words=r"sampled_token_ids|num_output_placeholders|async.scheduling|step_with_batch_queue",
    ),
)
"""In this order where one file is of several parts."""

_REACH = 8
"""Files on the way, from the one that raised outwards, that are looked at."""


def part_of(raised: Raised) -> EnginePart | None:
    """The part that an exception came from, by the file nearest to what raised it; None when no file tells."""
    for part in PARTS:
        if part.words and re.search(part.words, raised.line):
            return part
    for file in list(reversed(raised.files))[:_REACH]:
        for part in PARTS:
            if re.search(part.files, file):
                return part
    return None


_TAGS = (
    (r"\[aiter\]|aiter::", "in AITER"),
    (r"DeepEP|deep_ep|fused_moe", "in the experts' kernels"),
    (r"NIXL|LMCache|mooncake", "while the KV cache was moved"),
    (r"Capturing (?:CUDA|cuda) graph", "in CUDA graphs"),
)
"""What a part writes before itself in a log -> the part's name."""
_LINES_BEFORE = 12


def part_before(log: str, at: int) -> EnginePart | None:
    """The part that wrote last before a place of a log: all there is to go by where a fault leaves no traceback."""
    for line in reversed(log[:at].splitlines()[-_LINES_BEFORE:]):
        for tag, name in _TAGS:
            if re.search(tag, line):
                return next(part for part in PARTS if part.name == name)
    return None


FITS: dict[str, str] = {
    "Transformers": "transformers of the release that this vLLM asks for: below 5 for vLLM 0.18 and before, and "
    "for a model "
    "that wants a newer one a newer vLLM image",
    "FlashInfer": "flashinfer-python, flashinfer-cubin and flashinfer-jit-cache of one release, the one that this "
    "vLLM asks "
    "for",
    "LMCache": "the LMCache that was released for this vLLM (lmcache/vllm-openai brings the pair)",
    "NIXL": "the NIXL that this image's vLLM was tried with, for the same CUDA",
}
"""Package -> which release of it goes with an engine."""
