"""config.json in the shapes that model authors really publish, and what is said of one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.config.load import parse_fleets
from seawall.decide.plan.weights import weigh
from seawall.domain.catalog.models import CONFIGS, find_config
from seawall.domain.model import ModelConfig
from seawall.errors import InputError
from seawall.shapes.config import parse, read_config, resolve
from seawall.shapes.quantization import quantization_named

DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "moe_layer_freq": 1, "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "qk_nope_head_dim": 128, "vocab_size": 129280, "max_position_embeddings": 163840,
    "num_nextn_predict_layers": 1, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}  # fmt: skip
GEMMA3_4B: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
                      "model_type": "siglip_vision_model", "num_hidden_layers": 27, "patch_size": 14},
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "head_dim": 64, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "num_local_experts": 32, "num_experts_per_tok": 4,
    "sliding_window": 128, "vocab_size": 201088, "max_position_embeddings": 131072, "tie_word_embeddings": False,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096},
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
}  # fmt: skip
LLAMA4: dict[str, Any] = {
    "model_type": "llama4", "torch_dtype": "bfloat16",
    "text_config": {
        "model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "vocab_size": 202048,
        "attention_chunk_size": 8192, "max_position_embeddings": 10485760, "tie_word_embeddings": False,
        "no_rope_layers": [1, 1, 1, 0] * 12,
    },
    "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 1408, "num_hidden_layers": 34,
                      "intermediate_size": 5632},
}  # fmt: skip
QWEN3_NEXT = {
    "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "vocab_size": 151936, "num_experts": 512,
    "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
    "full_attention_interval": 4, "decoder_sparse_step": 1, "mlp_only_layers": [], "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "linear_value_head_dim": 128, "max_position_embeddings": 262144, "tie_word_embeddings": False,
}  # fmt: skip


def kinds(model: ModelConfig) -> dict[str, int]:
    out: dict[str, int] = {}
    for layer in model.layers:
        out[layer.kind] = out.get(layer.kind, 0) + 1
    return out


@pytest.mark.parametrize(
    ("config", "billions", "layers"),
    [
        (DEEPSEEK, 671.03, {"full": 61}),
        (GEMMA3_4B, 4.30, {"sliding": 29, "full": 5}),
        (GPT_OSS, 20.91, {"sliding": 12, "full": 12}),
        (LLAMA4, 108.6, {"chunked": 36, "full": 12}),
        (QWEN3_NEXT, 79.7, {"recurrent": 36, "full": 12}),
    ],
    ids=["mla", "sparse-text-config", "mxfp4", "chunked", "hybrid"],
)
def test_published_configs_have_their_published_parameter_count(
    config: dict[str, Any], billions: float, layers: dict[str, int]
) -> None:
    model = parse(config)
    assert weigh(model).parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert kinds(model) == layers
    assert model.known and not model.notes


def test_context_is_as_vllm_derives_it() -> None:
    assert parse(DEEPSEEK).max_position == 163840  # yarn is already in the number
    assert parse(GEMMA3_4B).max_position == 131072  # from the class's default
    assert parse(GEMMA3_4B).reach == 0  # and a default is not a limit that the model states
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert parse({**CONFIGS["Qwen/Qwen2.5-7B"], "rope_scaling": yarn}).reach == 131072
    linear = {**CONFIGS["meta-llama/Llama-2-7b-hf"], "rope_scaling": {"type": "linear", "factor": 4.0}}
    assert parse(linear).max_position == 16384


def test_32_bit_checkpoints_are_loaded_in_16_bit_and_their_index_is_halved() -> None:
    config = {**CONFIGS["meta-llama/Llama-3.1-8B"], "torch_dtype": "float32"}
    model = parse(config, checkpoint_bytes=32_121_044_992)
    assert model.dtype == "bfloat16"
    assert weigh(model).total == pytest.approx(16_060_522_496, rel=1e-3)


def test_a_window_counts_only_where_vllm_uses_it() -> None:
    base = CONFIGS["Qwen/Qwen2.5-7B"]
    assert kinds(parse({**base, "sliding_window": 4096, "use_sliding_window": False})) == {"full": 28}
    mistral = {**CONFIGS["mistralai/Mistral-7B-v0.3"], "sliding_window": 4096}
    assert kinds(parse(mistral)) == {"sliding": 32}
    patterned = {
        **mistral,
        "num_hidden_layers": 28,
        "model_type": "exaone4",
        "sliding_window": 4096,
        "sliding_window_pattern": "LLLG",
    }
    assert kinds(parse(patterned)) == {"sliding": 21, "full": 7}


@pytest.mark.parametrize(
    ("config", "method", "bits", "attention"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", 4, True),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "gptq", 8, True),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", 4, True),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["*self_attn*"]}, "nvfp4", 4, False),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "fp8", 8, True),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, "gptq", 4, True),
        (
            {"quant_method": "compressed-tensors",
             "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}, "ignore": ["lm_head"]},
            "int8", 8, True,
        ),
        (
            {"quant_method": "compressed-tensors",
             "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}},
            "fp8", 8, True,
        ),
        (
            {"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*"],
             "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}}},
            "gptq", 4, False,
        ),
    ],
)  # fmt: skip
def test_quantization_configs(config: dict[str, Any], method: str, bits: int, attention: bool) -> None:
    q = parse({**CONFIGS["meta-llama/Llama-3.1-8B"], "quantization_config": config}).quantization
    assert q is not None
    assert (q.method, q.bits, q.attention) == (method, bits, attention)


@pytest.mark.parametrize(
    ("text", "method"),
    [("awq (awq_marlin)", "awq"), ("modelopt_fp4 (nvfp4)", "nvfp4"), ("gguf Q8_0", "gguf"), ("fp8 (online)", "fp8"),
     ("bitsandbytes 4-bit", "bitsandbytes"), ("auto_round int4", "gptq"), ("4-bit (awq/gptq)", "awq"),
     ("compressed-tensors", "int8"), ("mxfp4", "mxfp4"), ("awq/compressed-tensors int4", "awq")],
)  # fmt: skip
def test_quantizations_as_logs_write_them(text: str, method: str) -> None:
    found = quantization_named(text)
    assert found is not None and found.method == method


def test_an_unknown_architecture_is_planned_and_says_so() -> None:
    model = parse({**CONFIGS["Qwen/Qwen3-8B"], "model_type": "brand_new"})
    assert not model.known and "general transformer formula" in model.notes[0]
    assert weigh(model).parameters / 1e9 == pytest.approx(8.19, rel=0.01)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "no hidden_size"),
        ({"hidden_size": 64}, "no num_hidden_layers"),
        ({"hidden_size": 64, "num_hidden_layers": 2}, "no num_attention_heads"),
        ({"hidden_size": 64, "num_hidden_layers": 10**9, "num_attention_heads": 4}, "not between"),
        ({"hidden_size": "wide", "num_hidden_layers": 2}, "hidden_size is 'wide'"),
        ({"hidden_size": -1, "num_hidden_layers": 2}, "hidden_size is -1"),
    ],
)
def test_a_config_that_cannot_be_planned_is_told_why(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as e:
        parse(config)
    assert says in e.value.message


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([DEEPSEEK, GEMMA3_4B, GPT_OSS, LLAMA4, QWEN3_NEXT]), st.data())
def test_hostile_values_are_input_errors_or_plans(config: dict[str, Any], data: st.DataObject) -> None:
    target = config["text_config"] if "text_config" in config and data.draw(st.booleans()) else config
    key = data.draw(st.sampled_from(sorted(target)))
    broken = {**target, key: data.draw(junk)}
    whole = broken if target is config else {**config, "text_config": broken}
    try:
        weigh(parse(whole))
    except InputError as e:
        assert e.message


def test_files_are_read_with_the_index_beside_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(DEEPSEEK))
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 688_586_727_753}})
    )
    model = read_config(tmp_path)
    assert model.checkpoint_bytes == 688_586_727_753
    assert weigh(model).total / 2**30 == pytest.approx(628, rel=0.02)  # the draft layer is not loaded
    (tmp_path / "config.json").write_text("[1, 2")
    with pytest.raises(InputError, match="is not JSON"):
        read_config(tmp_path)
    with pytest.raises(InputError, match=r"No such file"):
        read_config(tmp_path / "missing")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8", "Qwen/Qwen2.5-7B"),
        ("Qwen/Qwen2.5-14B-Instruct-AWQ", "Qwen/Qwen2.5-14B"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M"),
        ("google/gemma-3-27b-it", "google/gemma-3-27b"),
    ],
)
def test_the_catalogue_knows_models_by_their_other_names(source: str, found: str) -> None:
    entry = find_config(source)
    assert entry is not None and entry[0] == found


def test_the_spec_s_own_config_comes_first_and_offline_says_what_is_missing() -> None:
    text = (
        "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: f}\n"
        "spec: {model: {source: 'hf://nobody/nothing'%s}}\n"
    )
    (fleet,) = parse_fleets(text % (", config: " + json.dumps(GPT_OSS)))
    assert resolve(fleet, offline=True).architecture == "gpt_oss"
    (fleet,) = parse_fleets(text % "")
    with pytest.raises(InputError) as e:
        resolve(fleet, offline=True)
    assert "nobody/nothing" in e.value.message and "spec.model.config" in e.value.cure
