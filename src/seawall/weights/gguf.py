"""GGUF -> what vLLM reads best: bf16 safetensors, config.json, a tokenizer and its chat template.

vLLM on CPU wants a Hugging Face folder, and transformers keeps GGUF weights packed, so the conversion is
done here, by hand: dequantize, undo llama.cpp's row permutation of the query and key projections (of `llama` alone),
round to bfloat16. `llama`, `qwen2` and `qwen3` are known, and only tokenizers whose pre-tokenizer is known: anything
else is refused by its name, never guessed. The output is a function of the input's bytes alone.
Sources: llama.cpp convert_hf_to_gguf.py (LlamaModel.permute, Qwen2Model, Qwen3Model) and llama-vocab.cpp (the
pre-tokenizers), the GGUF specification, safetensors' format.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.drivers import cache
from seawall.errors import InputError

ConvertProgress = Callable[[int, int], None]

_BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
_PLAIN = frozenset(_BLOCK) - {"attn_q_norm", "attn_k_norm"}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}  # fmt: skip
_CONTROL, _ADDED = 3, 4
"""gguf TokenType.CONTROL: special tokens such as <|im_end|>; USER_DEFINED: whole words such as <tool_call>."""
_QWEN2_WORDS = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""What llama.cpp calls the pre-tokenizer `qwen2`: contractions, words, single digits, punctuation, blanks."""


@dataclass(frozen=True)
class LayoutOfGguf:
    """What tells the architectures apart here."""

    name: str
    """vLLM's and transformers' class."""
    permuted: bool = False
    """llama.cpp has reordered the rows of the query and key projections."""
    further: tuple[str, ...] = ()
    """Tensors of a block that a llama has not."""


KINDS = {
    "llama": LayoutOfGguf("LlamaForCausalLM", permuted=True),
    "qwen2": LayoutOfGguf("Qwen2ForCausalLM", further=("attn_q.bias", "attn_k.bias", "attn_v.bias")),
    "qwen3": LayoutOfGguf("Qwen3ForCausalLM", further=("attn_q_norm.weight", "attn_k_norm.weight")),
}
"""GGUF architecture -> what it becomes."""


@dataclass(frozen=True)
class Llama:
    """The hyperparameters that a GGUF of a llama or of a relative declares."""

    kind: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    context: int
    vocab: int
    rope_theta: float
    rms_eps: float
    head_dim: int


def convert(source: Path, out: Path, progress: ConvertProgress = lambda done, of: None) -> None:
    """Writes config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
    chat_template.jinja into the existing folder `out`. InputError when it is of no kind that is known here."""
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
    arch = str(facts.need("general.architecture"))
    if arch not in KINDS:
        raise InputError(
            f"the GGUF architecture {arch!r:.60} is not converted here; {', '.join(KINDS)} are.",
            "Use safetensors of it (hf://org/name).",
        )
    heads, hidden = (
        int(facts.need(f"{arch}.attention.head_count")),
        int(facts.need(f"{arch}.embedding_length")),
    )
    llama = Llama(
        kind=arch, layers=int(facts.need(f"{arch}.block_count")), hidden=hidden,
        intermediate=int(facts.need(f"{arch}.feed_forward_length")), heads=heads,
        kv_heads=int(facts.get(f"{arch}.attention.head_count_kv", heads)),
        context=int(facts.need(f"{arch}.context_length")), vocab=len(facts.need("tokenizer.ggml.tokens")),
        rope_theta=float(facts.get(f"{arch}.rope.freq_base", 10000.0)),
        rms_eps=float(facts.need(f"{arch}.attention.layer_norm_rms_epsilon")),
        head_dim=int(facts.get(f"{arch}.attention.key_length", hidden // heads)),
    )  # fmt: skip
    if facts.get(f"{arch}.rope.scaling.type") not in (None, "none"):
        raise InputError(
            "this GGUF scales its rotary embedding, which is not converted here.", "Use safetensors."
        )
    return llama


def _config(llama: Llama, facts: _Facts, tied: bool) -> dict[str, Any]:
    own: dict[str, Any] = {"mlp_bias": False} if llama.kind == "llama" else {"use_sliding_window": False}
    if llama.kind != "qwen2":  # whose query, key and value always have a bias
        own["attention_bias"] = False
    return {
        "architectures": [KINDS[llama.kind].name], "model_type": llama.kind, "torch_dtype": "bfloat16",
        **own, "attention_dropout": 0.0, "hidden_act": "silu",
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
            if not bool(
                (tensor.data == 1.0).all()
            ):  # Llama 3.1's scaling, whose parameters are not in the file
                raise InputError(
                    f"{source.name} scales its rotary embedding, which is not converted here.",
                    "Use safetensors.",
                )
            continue
        parts = tensor.name.split(".")
        end = ".".join(parts[2:])
        usual = len(parts) == 4 and parts[2] in _PLAIN and parts[3] == "weight"
        if parts[0] != "blk" or not (usual or end in KINDS[llama.kind].further):
            raise InputError(
                f"{source.name}: the tensor {tensor.name} is not one of a {llama.kind}.", "Use safetensors."
            )
        heads = (
            {"attn_q": llama.heads, "attn_k": llama.kv_heads}.get(parts[2])
            if KINDS[llama.kind].permuted
            else None
        )
        yield f"model.layers.{int(parts[1])}.{_BLOCK[parts[2]]}.{parts[3]}", tensor, heads


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
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    pre = facts.get("tokenizer.ggml.pre")
    if facts.need("tokenizer.ggml.model") != "gpt2" or pre not in ("smollm", "qwen2"):
        kind = f"{facts.get('tokenizer.ggml.model')}/{facts.get('tokenizer.ggml.pre')}"
        raise InputError(
            f"the GGUF tokenizer {kind} is not converted here.", "Use safetensors with a tokenizer.json."
        )
    tokens: list[str] = facts.need("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ", 1)) for m in facts.need("tokenizer.ggml.merges")]
    kinds: list[int] = facts.need("tokenizer.ggml.token_type")
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        words = pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    added = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _ADDED]
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in added])
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
