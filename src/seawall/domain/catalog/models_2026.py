"""Shapes of the large open models of 2026, so that planning them needs no network. Hugging Face config.json keys.

From the models' published config.json files. Only what the planner reads is kept; `models.py` looks names up.
"""

from __future__ import annotations

from typing import Any

ConfigJson = dict[str, Any]

_FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
_BF16: ConfigJson = {"torch_dtype": "bfloat16", "tie_word_embeddings": False}


def _qwen35(layers: int, hidden: int, heads: int, kv: int, v_heads: int, **more: Any) -> ConfigJson:
    """Qwen 3.5: three Gated DeltaNet layers, then one of full attention with a gate; it sees."""
    text = {
        "model_type": "qwen3_5_moe_text" if "num_experts" in more else "qwen3_5_text", "num_hidden_layers": layers,
        "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": 256,
        "vocab_size": 248320, "max_position_embeddings": 262144, "full_attention_interval": 4,
        "attn_output_gate": True, "linear_num_key_heads": 16, "linear_num_value_heads": v_heads,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
        "mamba_ssm_dtype": "float32", "mtp_num_hidden_layers": 1, **_BF16, **more,
        "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25, "mrope_section": [11, 11, 10]},
    }  # fmt: skip
    outer = "qwen3_5_moe" if "num_experts" in more else "qwen3_5"
    return {"model_type": outer, "text_config": text, "vision_config": _sight(1152, 27, hidden, ())}


def _sight(hidden: int, depth: int, out: int, taps: tuple[int, ...]) -> ConfigJson:
    """The vision encoder of Qwen3-VL and Qwen 3.5."""
    return {
        "model_type": "qwen3_vl", "hidden_size": hidden, "depth": depth, "out_hidden_size": out,
        "intermediate_size": 4096 if hidden == 1024 else 4304, "num_position_embeddings": 2304, "patch_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": list(taps),
    }  # fmt: skip


def _qwen3_vl(
    layers: int, hidden: int, heads: int, kv: int, inner: int, small: bool, **more: Any
) -> ConfigJson:
    kind = "qwen3_vl_moe" if "num_experts" in more else "qwen3_vl"
    tied = small and hidden < 4096
    text = {
        "model_type": f"{kind}_text", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv, "head_dim": 128, "intermediate_size": inner, "vocab_size": 151936,
        "max_position_embeddings": 262144, "torch_dtype": "bfloat16", "tie_word_embeddings": tied, **more,
    }  # fmt: skip
    sight = _sight(1024, 24, hidden, (5, 11, 17)) if tied else _sight(1152, 27, hidden, (8, 16, 24))
    return {"model_type": kind, "text_config": text, "tie_word_embeddings": tied, "vision_config": sight}


def _glm5(context: int, **more: Any) -> ConfigJson:
    return {
        "model_type": "glm_moe_dsa", "num_hidden_layers": 78, "hidden_size": 6144, "num_attention_heads": 64,
        "num_key_value_heads": 64, "intermediate_size": 12288, "moe_intermediate_size": 2048, "n_routed_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "kv_lora_rank": 512,
        "q_lora_rank": 2048, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
        "index_head_dim": 128, "index_n_heads": 32, "index_topk": 2048, "vocab_size": 154880,
        "max_position_embeddings": context, "num_nextn_predict_layers": 1, **_BF16, **more,
    }  # fmt: skip


def _deepseek_v4(
    layers: int, hidden: int, heads: int, inner: int, experts: int, rank: int, first: list[int]
) -> ConfigJson:
    ratios = first + [4, 128] * layers
    return {
        "model_type": "deepseek_v4", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": 1, "head_dim": 512, "moe_intermediate_size": inner, "n_routed_experts": experts,
        "n_shared_experts": 1, "num_experts_per_tok": 6, "q_lora_rank": rank, "o_lora_rank": 1024,
        "o_groups": heads // 8, "qk_rope_head_dim": 64, "index_head_dim": 128, "index_n_heads": 64, "hc_mult": 4,
        "sliding_window": 128, "vocab_size": 129280, "max_position_embeddings": 1048576, "expert_dtype": "fp4",
        "compress_ratios": [*ratios[:layers], 0], "num_nextn_predict_layers": 1, **_BF16, **_FP8,
    }  # fmt: skip


