"""What transformers fills in when a config.json leaves a size out, by `model_type`. Data only.

Multimodal configs often nest a sparse text_config (Gemma 3 4B gives no attention heads, LLaVA's gives only
a name), and config.json keeps just what differs from the class's default. From transformers 5.23.
"""

from __future__ import annotations

from typing import Any

_NAMES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "sliding_window", "max_position_embeddings",
)  # fmt: skip
_N = None
_ROWS: dict[str, tuple[int | None, ...]] = {
    "llama": (4096, 32, 32, _N, _N, 11008, 32000, _N, 2048),
    "mistral": (4096, 32, 32, 8, _N, 14336, 32000, _N, 131072),
    "mixtral": (4096, 32, 32, 8, _N, 14336, 32000, _N, 131072),
    "qwen2": (4096, 32, 32, _N, _N, 22016, 151936, _N, 32768),
    "qwen2_moe": (2048, 24, 16, 16, _N, 5632, 151936, _N, 32768),
    "qwen2_vl": (8192, 80, 64, 8, _N, 29568, 152064, _N, 32768),
    "qwen2_5_vl": (8192, 80, 64, 8, _N, 29568, 152064, _N, 32768),
    "qwen3": (4096, 32, 32, _N, 128, 22016, 151936, _N, 32768),
    "qwen3_moe": (2048, 24, 32, 4, _N, 6144, 151936, _N, 32768),
    "qwen3_next": (2048, 48, 16, 2, 256, 5632, 151936, _N, 32768),
    "qwen3_5_text": (4096, 32, 16, 4, 256, 12288, 248320, _N, 32768),
    "qwen3_5_moe_text": (2048, 40, 16, 2, 256, 512, 248320, _N, 32768),
    "qwen3_vl_text": (4096, 32, 32, 32, 128, 22016, 151936, _N, 128000),
    "qwen3_vl_moe_text": (2048, 24, 16, 16, 128, 5632, 151936, _N, 128000),
    "gemma": (3072, 28, 16, 16, 256, 24576, 256000, _N, 8192),
    "gemma2": (2304, 26, 8, 4, 256, 9216, 256000, 4096, 8192),
    "gemma3_text": (2304, 26, 8, 4, 256, 9216, 262208, 4096, 131072),
    "gemma3n_text": (2048, 35, 8, 2, 256, 16384, 262400, 512, 32768),
    "gemma4_text": (2304, 30, 8, 4, 256, 9216, 262144, 512, 131072),
    "phi": (2048, 24, 32, 32, _N, 8192, 51200, _N, 2048),
    "phi3": (3072, 32, 32, _N, _N, 8192, 32064, _N, 4096),
    "phimoe": (4096, 32, 32, 8, _N, 6400, 32064, _N, 131072),
    "gpt_oss": (2880, 36, 64, 8, 64, 2880, 201088, 128, 131072),
    "deepseek_v3": (7168, 61, 128, 128, _N, 18432, 129280, _N, 4096),
    "glm4": (4096, 40, 32, 2, 128, 13696, 151552, _N, 131072),
    "glm4_moe": (4096, 46, 96, 8, 128, 10944, 151552, _N, 131072),
    "glm_moe_dsa": (6144, 78, 64, 64, _N, 12288, 154880, _N, 202752),
    "granite": (4096, 32, 32, _N, _N, 11008, 32000, _N, 2048),
    "cohere": (8192, 40, 64, _N, _N, 22528, 256000, _N, 8192),
    "cohere2": (8192, 40, 64, _N, _N, 22528, 256000, 4096, 8192),
    "smollm3": (2048, 36, 16, 4, _N, 11008, 128256, _N, 32768),
    "llama4_text": (5120, 48, 40, 8, 128, 8192, 202048, _N, 131072),
    "mistral4": (4096, 36, 32, 32, _N, 12288, 131072, _N, 1048576),
    "minimax_m2": (3072, 62, 48, 8, 128, 1536, 200064, _N, 196608),
    "mllama_text_model": (4096, 40, 32, 8, _N, 14336, 128256, _N, 131072),
    "nemotron_h": (4096, 52, 32, 8, 128, 21504, 131072, _N, 4096),
}
_MORE: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 128, "num_experts_per_tok": 4},
    "qwen2_moe": {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408,
                  "shared_expert_intermediate_size": 5632},
    "qwen3_moe": {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    "qwen3_vl_moe_text": {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408},
    "qwen3_next": {"partial_rotary_factor": 0.25,
                   "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512,
                   "shared_expert_intermediate_size": 512, "full_attention_interval": 4,
                   "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
                   "linear_value_head_dim": 128},
    "qwen3_5_text": {"partial_rotary_factor": 0.25,
                   "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
                     "linear_key_head_dim": 128, "linear_value_head_dim": 128},
    "qwen3_5_moe_text": {"partial_rotary_factor": 0.25,
                   "num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512,
                         "shared_expert_intermediate_size": 512, "full_attention_interval": 4,
                         "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
                         "linear_value_head_dim": 128},
    "llama4_text": {"num_local_experts": 16, "num_experts_per_tok": 1, "intermediate_size_mlp": 16384,
                    "attention_chunk_size": 8192},
    "gemma4_text": {"global_head_dim": 512, "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144},
    "gemma3n_text": {"hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144,
                     "num_kv_shared_layers": 15},
}  # fmt: skip
_TYPE_OF_OUTER = {
    "gemma3": "gemma3_text", "gemma3n": "gemma3n_text", "gemma4": "gemma4_text", "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text", "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text", "mistral3": "mistral", "mllama": "mllama_text_model", "llava": "llama",
    "llava_next": "llama", "paligemma": "gemma", "qwen2_5_vl_text": "qwen2_5_vl", "qwen2_vl_text": "qwen2_vl",
}  # fmt: skip


def text_type(model_type: str) -> str:
    """The language model's type behind a multimodal one's."""
    return _TYPE_OF_OUTER.get(model_type, model_type)


def defaults_of(model_type: str) -> dict[str, Any]:
    """Config keys that transformers fills in for this type; empty for one that is not in the table."""
    kind = text_type(model_type)
    row = _ROWS.get(kind, ())
    return {n: v for n, v in zip(_NAMES, row, strict=False) if v is not None} | _MORE.get(kind, {})
