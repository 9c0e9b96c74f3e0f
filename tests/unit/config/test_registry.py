"""The registry: weights are named once, and a fleet that refers to them gets what was pinned."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from seawall.cli.models import command
from seawall.config.load import load_fleets
from seawall.config.registry import read_models
from seawall.errors import InputError
from seawall.weights.lockfile import read_lock

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: chat}
spec:
  model: {source: "model://tiny"}
"""


def added(tmp_path: Path) -> Path:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text('{"model_type": "llama"}')
    registry = tmp_path / "models"
    argv = ["add", "tiny", f"file://{weights}", "--to", str(tmp_path / "pulled"), "--licence", "MIT"]
    done = CliRunner().invoke(command, [*argv, "--registry", str(registry)])
    assert done.exit_code == 0, (done.output, done.exception)
    return registry


def test_an_added_model_is_verified_pinned_and_used_by_name(tmp_path: Path) -> None:
    registry = added(tmp_path)
    model = read_models(registry)["tiny"]
    lock = read_lock(tmp_path / "pulled" / "seawall.lock")
    assert (model.spec.lock_digest, model.spec.size) == (lock.digest, lock.total_bytes)
    spec = tmp_path / "fleet.yaml"
    spec.write_text(FLEET)
    (fleet,) = load_fleets(spec)
    assert fleet.spec.model.source == f"file://{tmp_path / 'weights'}"
    assert fleet.spec.model.licence == "MIT"
    assert fleet.spec.model.config == {"model_type": "llama"}
    listed = CliRunner().invoke(command, ["list", "--registry", str(registry), "--specs", str(tmp_path)])
    assert "MIT" in listed.output
    assert listed.output.rstrip().endswith("chat")
    shown = CliRunner().invoke(command, ["show", "tiny", "--registry", str(registry)])
    assert "lockDigest" in shown.output


def test_what_is_wrong_is_told_with_a_cure(tmp_path: Path) -> None:
    spec = tmp_path / "fleet.yaml"
    spec.write_text(FLEET.replace("tiny", "tinny"))
    added(tmp_path)
    with pytest.raises(InputError, match="Did you mean model://tiny"):
        load_fleets(spec)
    for text, says in [
        ("kind: Pod", "is not a Model"),
        ("kind: Model\nspec: {typo: 1}", "models.md"),
        ("{", "Correct that line"),
    ]:
        (tmp_path / "models" / "x.yaml").write_text(text)
        with pytest.raises(InputError, match=says):
            read_models(tmp_path / "models")
    (tmp_path / "models" / "x.yaml").write_text((tmp_path / "models" / "tiny.yaml").read_text())
    with pytest.raises(InputError, match="another Model tiny"):
        read_models(tmp_path / "models")


def test_nothing_is_entered_unverified(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["add", "x", "hf://a/b", "--registry", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert not list(tmp_path.glob("*.yaml"))
