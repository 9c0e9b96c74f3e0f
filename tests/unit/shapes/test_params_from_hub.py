"""A repository that has only Mistral's params.json, planned from the hub and from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.shapes.test_quantizers import LARGE_3
from tests.unit.weights.hub_double import HubDouble

from seawall.config.load import parse_fleets
from seawall.errors import InputError
from seawall.shapes.config import read_config, resolve

FLEET = """\
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: large}
spec:
  model: {source: hf://org/model}
  hardware: {gpu: H200}
"""


def test_a_repository_without_config_json_is_planned_from_params_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubDouble({"params.json": json.dumps(LARGE_3).encode()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("SEAWALL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        (fleet,) = parse_fleets(FLEET)
        assert len(resolve(fleet).layers) == 61
    assert len(resolve(fleet, offline=True).layers) == 61, "what was fetched is kept"
    with HubDouble({"README.md": b""}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("SEAWALL_CACHE", str(tmp_path / "other"))
        with pytest.raises(InputError, match=r"no config\.json"):
            resolve(fleet)


def test_a_folder_with_both_is_read_by_its_config_json(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps(LARGE_3))
    assert read_config(tmp_path).latent is not None
    llama = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 32}
    (tmp_path / "config.json").write_text(json.dumps(llama))
    assert read_config(tmp_path).latent is None
