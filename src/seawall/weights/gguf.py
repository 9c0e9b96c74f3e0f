"""GGUF -> what vLLM reads best: bf16 safetensors, config.json, a tokenizer and its chat template.

vLLM 0.32 has no loader of GGUF, and transformers keeps GGUF weights packed, so the conversion is done here, by hand:
dequantize, undo what llama.cpp did to some tensors (`gguf_layouts.py` tells which), round to bfloat16. Only
architectures and tokenizers that are known by name are converted: anything else is refused by its name, never guessed.
The output is a function of the input's bytes alone.
Sources: llama.cpp convert_hf_to_gguf.py, the GGUF specification, safetensors' format.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seawall.drivers import cache
from seawall.errors import InputError
from seawall.weights.gguf_layouts import LAYOUTS, LayoutOfGguf, ModelOfGguf
from seawall.weights.gguf_tokenizer import write_tokenizer

ConvertProgress = Callable[[int, int], None]

_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}  # fmt: skip
_FACTORS = ("rope_factors_long.weight", "rope_factors_short.weight")
"""The factors of a long rotary embedding, which are no weights of the model but part of its config."""


def convert(source: Path, out: Path, progress: ConvertProgress = lambda done, of: None) -> None:
    """Writes config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
    chat_template.jinja into the existing folder `out`. InputError when it is of no kind that is known here."""
    reader = _open(source)
    facts = _Facts(reader, source)
    layout, model = _model(facts)
    names = {t.name: t for t in reader.tensors}
    tied = "output.weight" not in names
    _write_json(out / "config.json", _config(layout, model, facts, tied))
    _write_json(
        out / "generation_config.json",
        {"bos_token_id": facts.bos, "eos_token_id": facts.ends(layout), "pad_token_id": facts.pad},
    )
    write_tokenizer(facts.of, model.context, out)
    _safetensors(out / "model.safetensors", list(_tensors(reader, layout, model, source)), progress)


class _Facts:
    """Typed access to the metadata, with messages that name the file and the key."""

    def __init__(self, reader: Any, source: Path) -> None:
        self._fields, self._source = reader.fields, source
        self._factors = {t.name.removesuffix(".weight"): t for t in reader.tensors if t.name in _FACTORS}
        self.rows = next((int(t.shape[-1]) for t in reader.tensors if t.name == "token_embd.weight"), 0)
        """Rows of the embedding: the vocabulary with its padding."""

    def get(self, key: str, default: Any = None) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def need(self, key: str) -> Any:
        if (value := self.get(key)) is None:
            raise InputError(
                f"{self._source.name}: the key {key} is missing.", "Is this a complete GGUF of a model?"
            )
        return value

    def of(self, key: str, default: Any = None, need: bool = False) -> Any:
        return self.need(key) if need else self.get(key, default)

    def below(self, arch: str) -> Callable[[str, Any], Any]:
        """Metadata of an architecture by the key's end, and the rotary factors, which lie among the tensors."""

        def get(key: str, default: Any) -> Any:
            if key in self._factors:
                return [float(f) for f in self._factors[key].data]
            return self.get(f"{arch}.{key}", default)

        return get

    @property
    def bos(self) -> int:
        return int(self.get("tokenizer.ggml.bos_token_id", 1))

    @property
    def eos(self) -> int:
        return int(self.need("tokenizer.ggml.eos_token_id"))

    @property
    def pad(self) -> int:
        return int(self.get("tokenizer.ggml.padding_token_id", self.eos))

    def ends(self, layout: LayoutOfGguf) -> int | list[int]:
        """What ends an answer: the file's own token, and those that the architecture's chats end with."""
        tokens = self.need("tokenizer.ggml.tokens") if layout.ends else []
        more = [tokens.index(t) for t in layout.ends if t in tokens]
        also = [i for i in more if i != self.eos]
        return [self.eos, *also] if also else self.eos


