"""GGUF -> what vLLM reads best: bf16 safetensors, config.json, a tokenizer and its chat template.

vLLM on CPU wants a Hugging Face folder, and transformers keeps GGUF weights packed, so the conversion is
done here, by hand: dequantize, undo llama.cpp's row permutation of the query and key projections, round to
bfloat16. Only the `llama` architecture is known, and only tokenizers whose pre-tokenizer is known: anything
else is refused, never guessed. The output is a function of the input's bytes alone.
Sources: llama.cpp convert_hf_to_gguf.py (LlamaModel.permute), the GGUF specification, safetensors' format.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.errors import InputError

ConvertProgress = Callable[[int, int], None]

_BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}  # fmt: skip
_CONTROL = 3
"""gguf TokenType.CONTROL: special tokens such as <|im_end|>."""


@dataclass(frozen=True)
class Llama:
    """The hyperparameters a llama GGUF declares."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    context: int
    vocab: int
    rope_theta: float
    rms_eps: float

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def convert(source: Path, out: Path, progress: ConvertProgress = lambda done, of: None) -> None:
    """Writes config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
    chat_template.jinja into the existing folder `out`. InputError when the file is not a llama GGUF we know."""
    reader = _open(source)
    facts = _Facts(reader, source)
    llama = _llama(facts)
    names = {t.name: t for t in reader.tensors}
    tied = "output.weight" not in names
    _write_json(out / "config.json", _config(llama, facts, tied))
    _write_json(
        out / "generation_config.json",
        {"bos_token_id": facts.bos, "eos_token_id": facts.eos, "pad_token_id": facts.pad},
    )
    _tokenizer(facts, llama, out)
    _safetensors(out / "model.safetensors", list(_tensors(reader, llama, source)), progress)


class _Facts:
    """Typed access to the metadata, with messages that name the file and the key."""

    def __init__(self, reader: Any, source: Path) -> None:
        self._fields, self._source = reader.fields, source

    def get(self, key: str, default: Any = None) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def need(self, key: str) -> Any:
        if (value := self.get(key)) is None:
            raise InputError(
                f"{self._source.name}: the key {key} is missing.", "Is this a complete GGUF of a model?"
            )
        return value

    @property
    def bos(self) -> int:
        return int(self.get("tokenizer.ggml.bos_token_id", 1))

    @property
    def eos(self) -> int:
        return int(self.need("tokenizer.ggml.eos_token_id"))

    @property
    def pad(self) -> int:
        return int(self.get("tokenizer.ggml.padding_token_id", self.eos))


def _open(source: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(source)
    except (ValueError, IndexError, KeyError, OSError, OverflowError) as e:
        raise InputError(
            f"{source}: cannot be read as GGUF ({e}).", "Fetch it again; it may be cut short."
        ) from None


def _llama(facts: _Facts) -> Llama:
    if (arch := facts.need("general.architecture")) != "llama":
        raise InputError(
            f"the GGUF architecture {arch!r} is not converted here.", "Use safetensors of it (hf://org/name)."
        )
    heads = int(facts.need("llama.attention.head_count"))
    llama = Llama(
        layers=int(facts.need("llama.block_count")), hidden=int(facts.need("llama.embedding_length")),
        intermediate=int(facts.need("llama.feed_forward_length")), heads=heads,
        kv_heads=int(facts.get("llama.attention.head_count_kv", heads)),
        context=int(facts.need("llama.context_length")), vocab=len(facts.need("tokenizer.ggml.tokens")),
        rope_theta=float(facts.get("llama.rope.freq_base", 10000.0)),
        rms_eps=float(facts.need("llama.attention.layer_norm_rms_epsilon")),
    )  # fmt: skip
    if facts.get("llama.rope.scaling.type") not in (None, "none"):
        raise InputError(
            "this GGUF scales its rotary embedding, which is not converted here.", "Use safetensors."
        )
    return llama


def _config(llama: Llama, facts: _Facts, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "hidden_act": "silu",
        "hidden_size": llama.hidden, "intermediate_size": llama.intermediate, "head_dim": llama.head_dim,
        "num_hidden_layers": llama.layers, "num_attention_heads": llama.heads,
        "num_key_value_heads": llama.kv_heads, "max_position_embeddings": llama.context,
        "rms_norm_eps": round(llama.rms_eps, 12), "rope_theta": llama.rope_theta, "rope_scaling": None,
        "vocab_size": llama.vocab, "tie_word_embeddings": tied, "initializer_range": 0.02, "use_cache": True,
        "bos_token_id": facts.bos, "eos_token_id": facts.eos, "pad_token_id": facts.pad,
    }  # fmt: skip


def _tensors(reader: Any, llama: Llama, source: Path) -> Iterator[tuple[str, Any, int | None]]:
    """(Hugging Face name, GGUF tensor, heads to unpermute by)."""
    for tensor in reader.tensors:
        if tensor.name in _OUTER:
            yield _OUTER[tensor.name], tensor, None
            continue
        if tensor.name == "rope_freqs.weight":
            continue
        parts = tensor.name.split(".")
        if len(parts) != 4 or parts[0] != "blk" or parts[2] not in _BLOCK or parts[3] != "weight":
            raise InputError(
                f"{source.name}: the tensor {tensor.name} is not one of a llama.", "Use safetensors."
            )
        heads = {"attn_q": llama.heads, "attn_k": llama.kv_heads}.get(parts[2])
        yield f"model.layers.{int(parts[1])}.{_BLOCK[parts[2]]}.weight", tensor, heads


def _bf16(tensor: Any, heads: int | None) -> bytes:
    """Row-major bfloat16 bytes (round to nearest even) of a possibly quantized tensor."""
    import numpy as np
    from gguf.quants import dequantize

    rows = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    if heads:
        half = rows.shape[0] // heads // 2
        rows = rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
    bits = np.ascontiguousarray(rows).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bytes(rounded.astype("<u2").tobytes())


def _safetensors(path: Path, tensors: list[tuple[str, Any, int | None]], progress: ConvertProgress) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor, _ in tensors:
        shape = [int(n) for n in reversed(tensor.shape.tolist())]
        size = 2 * int(tensor.n_elements)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for done, (_, tensor, heads) in enumerate(tensors, 1):
            f.write(_bf16(tensor, heads))
            progress(done, len(tensors))


def _tokenizer(facts: _Facts, llama: Llama, out: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if facts.need("tokenizer.ggml.model") != "gpt2" or facts.get("tokenizer.ggml.pre") != "smollm":
        kind = f"{facts.get('tokenizer.ggml.model')}/{facts.get('tokenizer.ggml.pre')}"
        raise InputError(
            f"the GGUF tokenizer {kind} is not converted here.", "Use safetensors with a tokenizer.json."
        )
    tokens: list[str] = facts.need("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ", 1)) for m in facts.need("tokenizer.ggml.merges")]
    kinds: list[int] = facts.need("tokenizer.ggml.token_type")
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.save(str(out / "tokenizer.json"))
    if template := facts.get("tokenizer.chat_template"):
        (out / "chat_template.jinja").write_text(template, "utf-8")
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": llama.context,
            "bos_token": tokens[facts.bos], "eos_token": tokens[facts.eos], "pad_token": tokens[facts.pad],
            "unk_token": tokens[int(facts.get("tokenizer.ggml.unknown_token_id", 0))],
            "clean_up_tokenization_spaces": False, "add_prefix_space": False,
        },
    )  # fmt: skip


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
