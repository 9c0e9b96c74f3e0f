"""Why vLLM finds no attention backend: the reasons that it writes are a list, and each has a cure of its own.

The reasons are those of `vllm/v1/attention/backend.py` (0.11 to 0.32). Text in, words out. Forbidden here: other
refusals (`messages/`, `bounds.py`).
"""

from __future__ import annotations

import re

_NONE = re.compile(
    r"(?P<one>[Ss]elected (?:MLA prefill )?backend (?:AttentionBackendEnum\.)?(?P<name>\w+) is not valid)"
    r"|No valid (?:\w+ ){0,3}(?:attention|prefill) backend"
)
_REASONS = (
    (
        "kv_cache_dtype not supported",
        "--kv-cache-dtype auto (fp8 wants FLASHINFER, TRITON_ATTN or FlashAttention 3)",
    ),
    (
        "attention sinks? (?:setting )?not supported|sink setting",
        "FLASH_ATTN on Hopper or TRITON_ATTN, which know sinks",
    ),
    ("head_size not supported", "TRITON_ATTN or FLEX_ATTENTION, which take any head size"),
    ("(?<!cache_)dtype not supported", "--dtype bfloat16 or half"),
    ("block_size not supported", "leave --block-size out"),
    ("non-MLA not supported", "a backend that is none for MLA (FLASH_ATTN, FLASHINFER, TRITON_ATTN)"),
    ("(?<!non-)MLA not supported", "a backend for MLA (FLASHMLA, FLASHINFER_MLA, CUTLASS_MLA, TRITON_MLA)"),
    ("non-sparse not supported", "a backend that is not for sparse attention"),
    (
        "(?<!non-)sparse not supported",
        "a Hopper or Blackwell GPU, for which the sparse backends are (FLASHMLA_SPARSE)",
    ),
    (
        "multimodal token full attention",
        "TRITON_ATTN or FLEX_ATTENTION, which look at pictures in both directions",
    ),
    ("compute capability not supported", "a backend that this GPU can run (TRITON_ATTN runs on all)"),
    (
        "attention type [\\w.]+ not supported",
        "FLASH_ATTN, TRITON_ATTN or FLEX_ATTENTION, which know encoders",
    ),
    ("sliding window not supported|R-SWA not supported", "FLASH_ATTN or TRITON_ATTN, which know windows"),
    ("DCP not supported|PCP not supported", "start without --decode-context-parallel-size"),
    ("batch invariance not supported", "start without VLLM_BATCH_INVARIANT"),
    ("KV connector not supported", "start without --kv-transfer-config"),
    (
        "(?:module|package|library)[^\\n,\\]]{0,40}not (?:found|installed|available)|ImportError",
        "an image that has it",
    ),
)
"""A reason as vLLM writes it, and what to do about it."""


def cure_of_backends(words: str) -> str:
    """What to do about a refused attention backend, by the reasons that it gives; empty: none is refused."""
    refused = _NONE.search(words)
    if refused is None:
        return ""
    cures = [cure for reason, cure in _REASONS if re.search(reason, words)]
    first = (
        f"leave --attention-backend {refused['name']} (VLLM_ATTENTION_BACKEND) out, so that vLLM chooses; or"
        if refused["one"]
        else "for that reason:"
    )
    otherwise = "a newer vLLM image, or another of the model's checkpoints"
    return f"{first} {'; '.join(cures[:3]) or otherwise}" + (f"; else {otherwise}" if cures else "")
