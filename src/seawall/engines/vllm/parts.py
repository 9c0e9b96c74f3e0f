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
    EnginePart("in AITER", r"aiter", "VLLM_ROCM_USE_AITER=0"),
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
    EnginePart("in async scheduling", r"async_scheduler", "--no-async-scheduling"),
)
"""In this order where one file is of several parts."""

_REACH = 8
"""Files on the way, from the one that raised outwards, that are looked at."""


def part_of(raised: Raised) -> EnginePart | None:
    """The part that an exception came from, by the file nearest to what raised it; None when no file tells."""
    for file in list(reversed(raised.files))[:_REACH]:
        for part in PARTS:
            if re.search(part.files, file):
                return part
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