def _nemotron(
    pattern: str, hidden: int, inner: int, heads: int, states: int, context: int, **more: Any
) -> ConfigJson:
    """Nemotron 3: Mamba 2 (M), attention (*) and mixtures of two-matrix experts (E) are layers of their own."""
    return {
        "model_type": "nemotron_h", "hybrid_override_pattern": pattern, "num_hidden_layers": len(pattern),
        "hidden_size": hidden, "intermediate_size": inner, "moe_intermediate_size": inner,
        "moe_shared_expert_intermediate_size": 2 * inner, "n_shared_experts": 1, "num_attention_heads": heads,
        "num_key_value_heads": 2, "head_dim": 128, "mamba_num_heads": states, "mamba_head_dim": 64, "n_groups": 8,
        "ssm_state_size": 128, "conv_kernel": 4, "expand": 2, "mamba_ssm_cache_dtype": "float32", "vocab_size": 131072,
        "mlp_hidden_act": "relu2", "max_position_embeddings": context, **_BF16, **more,
    }  # fmt: skip


def _minimax_m2(**more: Any) -> ConfigJson:
    return {
        "model_type": "minimax_m2", "num_hidden_layers": 62, "hidden_size": 3072, "num_attention_heads": 48,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 1536, "num_local_experts": 256,
        "num_experts_per_tok": 8, "vocab_size": 200064, "max_position_embeddings": 196608, "rotary_dim": 64,
        **_BF16, **_FP8, **more,
    }  # fmt: skip


_KIMI_FULL = [*range(4, 93, 4), 93]
_MINIMAX_M3: ConfigJson = {
    "model_type": "minimax_m3", "num_hidden_layers": 60, "hidden_size": 6144, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 3072, "dense_intermediate_size": 12288,
    "moe_intermediate_size": 3072, "first_k_dense_replace": 3, "num_local_experts": 128, "n_shared_experts": 1,
    "num_experts_per_tok": 4, "moe_layer_freq": [0] * 3 + [1] * 57, "vocab_size": 200064,
    "max_position_embeddings": 1048576, "partial_rotary_factor": 0.5, "num_nextn_predict_layers": 1, **_BF16,
    "sparse_attention_config": {
        "use_sparse_attention": True, "sparse_index_dim": 128, "sparse_num_index_heads": 4,
        "sparse_attention_freq": [0] * 3 + [1] * 57,
    },
}  # fmt: skip
_KIMI_K3: ConfigJson = {
    "model_type": "kimi_k3",
    "text_config": {
        "model_type": "kimi_linear", "num_hidden_layers": 93, "hidden_size": 7168, "num_attention_heads": 96,
        "num_key_value_heads": 96, "intermediate_size": 33792, "moe_intermediate_size": 3072, "num_experts": 896,
        "num_shared_experts": 2, "num_experts_per_token": 16, "first_k_dense_replace": 1, "kv_lora_rank": 512,
        "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "mla_use_output_gate": True, "routed_expert_hidden_size": 3584, "vocab_size": 163840,
        "max_position_embeddings": 1048576, **_BF16,
        "linear_attn_config": {
            "full_attn_layers": _KIMI_FULL, "head_dim": 128, "num_heads": 96, "short_conv_kernel_size": 4,
            "use_full_rank_gate": True,
        },
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float"}}},
            "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"],
        },
    },
    "vision_config": {"vt_hidden_size": 1024, "vt_intermediate_size": 4096, "vt_num_hidden_layers": 27},
}  # fmt: skip
_MIMO: ConfigJson = {
    "model_type": "mimo_v2_flash", "num_hidden_layers": 48, "hidden_size": 4096, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128, "sliding_window": 128,
    "intermediate_size": 16384, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "hybrid_layer_pattern": [0, 1, 1, 1, 1] + [0, 1, 1, 1, 1, 1] * 7 + [0],
    "moe_layer_freq": [0] + [1] * 47, "vocab_size": 152576, "max_position_embeddings": 262144, **_BF16, **_FP8,
}  # fmt: skip
_STEP: ConfigJson = {
    "model_type": "step3p7", "num_hidden_layers": 45, "hidden_size": 4096, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 11264, "sliding_window": 512,
    "layer_types": (["full_attention"] + ["sliding_attention"] * 3) * 11 + ["full_attention"],
    "first_k_dense_replace": 3, "num_experts": 288, "num_experts_per_tok": 8, "moe_intermediate_size": 1280,
    "share_expert_dim": 1280, "n_shared_experts": 1, "vocab_size": 128896, "max_position_embeddings": 65536,
    "num_nextn_predict_layers": 3, **_BF16,
}  # fmt: skip
_GEMMA4_MOE: ConfigJson = {
    "model_type": "gemma4", "tie_word_embeddings": True,
    "text_config": {
        "model_type": "gemma4_text", "num_hidden_layers": 30, "hidden_size": 2816, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 2,
        "intermediate_size": 2112, "enable_moe_block": True, "moe_intermediate_size": 704, "num_experts": 128,
        "top_k_experts": 8, "sliding_window": 1024, "attention_k_eq_v": True, "hidden_size_per_layer_input": 0,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5, "vocab_size": 262144,
        "max_position_embeddings": 262144, "torch_dtype": "bfloat16", "tie_word_embeddings": True,
    },
    "vision_config": {
        "model_type": "gemma4_vision", "hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304,
        "patch_size": 16, "position_embedding_size": 10240,
    },
}  # fmt: skip
_MOE30 = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
_MOE235 = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536}
_GLM52_INDEX = ["full"] * 3 + (["shared"] * 3 + ["full"]) * 18 + ["shared"] * 3
_NANO = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
_SUPER = "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
_ULTRA = "MEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
_NANO_MOE = {"n_routed_experts": 128, "num_experts_per_tok": 6}
_LARGE_MOE = {"n_routed_experts": 512, "num_experts_per_tok": 22, "num_nextn_predict_layers": 1}

