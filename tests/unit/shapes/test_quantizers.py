"""What quantizers write beside a model, as they are published, and how many bytes it comes to."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.config.plan_flags import PlanFlags, from_flags
from seawall.decide.plan import plan
from seawall.decide.plan.weights import weigh
from seawall.domain.model import Format, ModelConfig
from seawall.shapes.config import parse

LAGUNA = {
    "model_type": "laguna", "vocab_size": 100352, "hidden_size": 3072, "intermediate_size": 12288,
    "num_hidden_layers": 48, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
    "num_experts": 256, "num_experts_per_tok": 10, "moe_intermediate_size": 1024,
    "shared_expert_intermediate_size": 1024, "mlp_only_layers": [0], "gating": "per-head", "sliding_window": 512,
    "layer_types": (["full_attention"] + ["sliding_attention"] * 3) * 12, "tie_word_embeddings": False,
    "num_attention_heads_per_layer": [48, 72, 72, 72] * 12, "max_position_embeddings": 262144,
}  # fmt: skip
V4 = {
    "model_type": "deepseek_v4", "vocab_size": 129280, "hidden_size": 4096, "num_hidden_layers": 43,
    "num_attention_heads": 64, "num_key_value_heads": 1, "head_dim": 512, "q_lora_rank": 1024, "o_lora_rank": 1024,
    "o_groups": 8, "hc_mult": 4, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 6, "compress_ratios": [0, 0] + [4, 128] * 20 + [4], "sliding_window": 128,
    "index_head_dim": 128, "index_n_heads": 64, "max_position_embeddings": 1048576, "expert_dtype": "fp4",
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 131072,
}  # fmt: skip
R1 = {
    "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3, "max_position_embeddings": 163840,
}  # fmt: skip


def stored(config: dict[str, Any], quantization: dict[str, Any]) -> ModelConfig:
    return parse({**config, "quantization_config": quantization})


def formats(model: ModelConfig, layer: int, *parts: str) -> list[str]:
    q = model.quantization
    assert q is not None
    return [f.method if (f := q.format(part, layer)) else "plain" for part in parts]


def fp8_blocks(targets: list[str]) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    return {"format": "float-quantized", "targets": targets, "weights": weights}


def test_patterns_that_end_in_a_module_leave_just_that_module_alone() -> None:
    """Laguna S FP8: attention, shared expert and the first layer stay, experts and what they name not are fp8."""
    ignore = [
        "lm_head",
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.down_proj",
    ]
    ignore += [rf"re:.*\.self_attn\.{name}$" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "g_proj")]
    ignore += [r"re:.*\.mlp\.gate$"]
    ignore += [rf"re:.*\.mlp\.shared_expert\.{name}$" for name in ("gate_proj", "up_proj", "down_proj")]
    model = stored(LAGUNA, {
        "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ignore,
        "config_groups": {"group_0": fp8_blocks(["Linear"])}, "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    })  # fmt: skip
    assert formats(model, 0, "q", "mlp") == ["plain", "plain"]
    assert formats(model, 5, "q", "kv", "o", "shared", "experts") == ["plain"] * 4 + ["fp8"]
    assert model.cache_dtype == "fp8"


def test_groups_that_name_fused_modules_and_own_words_for_them() -> None:
    """DeepSeek V4 in NVFP4 and FP8: two groups, by patterns over vLLM's names; the config still says fp4 experts."""
    four = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"}
    model = stored(V4, {
        "quant_method": "compressed-tensors", "format": "mixed-precision", "ignore": [], "kv_cache_scheme": None,
        "config_groups": {
            "group_0": fp8_blocks([r"re:.*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$"]),
            "group_1": {"format": "nvfp4-pack-quantized", "weights": four,
                        "targets": [r"re:.*ffn.*(gate|up|down)_proj$"]},
        },
    })  # fmt: skip
    assert formats(model, 7, "q_a", "q_b", "kv_a", "o_a", "o") == ["fp8"] * 5
    assert formats(model, 7, "experts", "shared") == ["nvfp4", "nvfp4"]
    assert 150 < weigh(model).total / 2**30 < 165


