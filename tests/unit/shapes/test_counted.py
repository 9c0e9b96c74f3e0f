"""Parameters that we count against those that each architecture's own class makes from the same config."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.shapes.published import carded, counted

from seawall.decide.plan.certainty import UNKNOWN_WEIGHTS
from seawall.decide.plan.weights import weigh
from seawall.shapes.config import parse

COUNTED, CARDED = counted(), carded()


@pytest.mark.parametrize("kind", COUNTED)
def test_an_architecture_is_counted_as_its_own_class_makes_it(kind: str) -> None:
    config, parameters, active = COUNTED[kind]
    shape = parse(config, kind)
    weights = weigh(shape)
    allowed = 0.03 if shape.known else UNKNOWN_WEIGHTS
    assert weights.parameters == pytest.approx(parameters, rel=allowed)
    assert weights.active_parameters == pytest.approx(active, rel=max(allowed, 0.05))


@pytest.mark.parametrize("name", CARDED)
def test_a_model_is_counted_as_its_authors_say(name: str) -> None:
    config, billions, active = CARDED[name]
    shape = parse(config, name)
    weights = weigh(shape)
    allowed = 0.03 if shape.known else UNKNOWN_WEIGHTS
    assert weights.parameters / 1e9 == pytest.approx(billions, rel=allowed)
    if active:  # cards round it, and count the embedding or not
        least, most = weights.active_parameters / 1e9, (weights.active_parameters + weights.embedding) / 1e9
        assert least * 0.95 <= active <= most * 1.05


def test_weights_that_are_passed_more_than_once_count_once_and_cache_each_time() -> None:
    shape = parse(COUNTED["hrm_text"][0], "hrm_text")
    assert sum(not layer.again for layer in shape.layers) == 32
    assert len(shape.layers) == 128 and all(layer.kind == "full" for layer in shape.layers)


def test_a_part_that_nobody_knows_makes_the_model_unknown() -> None:
    """A language model that is known inside one that brings, say, an encoder of its own kind."""
    text = {k: v for k, v in COUNTED["qwen3"][0].items() if k != "text_config"}
    strange = {
        "model_type": "new_thing",
        "text_config": text,
        "acoustic_config": {"depth": 30, "width": 4096},
    }
    shape = parse(strange, "new")
    assert not shape.known
    assert any("acoustic_config" in note for note in shape.notes)
    assert parse({**strange, "acoustic_config": {}}, "new").known


def test_layers_of_their_own_are_found_however_their_number_is_written() -> None:
    config, _, _ = COUNTED["gemma4"]
    text = {**config["text_config"], "per_layer_config": {"05": {"head_dim": 1024}, "7": {"head_dim": 1024}}}
    dims = [layer.head_dim for layer in parse({**config, "text_config": text}).layers]
    assert dims[5] == dims[7] == 1024 and dims[6] != 1024


def both(kind: str, **changed: Any) -> tuple[int, int]:
    """Parameters as the config says them, and with some keys spelled as earlier configs do (None: left out)."""
    config, _, _ = COUNTED[kind]
    other = {k: v for k, v in {**config, **changed}.items() if v is not None}
    return weigh(parse(config, kind)).parameters, weigh(parse(other, kind)).parameters


def test_layers_of_experts_are_those_that_the_list_names_however_it_is_spelled() -> None:
    new, old = both("glm4_moe_lite", mlp_layer_types=None, first_k_dense_replace=1)
    assert new == old
    new, dense = both("glm4_moe_lite", mlp_layer_types=["dense"] * 47)
    assert dense < new / 5


def test_compressed_layers_of_both_spellings_are_the_same() -> None:
    config, _, _ = COUNTED["deepseek_v4"]
    rates = config["compress_rates"]
    new, old = both(
        "deepseek_v4",
        layer_types=None,
        compress_rates=None,
        compress_ratios=[rates.get(word, 0) for word in config["layer_types"]],
    )
    assert new == old


def test_a_state_beside_attention_is_kept_by_every_layer() -> None:
    shape = parse(COUNTED["falcon_h1"][0], "falcon_h1")
    assert {(layer.kind, layer.state) for layer in shape.layers} == {("full", True)}
    assert shape.recurs


def test_a_convolution_keeps_its_last_tokens_and_no_other_state() -> None:
    config, _, _ = COUNTED["lfm2"]
    shape = parse({**config, "layer_types": ["conv", "full_attention"] * 16}, "lfm2")
    assert shape.recurrent is not None and shape.recurrent.state_elements == 0
    assert shape.recurrent.conv_elements == 2 * shape.hidden


def test_a_head_of_its_own_is_believed_when_either_config_says_so() -> None:
    config, _, _ = COUNTED["qwen3_vl"]
    text = config["text_config"]
    for outer, inner, tied in (
        (False, True, False), (True, False, False), (True, None, True), (None, True, True), (True, True, True),
    ):  # fmt: skip
        own = {k: v for k, v in {**text, "tie_word_embeddings": inner}.items() if v is not None}
        whole = {**config, "text_config": own, "tie_word_embeddings": outer}
        assert parse({k: v for k, v in whole.items() if v is not None}).tied is tied