CONFIGS_2026: dict[str, ConfigJson] = {
    "Qwen/Qwen3.5-9B": _qwen35(32, 4096, 16, 4, 32, intermediate_size=12288),
    "Qwen/Qwen3.5-122B-A10B": _qwen35(
        48, 3072, 32, 2, 64, num_experts=256, num_experts_per_tok=8, moe_intermediate_size=1024,
        shared_expert_intermediate_size=1024,
    ),
    "Qwen/Qwen3.5-397B-A17B": _qwen35(
        60, 4096, 32, 2, 64, num_experts=512, num_experts_per_tok=10, moe_intermediate_size=1024,
        shared_expert_intermediate_size=1024,
    ),
    "Qwen/Qwen3-VL-2B": _qwen3_vl(28, 2048, 16, 8, 6144, True),
    "Qwen/Qwen3-VL-4B": _qwen3_vl(36, 2560, 32, 8, 9728, True),
    "Qwen/Qwen3-VL-8B": _qwen3_vl(36, 4096, 32, 8, 12288, False),
    "Qwen/Qwen3-VL-32B": _qwen3_vl(64, 5120, 64, 8, 25600, False),
    "Qwen/Qwen3-VL-30B-A3B": _qwen3_vl(48, 2048, 32, 4, 6144, False, **_MOE30),
    "Qwen/Qwen3-VL-235B-A22B": _qwen3_vl(94, 4096, 64, 4, 12288, False, **_MOE235),
    "Qwen/Qwen3-Coder-480B-A35B": {
        "model_type": "qwen3_moe", "num_hidden_layers": 62, "hidden_size": 6144, "num_attention_heads": 96,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "moe_intermediate_size": 2560,
        "num_experts": 160, "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 262144, **_BF16,
    },
    "deepseek-ai/DeepSeek-V4-Flash": _deepseek_v4(43, 4096, 64, 2048, 256, 1024, [0, 0]),
    "deepseek-ai/DeepSeek-V4-Pro": _deepseek_v4(61, 7168, 128, 3072, 384, 1536, [128, 128]),
    "zai-org/GLM-5": _glm5(202752),
    "zai-org/GLM-5.1": _glm5(202752),
    "zai-org/GLM-5.2": _glm5(1048576, indexer_types=_GLM52_INDEX),
    "MiniMaxAI/MiniMax-M2": _minimax_m2(),
    "MiniMaxAI/MiniMax-M2.5": _minimax_m2(),
    "MiniMaxAI/MiniMax-M2.7": _minimax_m2(),
    "MiniMaxAI/MiniMax-M3": _MINIMAX_M3,
    "moonshotai/Kimi-K3": _KIMI_K3,
    "XiaomiMiMo/MiMo-V2-Flash": _MIMO,
    "stepfun-ai/Step-3.7-Flash": _STEP,
    "google/gemma-4-26B-A4B": _GEMMA4_MOE,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B": _nemotron(_NANO, 2688, 1856, 32, 64, 262144, **_NANO_MOE),
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B": _nemotron(
        _SUPER, 4096, 2688, 32, 128, 262144, moe_latent_size=1024, **_LARGE_MOE
    ),
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B": _nemotron(
        _ULTRA, 8192, 5120, 64, 256, 262144, moe_latent_size=2048, **_LARGE_MOE
    ),
}  # fmt: skip
