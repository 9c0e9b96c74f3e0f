"""Parameters and bytes counted from published configs against the sizes that models are published under."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.shapes.published import published

from seawall.decide.plan.weights import weigh
from seawall.domain.catalog.models import find_config
from seawall.domain.model import ModelConfig
from seawall.errors import InputError
from seawall.shapes.config import parse

PUBLISHED = published()
CARDS: dict[str, tuple[float, float]] = {
    # Billions, total and active, where the model's card says more than its name does; 0: not said.
    "MiniMaxAI/MiniMax-M2": (230, 10), "nvidia/MiniMax-M2": (230, 10),
    "MiniMaxAI/MiniMax-M3": (428, 0), "nvidia/MiniMax-M3": (428, 0),
    "Qwen/Qwen3-0.6B": (0.6, 0), "Qwen/Qwen3-8B": (8.2, 0), "Qwen/Qwen3-32B": (32.8, 0),
    "Qwen/Qwen3-30B-A3B": (30.5, 3.3), "Qwen/Qwen3-VL-30B-A3B": (31.1, 3.3),
    "Qwen/Qwen3-VL-2B": (2.13, 0), "Qwen/Qwen3-VL-4B": (4.44, 0), "Qwen/Qwen3-VL-8B": (8.77, 0),
    "Qwen/Qwen3-VL-32B": (33.4, 0), "XiaomiMiMo/MiMo-7B": (7.83, 0), "XiaomiMiMo/MiMo-V2-Flash": (309, 15),
    "deepseek-ai/DeepSeek-V4-Flash": (284, 13), "nvidia/DeepSeek-V4-Flash": (284, 13),
    "sgl-project/DeepSeek-V4-Flash": (284, 13), "deepseek-ai/DeepSeek-V4-Pro": (1600, 49),
    "nvidia/DeepSeek-V4-Pro": (1600, 49), "sgl-project/DeepSeek-V4-Pro": (1600, 49),
    "deepseek-ai/DeepSeek": (671, 37), "nvidia/DeepSeek-V3": (671, 37),
    "glm-5.2": (744, 40), "zai-org/GLM-5": (744, 40), "nvidia/GLM-5": (744, 40),
    "google/gemma-4-26B-A4B": (25.2, 3.8), "nvidia/Gemma-4-26B-A4B": (25.2, 3.8), "nvidia/Gemma-4-31B": (31.3, 0),
    "meta-llama/Llama-4-Maverick": (402, 17), "meta-llama/Llama-4-Scout": (109, 17),
    "mistralai/Mixtral-8x22B": (141, 39), "mistralai/Mixtral-8x7B": (46.7, 12.9),
    "moonshotai/Kimi-K2": (1040, 32), "nvidia/Kimi-K2": (1040, 32), "moonshotai/Kimi-K3": (2800, 104),
    "nvidia/Llama-3_3-Nemotron-Super-49B": (49.9, 0),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B": (31.6, 3.2), "nvidia/NVIDIA-Nemotron-3.5-Lightning": (31.6, 3.2),
    "openai/gpt-oss-120b": (117, 5.1), "openai/gpt-oss-20b": (21, 3.6), "stepfun-ai/Step-3.7-Flash": (196, 11),
}  # fmt: skip


def model(name: str) -> ModelConfig:
    config, beside = PUBLISHED[name]
    return parse(config, name, beside=beside)


def nominal(name: str) -> tuple[float, float]:
    """(total, active) in billions: the card's, else what stands in the name."""
    found = max((key for key in CARDS if name.startswith(key)), key=len, default=None)
    if found is not None:
        return CARDS[found]
    total = re.search(r"(\d+(?:\.\d+)?)B", name)
    active = re.search(r"-A(\d+(?:\.\d+)?)B", name)
    assert total is not None, f"{name} needs a line in CARDS"
    return float(total[1]), float(active[1]) if active else 0.0


def agrees(counted: float, stated: float) -> bool:
    """Within 3% of the stated number, or rounded to it as a card rounds (10.4 billion are called 10)."""
    digits = 1 if stated % 1 else 0
    return abs(counted / stated - 1) <= 0.03 or (stated < 100 and round(counted, digits) == stated)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_name_or_the_card(name: str) -> None:
    shape = model(name)
    counted = weigh(shape)
    total, active = nominal(name)
    assert shape.known, shape.notes
    assert agrees(counted.parameters / 1e9, total), counted.parameters / 1e9
    if active:  # some cards count the input embedding as active, others do not
        with_embedding = (counted.active_parameters + counted.embedding) / 1e9
        assert agrees(counted.active_parameters / 1e9, active) or agrees(with_embedding, active), (
            with_embedding
        )


@pytest.mark.parametrize(
    ("name", "tp", "gib"),
    [
        # "Model loading took ..." of recorded start-ups.
        ("nvidia/Gemma-4-31B-IT-NVFP4", 1, 31.04),
        ("deepseek-ai/DeepSeek-V4-Flash", 2, 74.08),
        ("nvidia/GLM-5.2-NVFP4", 4, 106.86),
        ("Qwen/Qwen3-VL-2B-Instruct", 1, 4.24),
    ],
)
def test_checkpoints_weigh_what_vllm_says_that_it_loaded(name: str, tp: int, gib: float) -> None:
    assert weigh(model(name), tp).per_gpu / 2**30 == pytest.approx(gib, rel=0.02)


