"""config.json of any shape -> `ModelConfig`. Only translation: nothing here plans, reads files or talks.

Hugging Face names the same thing in many ways; the spellings are listed where they are read. What a
config does not say is taken from the architecture's own defaults, or, for an architecture that is not
known, from the general transformer formula, and then `known` is False and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seawall.decide.plan.weights import weigh
from seawall.domain.model import ModelConfig
from seawall.errors import InputError
from seawall.shapes.defaults import defaults_of
from seawall.shapes.embeddings import adapters_inside, beside_layers, hashed_embeddings
from seawall.shapes.experts import compressed_of, experts_of, indexer_of, latent_of, layer_count
from seawall.shapes.families import CACHE_ONLY_READ, ENCODERS, KNOWN, MULTIMODAL, TIED_BY_DEFAULT, UNGATED
from seawall.shapes.getter import Getter
from seawall.shapes.layers import layers_of
from seawall.shapes.quantization import quantization_of
from seawall.shapes.recurrent import recurrent_of
from seawall.shapes.rope import max_position, reach, rope_elements
from seawall.shapes.vision import extra_parameters, tower_of

_NESTED = ("text_config", "llm_config", "language_config", "text_model_config")
_UNDERSTOOD = (
    *_NESTED, "vision_config", "audio_config", "encoder_config", "vision_tower_config", "projector_config",
    "quantization_config", "compression_config", "generation_config", "thinker_config", "linear_attn_config",
    "sparse_attention_config", "talker_config", "token2wav_config", "code2wav_config", "sub_configs",
)  # fmt: skip
"""Mappings of a config that are read, or that stand for parts which vLLM does not load."""
_MAX_LAYERS = 2048


_GENERAL = "planned with the general transformer formula"


def parse_config(
    raw: Mapping[str, Any],
    name: str = "",
    checkpoint_bytes: int | None = None,
    known_parameters: int = 0,
    beside: Mapping[str, Any] | None = None,
) -> ModelConfig:
    """A config.json (already decoded) -> ModelConfig.

    `checkpoint_bytes` is the safetensors index's `metadata.total_size`; `known_parameters` the published
    parameter count, used to size towers that the config does not describe; `beside` the hf_quant_config.json.
    Raises InputError when the config lacks what every transformer needs (layers, hidden size, heads).
    """
    if not isinstance(raw, Mapping):
        raise InputError("config.json is not a JSON object.", "Pass the model's own config.json.")
    given = text_part(raw)
    nested = given is not raw
    text = _filled(given, str(given.get("model_type") or raw.get("model_type") or ""), nested)
    get = Getter(text)
    model_type = str(text.get("model_type") or raw.get("model_type") or "unknown")
    outer_type = str(raw.get("model_type") or model_type)
    towers = any(k in raw for k in ("vision_config", "audio_config", "vision_tower", "encoder_config"))
    multimodal = nested or towers or outer_type in MULTIMODAL
    hidden = get.need("hidden_size", "n_embd", "d_model", "dim", "model_dim")
    count = layer_count(text)
    if not 0 < count <= _MAX_LAYERS:
        raise InputError(f"config.json: num_hidden_layers {count} is not between 1 and {_MAX_LAYERS}.")
    notes = _unknown(raw, model_type, outer_type)
    known = not notes
    gated = _gated(text, model_type)
    experts = experts_of(text, gated)
    latent = latent_of(text)
    recurrent = recurrent_of(text, hidden)
    layers = layers_of(text, model_type, count, hidden, experts is not None, latent, notes)
    quantization, cache = quantization_of(raw, text, count, model_type, beside)
    if any(layer.kind == "recurrent" or layer.state for layer in layers) and recurrent is None:
        notes.append("recurrent layers without sizes in the config: their state is counted as zero")
    outside = (extra_parameters(raw, text, hidden) if multimodal else 0) + beside_layers(text, hidden)
    if {model_type, outer_type} & ENCODERS:
        notes.append("an encoder keeps no KV cache: what is said of the cache means nothing here")
    stored = _dtype(raw, text)
    config = ModelConfig(
        name=name or str(raw.get("_name_or_path") or outer_type),
        architecture=outer_type,
        known=known,
        cache_compared=not {model_type, outer_type} & CACHE_ONLY_READ,
        layers=layers,
        hidden=hidden,
        vocab=get.integer(0, "vocab_size", "padded_vocab_size", "n_vocab") or 32000,
        tied=_tied(raw, text, {model_type, outer_type}),
        max_position=max_position(text),
        reach=reach(given),
        dtype="float16" if stored == "float16" else "bfloat16",  # vLLM loads 32 bit checkpoints in 16 bit
        gated_mlp=gated,
        query_rank=get.integer(0, "share_q_dim"),
        gated_attention=_gated_attention(text, model_type),
        experts=experts,
        latent=latent,
        indexer=indexer_of(text),
        compressed=compressed_of(text),
        recurrent=recurrent,
        quantization=quantization,
        cache_dtype=cache,
        multimodal=multimodal,
        extra_parameters=outside,
        layer_embeddings=_per_layer_embedding(text, count) + hashed_embeddings(text, hidden),
        adapter_parameters=adapters_inside(raw, layers, hidden),
        rope_elements=rope_elements(text),
        tower=tower_of(raw, outer_type),
        draft_layers=min(64, get.integer(0, "num_nextn_predict_layers", "mtp_num_hidden_layers")),
        checkpoint_bytes=checkpoint_bytes and checkpoint_bytes // (2 if stored == "float32" else 1),
        notes=tuple(notes),
    )
    return _with_tower(config, known_parameters)


def _unknown(raw: Mapping[str, Any], model_type: str, outer_type: str) -> list[str]:
    """Why the general formula is used, if it is: the language model has no rule, or something beside it has none."""
    if outer_type in KNOWN:
        return []
    if model_type not in KNOWN:
        return [f"architecture {outer_type!r} is not known here: {_GENERAL}"]
    strange = [
        key
        for key, value in raw.items()
        if key.endswith("_config") and isinstance(value, Mapping) and value and key not in _UNDERSTOOD
    ]
    return [
        f"the {key} of {outer_type!r} is not known here: its parameters are not counted" for key in strange
    ]


def _gated_attention(text: Mapping[str, Any], model_type: str) -> bool:
    """Whether a gate as wide as the queries stands beside them; one per head (Laguna, Step 3.7) weighs nothing."""
    always = model_type.startswith(
        ("qwen3_next", "qwen3_5", "qwen4_exp", "afmoe", "muse_glimmer", "hrm_text")
    )
    return text.get("attn_output_gate", always) is True or text.get("gating") == "per-element"


def _with_tower(config: ModelConfig, known_parameters: int) -> ModelConfig:
    """The model with a tower that only the published count shows: what it has more, up to 30% of it."""
    missing = known_parameters - weigh(config).parameters
    if 0 < missing < 0.3 * known_parameters:
        return replace(config, extra_parameters=config.extra_parameters + missing)
    return config


def text_part(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a config; multimodal ones nest it, some under a `thinker_config`."""
    for key in _NESTED:
        nested = raw.get(key)
        if isinstance(nested, Mapping) and nested:
            filled = {k: v for k, v in raw.items() if not isinstance(v, Mapping) and k != "model_type"}
            return {**filled, **nested}
    thinker = raw.get("thinker_config")
    if isinstance(thinker, Mapping):
        return text_part(thinker)
    return raw


