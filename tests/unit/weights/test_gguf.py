"""GGUF conversion: what a tiny hand-made llama GGUF becomes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from seawall.errors import InputError, SourceError
from seawall.weights import pypi
from seawall.weights.gguf import convert

HIDDEN, HEADS, KV = 8, 2, 1


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's convert_hf_to_gguf.py, LlamaModel.permute."""
    return (
        rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def tiny(
    path: Path, arch: str = "llama", pre: str = "smollm", further: dict[str, tuple[int, ...]] | None = None
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    w = {
        "token_embd.weight": rng.standard_normal((6, HIDDEN)),
        "output_norm.weight": rng.standard_normal(HIDDEN),
        "blk.0.attn_q.weight": rng.standard_normal((HIDDEN, HIDDEN)),
        "blk.0.attn_k.weight": rng.standard_normal((HIDDEN // 2, HIDDEN)),
    }
    w |= {f"blk.0.{name}": rng.standard_normal(shape) for name, shape in (further or {}).items()}
    w = {k: v.astype(np.float32) for k, v in w.items()}
    out = gguf.GGUFWriter(str(path), arch)
    out.add_block_count(1)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(16)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV)
    out.add_context_length(64)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(["<|end|>", "a", "b", "ab", "1", "2"])
    out.add_token_types([3, 1, 1, 1, 1, 1])
    out.add_token_merges(["a b"])
    out.add_eos_token_id(0)
    out.add_bos_token_id(0)
    out.add_chat_template("{{ messages }}")
    for name, rows in w.items():
        packed = permute(rows, {"blk.0.attn_q.weight": HEADS, "blk.0.attn_k.weight": KV}.get(name, 1))
        permuted = arch == "llama" and name in ("blk.0.attn_q.weight", "blk.0.attn_k.weight")
        out.add_tensor(name, packed if permuted else rows)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return w


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    assert (8 + size) % 8 == 0
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            a, b = entry["data_offsets"]
            bits = np.frombuffer(data[8 + size + a : 8 + size + b], "<u2").astype(np.uint32) << 16
            out[name] = bits.view(np.float32).reshape(entry["shape"])
    return out


def test_query_and_key_rows_come_back_in_hugging_face_order(tmp_path: Path) -> None:
    want = tiny(tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path)
    got = read_safetensors(tmp_path / "model.safetensors")
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
        "model.layers.0.self_attn.k_proj.weight": "blk.0.attn_k.weight",
    }
    assert set(got) == set(names)
    for hf, ours in names.items():
        np.testing.assert_allclose(got[hf], want[ours], rtol=2**-8)


def test_config_says_what_the_metadata_says(tmp_path: Path) -> None:
    tiny(tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (HEADS, KV)
    assert config["tie_word_embeddings"] is True
    assert (tmp_path / "chat_template.jinja").read_text() == "{{ messages }}"


def test_the_tokenizer_merges_and_keeps_digits_and_specials_apart(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tiny(tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("ab12<|end|>").tokens == ["ab", "1", "2", "<|end|>"]


@pytest.mark.parametrize(("arch", "pre"), [("mamba", "smollm"), ("llama", "tekken")])
def test_what_is_not_known_is_refused_with_a_cure(tmp_path: Path, arch: str, pre: str) -> None:
    tiny(tmp_path / "m.gguf", arch, pre)
    with pytest.raises(InputError, match="safetensors"):
        convert(tmp_path / "m.gguf", tmp_path)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    for keep in (0, 3, 20, 200):
        (tmp_path / "cut.gguf").write_bytes(data[:keep])
        with pytest.raises(InputError, match="cut short"):
            convert(tmp_path / "cut.gguf", tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "pypi://a#b",
        "pypi://a==1",
        "pypi://a==1#/etc/passwd",
        "pypi://a==1#../../x",
        "pypi://-e==1#x",
        "hf://a/b",
    ],
)
def test_a_source_that_is_not_one_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="pypi://package==version"):
        pypi.parse(source)


def test_altered_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"altered")
    with pytest.raises(SourceError, match="as pinned"):
        pypi._verify(tmp_path / "f", "0" * 64, "pkg")


def test_half_made_weights_are_not_used(tmp_path: Path) -> None:
    source = pypi.parse("pypi://a==1#m.gguf")
    folder = pypi._folder(source, tmp_path)
    folder.mkdir(parents=True)
    assert pypi.cached(source, tmp_path) is None
    (folder / "model.safetensors").write_bytes(b"12345")
    from seawall.drivers import cache

    cache.seal(folder, {"files": {"model.safetensors": {"size": 5, "sha256": ""}}})
    assert pypi.cached(source, tmp_path) == folder
    (folder / "model.safetensors").write_bytes(b"123")
    assert pypi.cached(source, tmp_path) is None


@pytest.mark.parametrize(
    ("arch", "further", "name"),
    [
        ("qwen2", {"attn_q.bias": (HIDDEN,), "attn_k.bias": (4,), "attn_v.bias": (4,)}, "Qwen2ForCausalLM"),
        ("qwen3", {"attn_q_norm.weight": (4,), "attn_k_norm.weight": (4,)}, "Qwen3ForCausalLM"),
    ],
)
def test_a_qwen_keeps_its_rows_its_biases_and_its_norms(
    tmp_path: Path, arch: str, further: dict[str, tuple[int, ...]], name: str
) -> None:
    made = tiny(tmp_path / "m.gguf", arch, "qwen2", further)
    out = tmp_path / "out"
    out.mkdir()
    convert(tmp_path / "m.gguf", out)
    tensors = read_safetensors(out / "model.safetensors")
    near = {"rtol": 0.01, "atol": 0.01}
    assert np.allclose(tensors["model.layers.0.self_attn.q_proj.weight"], made["blk.0.attn_q.weight"], **near)
    for key in further:
        projection, kind = key.split(".")
        theirs = f"{projection[-1]}_proj.bias" if kind == "bias" else f"{projection[5]}_norm.weight"
        assert np.allclose(tensors[f"model.layers.0.self_attn.{theirs}"], made[f"blk.0.{key}"], **near)
    config = json.loads((out / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == ([name], arch)
    assert ("attention_bias" in config) == (arch == "qwen3")


def test_the_qwen_tokenizer_parts_words_and_single_digits(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tiny(tmp_path / "m.gguf", "qwen2", "qwen2", {"attn_q.bias": (HIDDEN,)})
    out = tmp_path / "out"
    out.mkdir()
    convert(tmp_path / "m.gguf", out)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    parts = [p for p, _ in tokenizer.pre_tokenizer.pre_tokenize_str("I'm here: 12\n\nok  now")]
    assert parts == [
        "I",
        "'m",
        "\u0120here",
        ":",
        "\u0120",
        "1",
        "2",
        "\u010a\u010a",
        "ok",
        "\u0120",
        "\u0120now",
    ]
    assert tokenizer.encode("ab12<|end|>").tokens == ["ab", "1", "2", "<|end|>"]


def test_a_gguf_on_this_machine_is_converted_once(tmp_path: Path) -> None:
    from seawall.weights.gguf import model_folder

    tiny(tmp_path / "Mine.gguf")
    said: list[str] = []
    folder = model_folder(tmp_path / "Mine.gguf", tmp_path / "cache", said.append)
    assert (folder / "config.json").is_file()
    assert model_folder(tmp_path / "Mine.gguf", tmp_path / "cache", said.append) == folder
    assert len(said) == 1


@pytest.mark.parametrize("arch", ["gemma4", "phi2", "deepseek2", "falcon"])
def test_what_is_not_converted_is_refused_by_its_name(tmp_path: Path, arch: str) -> None:
    tiny(tmp_path / "m.gguf", arch)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=f"'{arch}' is not converted here; llama, qwen2, qwen3, gemma") as e:
        convert(tmp_path / "m.gguf", tmp_path / "out")
    assert "safetensors" in e.value.cure
