"""Repositories that hold each weight twice: the copy that vLLM loads is fetched, the other one is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from seawall.cli.pull import command
from seawall.engines.vllm.command import weights_form
from seawall.weights.fetch import FetchPolicy
from seawall.weights.lockfile import read_lock
from seawall.weights.pull import Order, pull, told

from .conftest import safetensors
from .hub_double import HubDouble

SMALL = {"config.json": b"{}", "params.json": b"{}", "tekken.json": b"{}"}
SHARDS = {
    "model-00001-of-00002.safetensors": safetensors(900, 1),
    "model-00002-of-00002.safetensors": safetensors(700, 2),
    "model.safetensors.index.json": b"{}",
}
NATIVE = {"consolidated.safetensors": safetensors(1600, 3)}
MISTRAL = {**SMALL, **SHARDS, **NATIVE}


def fetched(to: Path, files: dict[str, bytes], form: str = "hf") -> tuple[set[str], str]:
    with HubDouble(files) as hub:
        order = Order(
            "hf://org/model", to, to / "seawall.lock", policy=FetchPolicy(backoff_s=0.01), form=form
        )  # type: ignore[arg-type]
        done = pull(order, {"HF_ENDPOINT": hub.url, "HF_HOME": str(to)})
    return {f.path for f in done.lock.files}, told(done)


def test_one_copy_of_a_mistral_repository_is_fetched_and_the_other_named(tmp_path: Path) -> None:
    names, said = fetched(tmp_path, MISTRAL)
    assert names == {*SMALL, *SHARDS}
    assert "left out consolidated.safetensors, " in said and "--form" in said


def test_mistrals_own_copy_is_fetched_when_that_is_what_will_be_loaded(tmp_path: Path) -> None:
    names, said = fetched(tmp_path, MISTRAL, "mistral")
    assert names == {*SMALL, *NATIVE}
    assert "left out model-00001-of-00002.safetensors and 1 more" in said


@pytest.mark.parametrize(
    ("files", "form"),
    [
        (MISTRAL, "both"),
        ({**SMALL, **NATIVE}, "hf"),  # the only copy there is
        ({**SMALL, **SHARDS}, "mistral"),
        ({"params.json": b"{}", **SHARDS, **NATIVE}, "hf"),  # shards that no config describes
        ({"config.json": b"{}", **SHARDS, "adapter_model.safetensors": safetensors(9)}, "hf"),
    ],
)
def test_what_is_there_once_is_kept(tmp_path: Path, files: dict[str, bytes], form: str) -> None:
    names, said = fetched(tmp_path, files, form)
    assert names == set(files) and "left out" not in said


def test_a_lock_that_pins_both_copies_is_obeyed(tmp_path: Path) -> None:
    fetched(tmp_path / "a", MISTRAL, "both")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "seawall.lock").write_bytes((tmp_path / "a" / "seawall.lock").read_bytes())
    names, _ = fetched(tmp_path / "b", MISTRAL)
    assert names == set(MISTRAL)


@pytest.mark.parametrize(
    ("args", "form"),
    [
        ([], "hf"),
        (["--load-format", "mistral", "--config-format", "mistral"], "mistral"),
        (["--load_format=mistral"], "mistral"),
        (["--config-format", "mistral"], "mistral"),
        (["--load-format", "auto"], "mistral"),  # vLLM prefers Mistral's where it finds it
        (["--load-format", "auto", "--config-format", "hf"], "hf"),
        (["--config-format", "mistral", "--load-format", "safetensors"], "hf"),
        (["--tokenizer-mode", "mistral"], "hf"),
        (["--load-format"], "hf"),
    ],
)
def test_the_fleets_flags_say_which_copy_is_loaded(args: list[str], form: str) -> None:
    assert weights_form(args) == form


def test_a_fleets_pull_takes_the_copy_of_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(
        "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: m}\nspec:\n"
        "  model: {source: 'hf://org/model'}\n  hardware: {gpu: L40S}\n"
        "  engine: {extraArgs: [--load-format, mistral]}\n"
    )
    with HubDouble(MISTRAL) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        made = CliRunner().invoke(command, [str(fleet), "--to", str(tmp_path / "m")], env=dict(os.environ))
    assert made.exit_code == 0, made.output
    assert {f.path for f in read_lock(tmp_path / "m.lock").files} == {*SMALL, *NATIVE}
    assert "left out model-00001" in made.output
