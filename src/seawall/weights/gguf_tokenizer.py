"""The tokenizer of a GGUF file -> tokenizer.json, tokenizer_config.json and chat_template.jinja.

Two kinds: byte-level BPE (`gpt2`) with its merges, whose way of parting words is a name (`pre`) and no rule in the
file; and SentencePiece's BPE (`llama`), whose merges are told by the scores of its pieces. A `pre` that is not known
here is refused: a tokenizer that is nearly right gives wrong answers that nobody sees.
Sources: llama.cpp's llama-vocab.cpp (the pre-tokenizers), SentencePiece's BPE (the pair with the highest score first).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seawall.errors import InputError

OfMetadata = Callable[..., Any]
"""A value of the file's metadata by its key; `need=True`: InputError where it is missing."""

_NORMAL, _CONTROL, _ADDED = 1, 3, 4
"""gguf TokenType: ordinary pieces; special tokens such as <|im_end|>; whole words such as <tool_call>."""
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def _words(digits: str) -> str:
    """Contractions, words, numbers, punctuation, blanks: the rule of Llama 3, and of Qwen 2 with single digits."""
    return "|".join(
        (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+", rf"\p{{N}}{digits}",
         r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+")
    )  # fmt: skip


WORDS = {"qwen2": _words(""), "llama-bpe": _words("{1,3}"), "dbrx": _words("{1,3}")}
"""Byte-level pre-tokenizers that part words by a pattern; `smollm` parts digits alone."""


def write_tokenizer(facts: OfMetadata, context: int, out: Path) -> None:
    """Writes the three files into `out`. InputError for a tokenizer that is not known here."""
    from tokenizers import AddedToken

    model, pre = facts("tokenizer.ggml.model", need=True), facts("tokenizer.ggml.pre")
    tokens: list[str] = facts("tokenizer.ggml.tokens", need=True)
    kinds: list[int] = facts("tokenizer.ggml.token_type", need=True)
    bos = int(facts("tokenizer.ggml.bos_token_id", 1))
    eos = int(facts("tokenizer.ggml.eos_token_id", need=True))
    if model == "gpt2" and pre in ("smollm", *WORDS):
        tokenizer = _byte_level(tokens, facts("tokenizer.ggml.merges", need=True), pre)
        begins = pre in ("llama-bpe", "dbrx") and facts("tokenizer.ggml.add_bos_token", False)
    elif model == "llama":
        prefix = bool(facts("tokenizer.ggml.add_space_prefix", True))
        tokenizer = _pieces(tokens, kinds, facts("tokenizer.ggml.scores", need=True), prefix)
        begins = facts("tokenizer.ggml.add_bos_token", True)
    else:
        raise InputError(
            f"the GGUF tokenizer {model}/{pre} is not converted here.",
            "Use safetensors with a tokenizer.json.",
        )
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    added = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _ADDED]
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in added])
    if begins:
        from tokenizers.processors import TemplateProcessing

        first = tokens[bos]
        tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first}:1 $B:1", special_tokens=[(first, bos)]
        )
    tokenizer.save(str(out / "tokenizer.json"))
    if template := facts("tokenizer.chat_template"):
        (out / "chat_template.jinja").write_text(template, "utf-8")
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context,
        "bos_token": tokens[bos], "eos_token": tokens[eos],
        "pad_token": tokens[int(facts("tokenizer.ggml.padding_token_id", eos))],
        "unk_token": tokens[int(facts("tokenizer.ggml.unknown_token_id", 0))],
        "clean_up_tokenization_spaces": False, "add_prefix_space": False,
    }  # fmt: skip
    (out / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _byte_level(tokens: list[str], merges: list[str], pre: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(tokens)},
            merges=[(left, right) for left, _, right in (m.partition(" ") for m in merges)],
            ignore_merges=pre == "llama-bpe",
        )
    )
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if pre in WORDS:
        words = pre_tokenizers.Split(Regex(WORDS[pre]), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_only])
    else:
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces(tokens: list[str], kinds: list[int], scores: list[float], prefix: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocab = {t: i for i, t in enumerate(tokens)}
    ordered = sorted(_pairs(tokens, kinds, scores))
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab, merges=[(tokens[a], tokens[b]) for _, a, b in ordered],
            unk_token=next((t for t, k in zip(tokens, kinds, strict=True) if k == 2), None),
            fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefix else spaces
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


def _pairs(tokens: list[str], kinds: list[int], scores: list[float]) -> Iterator[tuple[float, int, int]]:
    """(minus the whole piece's score, left, right) of each way to part a piece into two pieces."""
    ordinary = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == _NORMAL}
    for whole, i in ordinary.items():
        for at in range(1, len(whole)):
            left, right = ordinary.get(whole[:at]), ordinary.get(whole[at:])
            if left is not None and right is not None:
                yield -float(scores[i]), left, right
