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
from seawall.domain.model import Experts, Indexer, Latent, ModelConfig
from seawall.errors import InputError
from seawall.shapes.defaults import defaults_of
from seawall.shapes.layers import layers_of, recurrent_of
from seawall.shapes.quantization import quantization_of
from seawall.shapes.vision import extra_parameters

KNOWN = frozenset({
    "llama", "llama4", "llama4_text", "mistral", "mistral3", "mistral4", "ministral", "ministral3",
    "mixtral", "pixtral", "qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3",
    "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen3_5_text",
    "qwen3_5_moe_text", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "gemma",
    "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "phi", "phi3",
    "phi3small", "phimoe", "phi4mm", "phi4_multimodal", "gpt_oss", "kimi_linear", "deepseek_v2", "deepseek_v3",
    "deepseek_v32", "deepseek", "kimi_k2", "kimi_k25", "kimi_vl", "glm", "glm4", "glm4_moe",
    "glm4_moe_lite", "glm5", "glm_moe_dsa", "glm4v", "glm4v_moe", "granite", "granitemoe",
    "granitemoeshared", "granitemoehybrid", "llava", "llava_next", "llava_onevision", "cohere", "cohere2",
    "cohere2_vision", "falcon", "falcon_h1", "stablelm", "starcoder2", "olmo", "olmo2", "olmo3", "olmoe",
    "exaone", "exaone4", "minimax_m2", "minimax_text_01", "minimax", "internlm2", "internlm3", "baichuan",
    "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "opt", "mpt", "smollm3", "nemotron", "nemotron_h",
    "jamba", "bamba", "mamba", "mamba2", "zamba2", "hunyuan_v1_dense", "hunyuan_v1_moe", "ernie4_5",
    "ernie4_5_moe", "dots1", "seed_oss", "apertus", "lfm2", "lfm2_moe", "internvl_chat", "idefics3",
    "smolvlm", "mllama",
})  # fmt: skip
TIED_BY_DEFAULT = frozenset({
    "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gpt2",
    "gpt_bigcode", "cohere", "cohere2", "bloom", "falcon", "opt", "mpt", "smollm3", "starcoder2",
    "cohere2_vision",
})  # fmt: skip
UNGATED = frozenset({
    "phi", "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "opt", "mpt", "falcon", "starcoder2",
    "nemotron", "nemotron_h", "apertus",
})  # fmt: skip
MULTIMODAL = frozenset({
    "llama4", "mistral3", "pixtral", "gemma3", "gemma3n", "gemma4", "llava", "llava_next", "llava_onevision",
    "kimi_vl", "qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm4v_moe",
    "internvl_chat", "idefics3", "smolvlm", "mllama", "phi4mm", "phi4_multimodal", "kimi_k25", "cohere2_vision",
})  # fmt: skip
_NESTED = ("text_config", "llm_config", "language_config", "text_model_config")
_MAX_LAYERS = 2048


_GENERAL = "planned with the general transformer formula"