def test_the_weights_of_deepseek_in_nvfp4_are_not_those_of_16_bit() -> None:
    assert (
        weigh(model("nvidia/DeepSeek-V3.1-NVFP4")).total
        < 0.3 * weigh(model("deepseek-ai/DeepSeek-V3")).parameters * 2
    )


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("nvidia/DeepSeek-V3.1-NVFP4", "fp8"),  # kv_cache_quant_algo of hf_quant_config.json
        ("nvidia/Gemma-4-31B-IT-NVFP4", "fp8"),  # kv_cache_scheme
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "fp8"),  # kv_cache_scheme as a word
        ("nvidia/MiniMax-M3-NVFP4", "auto"),  # null
        ("moonshotai/Kimi-K2.5", "auto"),
        ("Qwen/Qwen3-8B", "auto"),
        # vLLM reads hf_quant_config.json only when config.json says nothing of quantization.
        ("nvidia/Qwen3.6-35B-A3B-NVFP4", "auto"),
    ],
)
def test_the_cache_that_a_checkpoint_was_calibrated_for(name: str, dtype: str) -> None:
    assert model(name).cache_dtype == dtype


def test_each_layer_is_stored_as_its_own_names_say() -> None:
    glm = model("nvidia/GLM-5.1-NVFP4").quantization
    assert glm is not None and glm.method == "nvfp4"
    assert (
        glm.format("o", 40) is None and glm.format("experts", 40) is not None
    )  # attention is kept everywhere
    assert glm.format("mlp", 0) is None  # and the first layer as a whole
    qwen = model("nvidia/Qwen3.6-27B-NVFP4").quantization
    assert qwen is not None
    formats = {part: qwen.format(part, 0 if part == "state" else 3) for part in ("mlp", "q", "state", "head")}
    assert {part: f.method for part, f in formats.items() if f} == {
        "mlp": "nvfp4", "q": "fp8", "state": "fp8", "head": "nvfp4",
    }  # fmt: skip
    m3 = model("nvidia/MiniMax-M3-NVFP4").quantization
    assert m3 is not None
    assert [f.method for part in ("experts", "shared", "o") if (f := m3.format(part, 30))] == [
        "nvfp4",
        "mxfp8",
        "mxfp8",
    ]
    v4 = model("nvidia/DeepSeek-V4-Flash-NVFP4").quantization
    assert v4 is not None
    assert [f.method for part in ("experts", "shared", "q_b") if (f := v4.format(part, 5))] == [
        "nvfp4",
        "fp8",
        "fp8",
    ]


def test_a_pattern_that_would_match_for_ever_is_left_out() -> None:
    config, _ = PUBLISHED["Qwen/Qwen3-8B"]
    evil = {"quant_method": "compressed-tensors", "ignore": ["re:(.*.*)*(a+)+$", "re:(", "lm_head"]}
    stored = parse({**config, "quantization_config": evil}).quantization
    assert stored is not None and stored.format("mlp", 1) is not None


def test_only_layers_that_own_an_index_store_and_cache_one() -> None:
    assert sum(layer.indexed for layer in model("zai-org/GLM-5.2").layers) == 21
    assert sum(layer.indexed for layer in model("zai-org/GLM-5.1").layers) == 78
    assert sum(layer.indexed for layer in model("MiniMaxAI/MiniMax-M3").layers) == 57
    assert sum(layer.indexed for layer in model("deepseek-ai/DeepSeek-V4-Flash").layers) == 21


def test_layers_without_a_number_are_counted_from_their_list() -> None:
    ultra = model("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16")
    kinds = [
        layer.kind if layer.kind != "none" else "moe" if layer.experts else "mlp" for layer in ultra.layers
    ]
    assert {kind: kinds.count(kind) for kind in kinds} == {"recurrent": 48, "moe": 48, "full": 12}


PARTIAL = ("glm-5.2-fp8",)  # a copy whose config leaves out which layers share an index


@pytest.mark.parametrize("name", [n for n in PUBLISHED if find_config(n) is not None and n not in PARTIAL])
def test_the_catalogue_has_the_shapes_that_were_published(name: str) -> None:
    entry = find_config(name)
    assert entry is not None
    own, theirs = parse(entry[1], name), model(name)
    assert weigh(own).parameters == pytest.approx(weigh(theirs).parameters, rel=0.01)
    assert weigh(own).active_parameters == pytest.approx(weigh(theirs).active_parameters, rel=0.01)
    assert [(x.kind, x.kv_heads, x.ratio, x.indexed) for x in own.layers] == [
        (x.kind, x.kv_heads, x.ratio, x.indexed) for x in theirs.layers
    ]
    if not re.search("NVFP4|FP8", name):  # a suffix tells the format, not which layers it leaves out
        assert weigh(own).total == pytest.approx(weigh(theirs).total, rel=0.01)


junk = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        3,
        10**6,
        10**13,
        1.5,
        float("nan"),
        "x",
        [],
        [1],
        [None],
        {},
        {"a": 1},
        [0] * 3000,
        "MEM*",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PUBLISHED)), st.data())
def test_any_value_in_a_published_config_gives_a_plan_or_an_input_error(
    name: str, data: st.DataObject
) -> None:
    config, beside = PUBLISHED[name]
    inner = [key for key, value in config.items() if isinstance(value, dict)]
    where = data.draw(st.sampled_from(["", *inner]))
    target = config[where] if where else config
    key = data.draw(st.sampled_from(sorted(target)))
    broken = {**target, key: data.draw(junk)}
    try:
        weigh(parse({**config, where: broken} if where else broken, beside=beside), 2, 2)
    except InputError as e:
        assert e.message
