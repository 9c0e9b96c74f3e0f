from __future__ import annotations

import json
import random

import pytest


def safetensors(size: int, seed: int = 0) -> bytes:
    """A sound safetensors file with one tensor of `size` random bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size)


@pytest.fixture(scope="session")
def model_files() -> dict[str, bytes]:
    return {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer/merges.txt": b"a b\n" * 1000,
        "empty.txt": b"",
        "model-00001-of-00002.safetensors": safetensors(40 * 2**20, 1),
        "model-00002-of-00002.safetensors": safetensors(3 * 2**20 + 17, 2),
    }
