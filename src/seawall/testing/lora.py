"""A tiny LoRA adapter with random weights, in the form that PEFT writes and vLLM reads: for tests without a download.

Pure Python: no torch, no safetensors. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import random
import struct
from array import array
from pathlib import Path
from typing import Any

TARGETS = ("q_proj", "v_proj")


def random_adapter(
    folder: Path, model: dict[str, Any], rank: int = 8, seed: int = 0, scale: float = 0.5
) -> Path:
    """Writes adapter_config.json and adapter_model.safetensors for a Llama-like `model` (its config.json) into
    `folder`. `scale`: standard deviation of the weights; 0.5 changes what a small model says beyond doubt."""
    rng, hidden = random.Random(seed), int(model["hidden_size"])
    heads = int(model["num_attention_heads"])
    head = int(model.get("head_dim") or hidden // heads)
    out = {"q_proj": heads * head, "v_proj": int(model.get("num_key_value_heads") or heads) * head}
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(int(model["num_hidden_layers"])):
        for name in TARGETS:
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            shapes[f"{stem}.lora_A.weight"] = (rank, hidden)
            shapes[f"{stem}.lora_B.weight"] = (out[name], rank)
    header: dict[str, Any] = {}
    data = bytearray()
    for name, shape in shapes.items():
        values = array("f", (rng.gauss(0.0, scale) for _ in range(shape[0] * shape[1])))
        begin = len(data)
        data += values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(TARGETS)}
    config |= {"bias": "none", "task_type": "CAUSAL_LM", "base_model_name_or_path": ""}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
