"""What each layer caches against what vLLM's own layer of the same config says that it caches.

Recorded from vLLM 0.32: its model was made of the config's first twelve layers on torch's `meta` device, and every
layer asked for its cache (`get_kv_cache_spec`), with states in 32 bit.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.shapes.published import carded, counted

from seawall.config.plan_flags import PlanFlags, from_flags
from seawall.decide.plan import plan
from seawall.decide.plan.flags import read_flags
from seawall.decide.plan.kv import layer_bytes, layout, state_bytes
from seawall.decide.plan.setup import EngineSetup, PatchVersion
from seawall.domain.catalog.gpus import find_gpu
from seawall.shapes.config import parse

LAYERS = 12
RECORDED = {
    row["model_type"]: row
    for row in map(
        json.loads, Path(__file__).with_name("cached_layers.jsonl").read_text("utf-8").splitlines()
    )
}


def setup(version: PatchVersion = (0, 32, 0), gpu: str = "H100-80GB", *args: str, **own: Any) -> EngineSetup:
    found = find_gpu(gpu)
    assert found is not None
    flags = {"max_model_len": 32768, "max_num_seqs": 256, "batched_tokens": 2048, **own}
    return EngineSetup(gpu=found, version=version, extra=read_flags(args), **flags)


def first_layers(config: dict[str, Any]) -> dict[str, Any]:
    count = config["num_hidden_layers"]
    cut = {k: v[:LAYERS] if isinstance(v, list) and len(v) == count else v for k, v in config.items()}
    return {**cut, "num_hidden_layers": min(LAYERS, count)}


@pytest.mark.parametrize("kind", RECORDED)
def test_every_layer_caches_what_vllm_says(kind: str) -> None:
    config = first_layers(counted()[kind][0])
    if kind == "lfm2":
        config |= {"layer_types": ["conv", "conv", "full_attention"] * 4}
    model, recorded = parse(config, kind), RECORDED[kind]
    asked = setup((0, 32, 0), "H100-80GB", "--mamba-ssm-cache-dtype", "float32")
    attention = Counter(
        (layer.kind, layer_bytes(model, layer, asked))
        for layer in model.layers
        if layer.kind in ("full", "sliding", "chunked")
    )
    assert attention == Counter({(name, each): n for name, each, _, n in recorded["attention"]})
    windows = {layer.window for layer in model.layers if layer.kind == "sliding"}
    assert windows == {window for name, _, window, _ in recorded["attention"] if name == "sliding"}
    states = [layer for layer in model.layers if layer.kind == "recurrent" or layer.state]
    assert len(states) == sum(n for _, n in recorded["states"])
    for each, _ in recorded["states"]:
        assert state_bytes(model, asked) == each


def test_a_cache_that_was_only_read_makes_the_plan_unsure() -> None:
    fleet, _ = from_flags(PlanFlags(model_config="Qwen/Qwen3-8B", gpu="H200", tensor_parallel=4, max_model_len=8192,
                                    vllm_version="0.27.0"))  # fmt: skip
    made = plan(fleet, parse(carded()["Solar-Open-100B"][0], "solar"), shorten=False)
    low, high = made.kv_cache_tokens_range
    assert any("never compared" in doubt for doubt in made.unsure)
    assert low < 0.86 * made.kv_cache_tokens and high > 1.14 * made.kv_cache_tokens


@pytest.mark.parametrize(
    ("name", "each", "caching"),
    [
        ("Ling-mini-2.0", 2048, 12),
        ("Ling-flash-2.0", 2048, 12),
        ("Step3", 1024, 12),
        ("LongCat-Flash", 1152, 24),  # two attentions in each layer
    ],
)
def test_further_models_cache_what_vllms_own_layers_say(name: str, each: int, caching: int) -> None:
    """Recorded as above, of published configs: bytes per token of each layer that caches, and how many do."""
    config = dict(carded()[name][0])
    key = "num_layers" if "num_layers" in config else "num_hidden_layers"
    config = first_layers({**config, "num_hidden_layers": config[key]}) | {key: LAYERS}
    model = parse(config, name)
    assert [layer_bytes(model, layer, setup()) for layer in model.layers] == [each] * caching


def test_lightning_attention_keeps_its_state_in_the_models_dtype() -> None:
    """Twelve layers of Ring 2.5 in vLLM 0.32, with `--mamba-ssm-cache-dtype float32`: one of them attends, eleven keep
    64 x 128 x 128 numbers of 16 bit."""
    model = parse(first_layers(carded()["Ring-2.5-1T"][0]), "ring")
    asked = setup((0, 32, 0), "H100-80GB", "--mamba-ssm-cache-dtype", "float32")
    attending = [layer for layer in model.layers if layer.kind == "full"]
    assert [layer_bytes(model, layer, asked) for layer in attending] == [1152]
    assert state_bytes(model, asked) == 2_097_152


@pytest.mark.parametrize(
    ("name", "version", "gpu", "blocks"),
    [
        ("Nemotron-Nano-9B-v2", (0, 31, 0), "H100-80GB", 2),
        ("Nemotron-Nano-9B-v2", (0, 32, 0), "H100-80GB", 3),  # Mamba 2 stores a state inside the prompt, too
        ("Qwen3-Next-80B", (0, 32, 0), "H100-80GB", 2),
        ("Qwen3-Next-80B", (0, 33, 0), "H100-80GB", 3),  # as FlashInfer's kernel does, from Hopper on
        ("Qwen3-Next-80B", (0, 33, 0), "A100-80GB", 2),
    ],
)
def test_a_request_takes_a_block_for_the_state_inside_its_prompt(
    name: str, version: PatchVersion, gpu: str, blocks: int
) -> None:
    model = parse(carded()[name][0], name)
    for caching, expected in ((True, blocks), (False, 1)):
        asked = setup(version, gpu, prefix_caching=caching)
        shape = layout(model, asked)
        states = [g for g in shape.groups if g.kind == "recurrent"]
        alone = replace(shape, groups=tuple(states))
        assert alone.request_blocks(32768, asked) == expected * len(states)


def test_states_are_as_wide_as_the_flag_says_and_nemotrons_wide_unasked() -> None:
    nano = parse(carded()["Nemotron-Nano-9B-v2"][0], "nano")
    assert nano.recurrent is not None and nano.recurrent.state_bytes == 4
    granite = parse(carded()["granite-4.0-h-small"][0], "granite")
    asked = [
        state_bytes(granite, setup((0, 32, 0), "H100-80GB", "--mamba-ssm-cache-dtype", d))
        for d in ("float32", "auto")
    ]
    elements = 128 * 64 * 128
    assert asked[0] - asked[1] == 2 * elements


def test_attention_and_state_side_by_side_both_take_their_blocks() -> None:
    """Falcon H1 keeps both in every layer: two groups of all its layers."""
    falcon = parse(carded()["Falcon-H1-34B"][0], "falcon")
    groups = layout(falcon, setup()).groups
    assert [(g.kind, g.layers) for g in groups] == [("full", 72), ("recurrent", 72)]


def test_mini_cpm_caches_whole_heads(tmp_path: Path) -> None:
    config, _, _ = counted()["minicpm3"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = plan(*from_flags(PlanFlags(model_config=str(tmp_path), gpu="L40S", max_model_len=8192)))
    heads, dim = config["num_attention_heads"], config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    assert made.kv_bytes_per_token == config["num_hidden_layers"] * 2 * heads * dim * 2
