"""GGUF of the gemmas and of phi: tensors by the names of the `gguf` package itself, norms, configs and tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.weights.gguf_writer import ARCHES, PIECES, TINY, write_gguf
from tests.unit.weights.test_gguf import read_safetensors
from tokenizers import Tokenizer

from seawall.errors import InputError
from seawall.weights.gguf import convert

VOCAB, HEAD = len(PIECES), TINY.head_dim


def converted(tmp_path: Path, arch: str, **how: Any) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
    made = write_gguf(tmp_path / "m.gguf", arch, **how)
    out = tmp_path / "out"
    out.mkdir()
    convert(tmp_path / "m.gguf", out)
    return made, json.loads((out / "config.json").read_text()), out


@pytest.mark.parametrize("arch", ARCHES)
def test_every_tensor_comes_back_as_the_checkpoint_had_it(tmp_path: Path, arch: str) -> None:
    made, config, out = converted(tmp_path, arch)
    got = read_safetensors(out / "model.safetensors")
    assert set(got) == set(made)
    for name, values in made.items():
        np.testing.assert_allclose(got[name], values, rtol=2**-7, atol=2**-7, err_msg=name)
    assert config["vocab_size"] == VOCAB
    assert config["tie_word_embeddings"] == (arch != "phi3")


def test_gemma_2_says_its_windows_and_caps(tmp_path: Path) -> None:
    more = {"attention.sliding_window": 32, "attn_logit_softcapping": 40.0, "final_logit_softcapping": 20.0}
    _, config, out = converted(tmp_path, "gemma2", more=more)
    assert (config["architectures"], config["model_type"]) == (["Gemma2ForCausalLM"], "gemma2")
    assert (config["sliding_window"], config["query_pre_attn_scalar"]) == (32, HEAD)
    assert (config["attn_logit_softcapping"], config["final_logit_softcapping"]) == (40.0, 20.0)
    assert config["hidden_activation"] == "gelu_pytorch_tanh"
    ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [1, 11]


def test_gemma_3_is_the_text_model_with_two_rotary_bases(tmp_path: Path) -> None:
    more = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    _, config, _ = converted(tmp_path, "gemma3", more=more)
    assert (config["architectures"], config["model_type"]) == (["Gemma3ForCausalLM"], "gemma3_text")
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 1e4)
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert config["layer_types"] == ["sliding_attention"] * 2


def test_phi_keeps_its_projections_together(tmp_path: Path) -> None:
    _, config, _ = converted(
        tmp_path, "phi3", more={"rope.dimension_count": 6, "attention.sliding_window": 47}
    )
    assert (config["architectures"], config["model_type"]) == (["Phi3ForCausalLM"], "phi3")
    assert (config["partial_rotary_factor"], config["sliding_window"]) == (0.75, 47)
    assert config["rope_scaling"] is None
    assert config["eos_token_id"] == [1, 12]


def test_another_scaling_of_the_rotary_embedding_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", "gemma2", more={"rope.scaling.type": "yarn"})
    with pytest.raises(InputError, match="scales its rotary embedding"):
        convert(tmp_path / "m.gguf", tmp_path)


def test_pieces_are_merged_by_their_scores_and_a_text_comes_back(tmp_path: Path) -> None:
    _, _, out = converted(tmp_path, "gemma")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    found = tokenizer.encode("ab aba\n<end_of_turn>")
    assert found.tokens == ["<bos>", "ab", "▁ab", "a", "<0x0A>", "<end_of_turn>"]
    assert tokenizer.decode(found.ids) == "ab aba\n"
    assert tokenizer.encode("ab", add_special_tokens=False).tokens == ["ab"]


def test_a_space_before_the_text_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    _, _, out = converted(tmp_path, "phi3", prefix=True)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    found = tokenizer.encode("ab a")
    assert found.tokens == ["<bos>", "▁ab", "▁a"]
    assert tokenizer.decode(found.ids) == "ab a"