def parse_config(
    raw: Mapping[str, Any], name: str = "", checkpoint_bytes: int | None = None, known_parameters: int = 0
) -> ModelConfig:
    """A config.json (already decoded) -> ModelConfig.

    `checkpoint_bytes` is the safetensors index's `metadata.total_size`; `known_parameters` the published
    parameter count, used to size towers that the config does not describe. Raises InputError when the
    config lacks what every transformer needs (layers, hidden size, heads).
    """
    if not isinstance(raw, Mapping):
        raise InputError("config.json is not a JSON object.", "Pass the model's own config.json.")
    given = text_part(raw)
    nested = given is not raw
    text = _filled(given, str(given.get("model_type") or raw.get("model_type") or ""), nested)
    get = Getter(text)
    model_type = str(text.get("model_type") or raw.get("model_type") or "unknown")
    outer_type = str(raw.get("model_type") or model_type)
    towers = any(k in raw for k in ("vision_config", "audio_config", "vision_tower"))
    multimodal = nested or towers or outer_type in MULTIMODAL
    hidden = get.need("hidden_size", "n_embd", "d_model", "dim", "model_dim")
    count = get.need("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    if not 0 < count <= _MAX_LAYERS:
        raise InputError(f"config.json: num_hidden_layers {count} is not between 1 and {_MAX_LAYERS}.")
    known = model_type in KNOWN or outer_type in KNOWN
    notes = [] if known else [f"architecture {outer_type!r} is not known here: {_GENERAL}"]
    experts = experts_of(text)
    latent = latent_of(text)
    recurrent = recurrent_of(text, hidden)
    layers = layers_of(text, model_type, count, hidden, experts is not None, latent, notes)
    if any(layer.kind == "recurrent" for layer in layers) and recurrent is None:
        notes.append("recurrent layers without sizes in the config: their state is counted as zero")
    outside = extra_parameters(raw, text, hidden) if multimodal else 0
    stored = _dtype(raw, text)
    config = ModelConfig(
        name=name or str(raw.get("_name_or_path") or outer_type),
        architecture=outer_type,
        known=known,
        layers=layers,
        hidden=hidden,
        vocab=get.integer(0, "vocab_size", "padded_vocab_size", "n_vocab") or 32000,
        tied=_tied(raw, text, {model_type, outer_type}),
        max_position=max_position(text),
        reach=_reach(given),
        dtype="float16" if stored == "float16" else "bfloat16",  # vLLM loads 32 bit checkpoints in 16 bit
        gated_mlp=_gated(text, model_type),
        gated_attention=_gated_attention(text, model_type),
        experts=experts,
        latent=latent,
        indexer=_indexer(text),
        recurrent=recurrent,
        quantization=quantization_of(raw, text),
        multimodal=multimodal,
        extra_parameters=outside + _per_layer_embedding(text, count),
        rope_elements=rope_elements(text),
        draft_layers=get.integer(0, "num_nextn_predict_layers", "mtp_num_hidden_layers"),
        checkpoint_bytes=checkpoint_bytes and checkpoint_bytes // (2 if stored == "float32" else 1),
        notes=tuple(notes),
    )
    return _with_tower(config, known_parameters)


def _gated_attention(text: Mapping[str, Any], model_type: str) -> bool:
    return text.get("attn_output_gate", model_type.startswith(("qwen3_next", "qwen3_5"))) is True


def _with_tower(config: ModelConfig, known_parameters: int) -> ModelConfig:
    """What the published count has more is a tower that the config does not describe, up to 30% of it."""
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
    """What transformers would fill in. A whole config (no nested part) that lacks its very size is refused."""
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


class Getter:
    """Reads the first of several spellings; refuses what is not a sane number."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    def integer(self, default: int, *names: str) -> int:
        for name in names:
            value = self.data.get(name)
            if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
                value = max(value)
            if isinstance(value, bool) or value is None:
                continue
            if isinstance(value, (int, float)) and 0 <= value < 1e12:
                return int(value)
            raise InputError(f"config.json: {name} is {value!r:.60}, not a number of sane size.")
        return default

    def need(self, *names: str) -> int:
        value = self.integer(0, *names)
        if value <= 0:
            raise InputError(
                f"config.json: has no {names[0]} (nor {', '.join(names[1:])}).",
                "Pass the language model's own config.json; for a LoRA adapter pass its base model's.",
            )
        return value


def experts_of(text: Mapping[str, Any]) -> Experts | None:
    """The mixture of experts, under all the names it goes by."""
    get = Getter(text)
    count = get.integer(
        0, "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts", "n_experts"
    )
    if count <= 1:
        return None
    # Llama 4, Mixtral, GPT-OSS and MiniMax M2 give the expert's width as intermediate_size.
    width = get.integer(
        0, "moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size", "ffn_hidden_size"
    ) or get.need("intermediate_size", "ffn_dim")
    shared_count = get.integer(
        0, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"
    )
    shared = get.integer(
        0,
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "moe_shared_expert_intermediate_size",
    )
    if not shared and shared_count:
        shared = shared_count * width
    if not shared and str(text.get("model_type", "")).startswith("llama4"):
        shared = width
    per_token = get.integer(
        2,
        "num_experts_per_tok",
        "num_experts_per_token",
        "moe_topk",
        "moe_k",
        "top_k_experts",
        "num_selected_experts",
    )
    return Experts(count, per_token, width, shared)


def latent_of(text: Mapping[str, Any]) -> Latent | None:
    get = Getter(text)
    rank = get.integer(0, "kv_lora_rank")
    if not rank:
        return None
    return Latent(
        rank,
        get.integer(64, "qk_rope_head_dim"),
        get.integer(128, "qk_nope_head_dim"),
        get.integer(128, "v_head_dim"),
        get.integer(0, "q_lora_rank"),
    )


def max_position(text: Mapping[str, Any]) -> int:
    """The longest context as vLLM derives it: YaRN and Llama 3 scaling are already in the number (config/model.py)."""
    get = Getter(text)
    own = get.integer(
        0, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
        "max_sequence_length", "max_target_positions", "n_ctx",
    )  # fmt: skip
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if isinstance(scaling, Mapping) and "gemma3" not in str(text.get("model_type")):
        kind = str(scaling.get("rope_type") or scaling.get("type") or "")
        factor = scaling.get("factor")
        if isinstance(factor, (int, float)) and 1 <= factor <= 1e4 and kind in ("linear", "dynamic"):
            own = int(own * factor)
    return own


def rope_elements(text: Mapping[str, Any]) -> int:
    """Elements of the rotary cos/sin tables: one row per position that the scaling can reach, one table per kind."""
    get = Getter(text)
    positions = get.integer(0, "max_position_embeddings", "n_positions")
    heads = max(1, get.integer(1, "num_attention_heads", "n_head"))
    width = get.integer(0, "qk_rope_head_dim", "head_dim") or get.integer(0, "hidden_size", "n_embd") // heads
    share = text.get("partial_rotary_factor")
    if isinstance(share, (int, float)) and 0 < share <= 1:
        width = int(width * share)
    tables = _rope_tables(text)
    rows = [_rope_rows(scaling, positions) for scaling in tables]
    if len(tables) == 1 and text.get("rope_local_base_freq"):
        rows.append(positions)
    return width * sum(rows)


def _reach(given: Mapping[str, Any]) -> int:
    """The longest context that the config itself allows; 0 when only a class's default would say."""
    own = max_position(given)
    return max(own, *(_rope_rows(scaling, own) for scaling in _rope_tables(given))) if own else 0


def _rope_tables(text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One scaling for the model, or one per kind of layer (transformers 5)."""
    scalings = text.get("rope_scaling") or text.get("rope_parameters") or {}
    nested = [v for v in scalings.values() if isinstance(v, Mapping)] if isinstance(scalings, Mapping) else []
    return nested or [scalings if isinstance(scalings, Mapping) else {}]


def _rope_rows(scaling: Mapping[str, Any], positions: int) -> int:
    kind = str(scaling.get("rope_type") or scaling.get("type") or "")
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if not isinstance(factor, (int, float)) or not 1 <= factor <= 1e4:
        return positions
    if kind.startswith(("yarn", "deepseek_yarn")) and isinstance(original, int):
        return int(original * factor)
    return int(positions * factor) if kind in ("linear", "dynamic") else positions


def _per_layer_embedding(text: Mapping[str, Any], count: int) -> int:
    """Gemma 3n and 4: a small embedding of every token for every layer."""
    get = Getter(text)
    width = get.integer(0, "hidden_size_per_layer_input")
    hidden = get.integer(0, "hidden_size")
    rows = get.integer(0, "vocab_size_per_layer_input")
    return (
        width * count * (rows + 3 * hidden) if width else 0
    )  # table, gate, projection back, model projection


def _indexer(text: Mapping[str, Any]) -> Indexer | None:
    dim = Getter(text).integer(0, "index_head_dim")
    return Indexer(dim, Getter(text).integer(1, "index_n_heads")) if dim else None


def _tied(raw: Mapping[str, Any], text: Mapping[str, Any], types: set[str]) -> bool:
    for source in (text, raw):
        value = source.get("tie_word_embeddings")
        if isinstance(value, bool):
            return value
    return bool(types & TIED_BY_DEFAULT)


def _dtype(raw: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The checkpoint's dtype; empty when the config does not say."""
    for source in (raw, text):
        for key in ("dtype", "torch_dtype"):
            value = str(source.get(key) or "").removeprefix("torch.")
            if value in ("bfloat16", "float16", "float32"):
                return value
    return ""


def _gated(text: Mapping[str, Any], model_type: str) -> bool:
    """Three matrices (gate, up, down) or two."""
    if model_type in UNGATED:
        return False
    if model_type in KNOWN:
        return True
    act = str(
        text.get("hidden_act") or text.get("activation_function") or text.get("hidden_activation") or "silu"
    )
    return not act.startswith(("relu", "gelu_new", "gelu_fast"))