def _open(source: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(source)
    except (ValueError, IndexError, KeyError, OSError, OverflowError) as e:
        raise InputError(
            f"{source}: cannot be read as GGUF ({e}).", "Fetch it again; it may be cut short."
        ) from None


def _model(facts: _Facts) -> tuple[LayoutOfGguf, ModelOfGguf]:
    arch = str(facts.need("general.architecture"))
    if arch not in LAYOUTS:
        raise InputError(
            f"the GGUF architecture {arch!r:.60} is not converted here; {', '.join(LAYOUTS)} are.",
            "Use safetensors of it (hf://org/name).",
        )
    layout = LAYOUTS[arch]
    heads, hidden = (
        int(facts.need(f"{arch}.attention.head_count")),
        int(facts.need(f"{arch}.embedding_length")),
    )
    model = ModelOfGguf(
        kind=arch, layers=int(facts.need(f"{arch}.block_count")), hidden=hidden,
        intermediate=int(facts.need(f"{arch}.feed_forward_length")), heads=heads,
        kv_heads=int(facts.get(f"{arch}.attention.head_count_kv", heads)),
        context=int(facts.need(f"{arch}.context_length")),
        vocab=facts.rows or len(facts.need("tokenizer.ggml.tokens")),
        rope_theta=float(facts.get(f"{arch}.rope.freq_base", 1e6 if arch == "gemma3" else 10000.0)),
        rms_eps=float(facts.need(f"{arch}.attention.layer_norm_rms_epsilon")),
        head_dim=int(facts.get(f"{arch}.attention.key_length", hidden // heads)),
    )  # fmt: skip
    if facts.get(f"{arch}.rope.scaling.type", "none") not in {"none", *layout.rope_scalings}:
        raise InputError(
            "this GGUF scales its rotary embedding, which is not converted here.", "Use safetensors."
        )
    return layout, model


def _config(layout: LayoutOfGguf, model: ModelOfGguf, facts: _Facts, tied: bool) -> dict[str, Any]:
    own = layout.config(model, facts.below(model.kind))
    usual = {
        "attention_dropout": 0.0, "hidden_act": "silu",
        "hidden_size": model.hidden, "intermediate_size": model.intermediate, "head_dim": model.head_dim,
        "num_hidden_layers": model.layers, "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads, "max_position_embeddings": model.context,
        "rms_norm_eps": round(model.rms_eps, 12), "rope_theta": model.rope_theta, "rope_scaling": None,
        "vocab_size": model.vocab, "tie_word_embeddings": tied, "initializer_range": 0.02, "use_cache": True,
        "bos_token_id": facts.bos, "eos_token_id": facts.ends(layout), "pad_token_id": facts.pad,
    }  # fmt: skip
    first = {"architectures": [layout.name], "model_type": layout.model_type or model.kind}
    return first | {"torch_dtype": "bfloat16"} | own | {k: v for k, v in usual.items() if k not in own}


def _tensors(
    reader: Any, layout: LayoutOfGguf, model: ModelOfGguf, source: Path
) -> Iterator[tuple[str, Any, int | None, float]]:
    """(Hugging Face name, GGUF tensor, heads to unpermute by, what to take off its values)."""
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        shift = 1.0 if layout.norms_plus_one and parts[-2].endswith("norm") else 0.0
        if tensor.name in _OUTER:
            yield _OUTER[tensor.name], tensor, None, shift
            continue
        if tensor.name == "rope_freqs.weight":
            if not bool(
                (tensor.data == 1.0).all()
            ):  # Llama 3.1's scaling, whose parameters are not in the file
                raise InputError(
                    f"{source.name} scales its rotary embedding, which is not converted here.",
                    "Use safetensors.",
                )
            continue
        if tensor.name in _FACTORS and "longrope" in layout.rope_scalings:
            continue
        known = len(parts) == 4 and parts[0] == "blk" and parts[2] in layout.block
        if not known or (parts[3] != "weight" and not (parts[3] == "bias" and parts[2] in layout.biases)):
            raise InputError(
                f"{source.name}: the tensor {tensor.name} is not one of a {model.kind}.", "Use safetensors."
            )
        heads = {"attn_q": model.heads, "attn_k": model.kv_heads}.get(parts[2]) if layout.permuted else None
        yield f"model.layers.{int(parts[1])}.{layout.block[parts[2]]}.{parts[3]}", tensor, heads, shift


def _bf16(tensor: Any, heads: int | None, shift: float) -> bytes:
    """Row-major bfloat16 bytes (round to nearest even) of a possibly quantized tensor."""
    import numpy as np
    from gguf.quants import dequantize

    rows = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    if shift:
        rows = rows - np.float32(shift)
    if heads:
        half = rows.shape[0] // heads // 2
        rows = rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
    bits = np.ascontiguousarray(rows).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bytes(rounded.astype("<u2").tobytes())


def _safetensors(
    path: Path, tensors: list[tuple[str, Any, int | None, float]], progress: ConvertProgress
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor, *_ in tensors:
        shape = [int(n) for n in reversed(tensor.shape.tolist())]
        size = 2 * int(tensor.n_elements)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for done, (_, tensor, heads, shift) in enumerate(tensors, 1):
            f.write(_bf16(tensor, heads, shift))
            progress(done, len(tensors))


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")


def model_folder(file: Path, root: Path, say: Callable[[str], None]) -> Path:
    """The converted model of a GGUF on this machine, from the cache after the first time. Raises as `convert`."""
    stat = file.stat()
    key = hashlib.sha256(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:8]
    folder = root / "weights" / f"gguf-{file.stem}-{key}".lower()
    if cache.complete(folder) is not None:
        return folder
    with cache.locked(
        folder.with_suffix(".lock"), lambda: say("another seawall converts this file; waiting")
    ):
        if cache.complete(folder) is None:
            with cache.staged(folder) as scratch:
                say(f"converting {file.name} to bf16 safetensors (once)")
                convert(file, scratch)
                sizes = {f.name: {"size": f.stat().st_size} for f in sorted(scratch.iterdir())}
                cache.seal(scratch, {"source": f"file://{file}", "files": sizes})
    return folder
