"""Checks a safetensors file's header: offsets inside the file, sizes that match the shapes, no overlap.

The format: 8 bytes little-endian header length, JSON header, tensors (huggingface/safetensors README).
A loader that trusts a bad header reads out of bounds; a truncated upload shows here before vLLM maps it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from seawall.errors import SourceError, in_words

MAX_HEADER = 100_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def check_header(path: Path, name: str) -> int:
    """Number of tensors. Raises SourceError that names the tensor and what is wrong with it."""
    size = path.stat().st_size
    with path.open("rb") as f:
        prefix = f.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(MAX_HEADER, size - 8):
            raise _bad(name, f"its header claims {length} bytes of a file of {size}")
        raw = f.read(length)
    try:
        header = json.loads(raw)
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        spans = sorted((*map(int, t["data_offsets"]), k) for k, t in tensors.items())
        for begin, end, key in spans:
            bits = _BITS.get(tensors[key]["dtype"])
            shape = tensors[key]["shape"]
            if any(not isinstance(d, int) or d < 0 for d in shape):
                raise _bad(name, f"tensor {key[:80]!r} has the shape {shape}")
            if bits and (math.prod(shape) * bits + 7) // 8 != end - begin:
                raise _bad(name, f"tensor {key[:80]!r} takes {end - begin} bytes, its shape {shape} does not")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _bad(name, f"its header cannot be read ({in_words(e)})") from None
    at = 0
    for begin, end, key in spans:
        if begin != at or end < begin or end > size - 8 - length:
            raise _bad(name, f"tensor {key[:80]!r} lies at {begin}..{end} of {size - 8 - length} bytes")
        at = end
    if at != size - 8 - length:
        raise _bad(name, f"{size - 8 - length - at} bytes belong to no tensor")
    return len(tensors)


def _bad(name: str, why: str) -> SourceError:
    return SourceError(
        f"{name}: not a sound safetensors file: {why}.", "Pull again from another mirror or revision."
    )
