"""Parameters that stand beside the decoder layers: hashed embeddings, positions, adapters. Only translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seawall.domain.model import Layer
from seawall.shapes.families import ENCODERS
from seawall.shapes.getter import first


def hashed_embeddings(text: Mapping[str, Any], hidden: int) -> int:
    """Embeddings of hashed n-grams: LongCat's share the width of the hidden state, Qwen 4's stand in some layers."""
    ratio = first(text, "ngram_vocab_size_ratio")
    if ratio:
        return ratio * first(text, "vocab_size") * hidden
    layers, rows = text.get("ple_layer_ids"), first(text, "ngram_vocab_size_base")
    if not isinstance(layers, list) or not rows:
        return 0
    return len(layers[:2048]) * rows * (first(text, "ple_embed_dim") or hidden)


def beside_layers(text: Mapping[str, Any], hidden: int) -> int:
    """Positions of encoders, and the whole encoder of a Whisper with what its decoder reads it by."""
    kind = str(text.get("model_type"))
    if kind in ENCODERS and str(text.get("position_embedding_type", "absolute")) == "absolute":
        rows = first(text, "max_position_embeddings") if kind in ("bert", "roberta", "xlm-roberta") else 0
        return (rows + first(text, "type_vocab_size")) * hidden
    if kind != "whisper":
        return 0
    encoder = first(text, "encoder_layers") * (4 * hidden + 2 * first(text, "encoder_ffn_dim")) * hidden
    reading = first(text, "decoder_layers") * 4 * hidden * hidden
    convolutions = 3 * hidden * (first(text, "num_mel_bins") + hidden)
    places = first(text, "max_source_positions") + first(text, "max_target_positions")
    return encoder + reading + convolutions + places * hidden


def adapters_inside(raw: Mapping[str, Any], layers: Sequence[Layer], hidden: int) -> int:
    """LoRA adapters that a checkpoint carries (Phi-4-multimodal): vLLM loads them as adapters, not with the model."""
    thin = 0
    for layer in layers:
        heads = layer.heads * layer.head_dim
        thin += hidden + heads + 2 * layer.kv_heads * layer.head_dim + heads + hidden
        thin += hidden + 2 * layer.intermediate + layer.intermediate + hidden
    return sum(
        first(own, "r") * thin
        for key in ("vision_lora", "speech_lora")
        if isinstance(own := raw.get(key), Mapping) and first(own, "r") <= 4096
    )
