"""Small GGUF files as llama.cpp's converter writes them: random weights, names by the `gguf` package's own table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import MODEL_ARCH, TokenType

ARCHES = {
    "gemma": MODEL_ARCH.GEMMA, "gemma2": MODEL_ARCH.GEMMA2, "gemma3": MODEL_ARCH.GEMMA3, "phi3": MODEL_ARCH.PHI3,
}  # fmt: skip
PIECES = (
    ("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 2), ("<0x0A>", 6), ("a", 1), ("b", 1), ("ab", 1), ("▁", 1),
    ("▁a", 1), ("▁ab", 1), ("<end_of_turn>", 3), ("<|end|>", 3),
)  # fmt: skip
BYTES = PIECES + tuple((f"<0x{n:02X}>", 6) for n in range(256) if n != 10)
"""Pieces that any text can be told by."""


@dataclass(frozen=True)
class Size:
    """The dimensions of a made model."""

    hidden: int = 16
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 8
    ffn: int = 32
    layers: int = 2
    context: int = 64
    spread: float = 1.0
    """Of the weights."""
    pieces: tuple[tuple[str, int], ...] = PIECES


TINY = Size()


def weights(arch: str, size: Size = TINY) -> dict[str, np.ndarray]:
    """Hugging Face name -> values, as a checkpoint of the architecture has them."""
    rng = np.random.default_rng(11)
    h, queries, keys = size.hidden, size.heads * size.head_dim, size.kv_heads * size.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (len(size.pieces), h), "model.norm": (h,)}
    for i in range(size.layers):
        at = f"model.layers.{i}."
        shapes[at + "input_layernorm"] = shapes[at + "post_attention_layernorm"] = (h,)
        shapes[at + "self_attn.o_proj"] = (h, queries)
        shapes[at + "mlp.down_proj"] = (h, size.ffn)
        if arch == "phi3":
            shapes[at + "self_attn.qkv_proj"] = (queries + 2 * keys, h)
            shapes[at + "mlp.gate_up_proj"] = (2 * size.ffn, h)
            continue
        shapes[at + "self_attn.q_proj"] = (queries, h)
        shapes[at + "self_attn.k_proj"] = shapes[at + "self_attn.v_proj"] = (keys, h)
        shapes[at + "mlp.gate_proj"] = shapes[at + "mlp.up_proj"] = (size.ffn, h)
        if arch in ("gemma2", "gemma3"):
            shapes[at + "pre_feedforward_layernorm"] = shapes[at + "post_feedforward_layernorm"] = (h,)
        if arch == "gemma3":
            shapes[at + "self_attn.q_norm"] = shapes[at + "self_attn.k_norm"] = (size.head_dim,)
    if arch == "phi3":
        shapes["lm_head"] = (len(size.pieces), h)
    return {
        f"{n}.weight": (size.spread * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()
    }


def write_gguf(
    path: Path,
    arch: str,
    size: Size = TINY,
    more: dict[str, Any] | None = None,
    prefix: bool = False,
    template: str = "",
) -> dict[str, np.ndarray]:
    """Writes the file; the checkpoint's own weights. `more`: further metadata of the architecture."""
    made = weights(arch, size)
    out = gguf.GGUFWriter(str(path), arch)
    out.add_block_count(size.layers)
    out.add_embedding_length(size.hidden)
    out.add_feed_forward_length(size.ffn)
    out.add_head_count(size.heads)
    out.add_head_count_kv(size.kv_heads)
    out.add_context_length(size.context)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_key_length(size.head_dim)
    for key, value in (more or {}).items():
        write = {str: out.add_string, float: out.add_float32, int: out.add_uint32}[type(value)]
        write(f"{arch}.{key}", value)
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list([t for t, _ in size.pieces])
    out.add_token_types([TokenType(k) for _, k in size.pieces])
    out.add_token_scores([-float(i) if k == 1 else 0.0 for i, (_, k) in enumerate(size.pieces)])
    out.add_add_space_prefix(prefix)
    out.add_bos_token_id(2)
    out.add_eos_token_id(1)
    out.add_unk_token_id(3)
    out.add_pad_token_id(0)
    if template:
        out.add_chat_template(template)
    names = gguf.get_tensor_name_map(ARCHES[arch], size.layers)
    for name, values in made.items():
        theirs = names.get_name(name, try_suffixes=(".weight",))
        assert theirs is not None, name
        plus = arch.startswith("gemma") and name.endswith("norm.weight")
        out.add_tensor(theirs, values + np.float32(plus))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return made