def test_a_scheme_for_the_cache_is_followed_by_usual_attention_only() -> None:
    scheme = {
        "quant_method": "compressed-tensors", "config_groups": {"group_0": fp8_blocks(["Linear"])},
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    }  # fmt: skip
    assert stored(LLAMA, scheme).cache_dtype == "fp8"
    assert stored(R1, scheme).cache_dtype == "auto"
    assert stored(
        R1, {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    ).cache_dtype


def test_quark_stores_what_it_does_not_exclude() -> None:
    """AMD's MXFP4 of DeepSeek R1: experts in 4 bit, attention and head left alone."""
    model = stored(R1, {
        "quant_method": "quark", "exclude": ["lm_head", "re:.*self_attn.*", "*.mlp.gate"],
        "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
        "layer_quant_config": {}, "export": {"kv_cache_group": []},
    })  # fmt: skip
    assert formats(model, 10, "experts", "o", "q_b") == ["mxfp4", "plain", "plain"]
    assert 330 < weigh(model).total / 2**30 < 370


def test_quark_redoes_single_modules() -> None:
    model = stored(LLAMA, {
        "quant_method": "quark", "exclude": ["lm_head"], "export": {"kv_cache_group": ["*k_proj"]},
        "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
        "layer_quant_config": {"*down_proj": {"weight": {"dtype": "int8"}},
                               "*k_proj": {"weight": {"dtype": "fp8_e4m3"}, "output_tensors": {"dtype": "fp8_e4m3"}}},
    })  # fmt: skip
    assert formats(model, 3, "q", "kv") == ["fp8", "fp8"]
    assert model.cache_dtype == "auto"  # vLLM reads it for scales only


@pytest.mark.parametrize(
    ("kind", "method", "bits"),
    [
        ({"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}, "awq", 4),
        ({"default": {"_type": "Float8DynamicActivationFloat8WeightConfig"}}, "fp8", 8),
        (
            {"default": {"_type": "Int8DynamicActivationInt4WeightConfig", "_data": {"group_size": 32}}},
            "awq",
            4,
        ),
        ({"default": {"_type": "Int8WeightOnlyConfig"}}, "int8", 8),
    ],
)
def test_torchao_is_read_from_the_name_of_its_class(kind: dict[str, Any], method: str, bits: int) -> None:
    q = stored(LLAMA, {"quant_method": "torchao", "quant_type": kind}).quantization
    assert q is not None
    assert q.format("mlp", 3) == Format(method, bits, q.group)
    assert q.format("head") is None


def test_a_method_that_nobody_knows_is_a_guess_and_never_refused() -> None:
    for name in ("bitnet", "vptq", "new_thing"):
        model = stored(LLAMA, {"quant_method": name})
        assert model.quantization is not None and model.quantization.guessed == name
        fleet, _ = from_flags(PlanFlags(model_config="Qwen/Qwen3-8B", gpu="L40S", tensor_parallel=1))
        made = plan(fleet, model, shorten=False)
        assert made.verdict == "unknown" and name in made.reason
    assert stored(LLAMA, {"quant_method": "compressed-tensors"}).quantization.guessed == ""  # type: ignore[union-attr]


LARGE_3 = {
    "dim": 7168, "n_layers": 61, "hidden_dim": 16384, "n_heads": 128, "n_kv_heads": 128, "head_dim": 128,
    "vocab_size": 131072, "norm_eps": 1e-6, "rope_theta": 10000.0, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "tied_embeddings": False,
    "yarn": {"original_max_position_embeddings": 8192, "factor": 36, "apply_scale": False, "beta": 32, "alpha": 1},
    "llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1},
    "moe": {"expert_parallel": 1, "expert_model_parallel": 1, "route_every_n": 1, "first_k_dense_replace": 3,
            "num_experts": 128, "num_experts_per_tok": 4, "num_expert_groups": 1, "num_expert_groups_per_tok": 1,
            "routed_scale": 1.0, "expert_hidden_dim": 4096, "num_shared_experts": 1},
    "max_position_embeddings": 294912,
    "vision_encoder": {"image_size": 1540, "patch_size": 14, "hidden_size": 1664, "intermediate_size": 8192,
                       "num_hidden_layers": 48, "num_attention_heads": 16, "spatial_merge_size": 2},
    "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
}  # fmt: skip


def test_mistrals_own_file_is_read_where_there_is_no_config() -> None:
    """Mistral Large 3: 675 billion parameters, 41 of them active, in fp8, with an encoder of 2.5 billion."""
    model = parse(LARGE_3, "Mistral-Large-3")
    weights = weigh(model)
    assert weights.parameters / 1e9 == pytest.approx(675, rel=0.02)
    assert weights.active_parameters / 1e9 == pytest.approx(41, rel=0.06)
    assert model.latent is not None and model.multimodal and model.known
    assert formats(model, 5, "experts", "q_b") == ["fp8", "fp8"]
    assert model.max_position == 294912


def test_windows_of_mistrals_own_file_repeat_over_the_layers() -> None:
    small = {k: v for k, v in LARGE_3.items() if k in ("vocab_size", "norm_eps", "head_dim")}
    ministral = {
        **small, "dim": 4096, "n_layers": 36, "hidden_dim": 12288, "n_heads": 32, "n_kv_heads": 8,
        "sliding_window": [None, 32768, 32768, 32768],
    }  # fmt: skip
    kinds = [layer.kind for layer in parse(ministral).layers]
    assert kinds == ["full", "sliding", "sliding", "sliding"] * 9