def _filled(text: Mapping[str, Any], model_type: str, nested: bool) -> Mapping[str, Any]:
    """The config with transformers' defaults filled in. A whole one (nothing nested) without a size is refused."""
    defaults = defaults_of(model_type)
    aliases = {
        "num_key_value_heads": ("num_kv_heads",),
        "hidden_size": ("n_embd",),
        "num_hidden_layers": ("n_layer",),
    }
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    out = {}
    for key, value in defaults.items():
        if key in text or any(a in text for a in aliases.get(key, ())):
            continue
        if key in sizes and not nested:
            continue
        out[key] = value
    return {**out, **text}


def _per_layer_embedding(text: Mapping[str, Any], count: int) -> int:
    """Gemma 3n and 4: a small embedding of every token for every layer."""
    get = Getter(text)
    width = get.integer(0, "hidden_size_per_layer_input")
    hidden = get.integer(0, "hidden_size")
    rows = get.integer(0, "vocab_size_per_layer_input")
    return (
        width * count * (rows + 3 * hidden) if width else 0
    )  # table, gate, projection back, model projection


def _tied(raw: Mapping[str, Any], text: Mapping[str, Any], types: set[str]) -> bool:
    """Whether the head is the embedding. Outer and inner config may disagree: transformers 5 writes a default into
    the outer one, and a checkpoint with a head of its own is loaded as such (vLLM: config/model.py)."""
    said = [
        value
        for source in (raw, raw.get("thinker_config"), text)
        for key in ("tie_word_embeddings", "tie_embedding")
        if isinstance(source, Mapping) and isinstance(value := source.get(key), bool)
    ]
    if types & ENCODERS:
        return True
    return all(said) if said else bool(types & TIED_BY_DEFAULT)


def _dtype(raw: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The checkpoint's dtype; empty when the config does not say."""
    for source in (raw, text):
        for key in ("dtype", "torch_dtype"):
            value = str(source.get(key) or "").removeprefix("torch.")
            if value in ("bfloat16", "float16", "float32"):
                return value
    return ""


def _gated(text: Mapping[str, Any], model_type: str) -> bool:
    """Whether the MLP has three matrices (gate, up, down) or two."""
    if model_type in UNGATED:
        return False
    if model_type in KNOWN:
        return True
    act = str(
        text.get("hidden_act") or text.get("activation_function") or text.get("hidden_activation") or "silu"
    )
    return not act.startswith(("relu", "gelu_new", "gelu_fast", "quick_gelu"))
