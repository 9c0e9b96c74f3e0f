"""A wrong spec is answered in the words of its author: by meaning, with the place, and never with Python's words."""

from __future__ import annotations

import re

import pytest

from seawall.config.hints import MEANS, keys_at, plain
from seawall.config.load import parse_fleets
from seawall.errors import InputError

HEAD = "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: mine}\nspec:\n  model: {source: 'hf://a/b'}\n"


def refused(text: str) -> str:
    with pytest.raises(InputError) as e:
        parse_fleets(HEAD + text, "f.yaml")
    return f"{e.value.message}\n{e.value.cure}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("  replicas: 3", "spec.scaling.min"),
        ("  minReplicas: 3", "spec.scaling.min"),
        ("  scaling: {minReplicas: 3}", "write min"),
        ("  scaling: {maxReplicas: 3}", "write max"),
        ("  hardware: {gpus: 2}", "write gpusPerReplica"),
        ("  hardware: {count: 2}", "write gpusPerReplica"),
        ("  hardware: {gpu_count: 2}", "write gpusPerReplica"),
        ("  hardware: {gpu-type: L4}", "write gpu"),
        ("  engine: {tensorParallel: 2}", "spec.hardware.tensorParallel"),
        ("  engine: {tensor_parallel_size: 2}", "spec.hardware.tensorParallel"),
        ("  engine: {vllmArgs: []}", "write extraArgs"),
        ("  engine: {args: []}", "write extraArgs"),
        ("  vllmArgs: []", "spec.engine.extraArgs"),
        ("  model: 3\n  max_model_len: 3", "stands here twice"),
        ("  engine: {--max-model-len: 3}", "spec.traffic.maxContext"),
        ("  engine: {max_num_seqs: 3}", "did you mean maxNumSeqs?"),
        ("  engine: {maxNumSeq: 3}", "did you mean maxNumSeqs?"),
        ("  namespace: x", "it belongs in metadata.namespace"),
        ("  quantization: fp8", "it belongs in spec.model.quantization"),
        ("  rollout: {drian: 3s}", "did you mean drain?"),
        ("  nonsense: 3", "known here: model, engine"),
    ],
)
def test_a_wrong_key_is_read_by_its_meaning(text: str, hint: str) -> None:
    said = refused(text)
    assert hint in said
    assert "f.yaml:" in said
    assert "did you mean cloud" not in said


def test_every_hint_leads_to_a_place_that_exists() -> None:
    for word, path in MEANS.items():
        assert word == plain(word)
        *parents, key = path.split(".")
        assert key in keys_at(parents), path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("  scaling: {min: many}", "'many' is not right; write a whole number"),
        ("  scaling: {min: 0.5}", "0.5 is not right; write a whole number"),
        ("  scaling: {min: -1}", "-1 is not right; write a number that is at least 0"),
        ("  scaling: {min: true}", "true is not right; write a number"),
        ("  scaling: {target: yes}", "true is not right; write a number"),
        ("  scaling: {min: null}", "nothing (null) is not right"),
        ("  engine: {kind: tgi}", "'tgi' is not right; write vllm or sim"),
        ("  engine: {extraArgs: --x}", "'--x' is not right; write a list"),
        ("  engine: {env: [A]}", "a list is not right; write a mapping"),
        ("  gateway: [1]", "a list is not right; write a mapping"),
        ("  gateway: null", "leave it out"),
        ("  gateway: {keysFile: 5}", "5 is not right; write a text"),
        ("  gateway: {resume: often}", "write exact, best-effort or off"),
        ("  hardware: {expertParallel: maybe}", "write true or false"),
        ("  rollout: {canary: {steps: [{weight: 101}]}}", "write a number that is at most 100"),
        ("  hardware: {gpu: A100}", "sold with 40 or 80 GB; write A100-40GB or A100-80GB"),
        ("  hardware: {gpu: v100}", "write V100-16GB or V100-32GB"),
    ],
)
def test_a_wrong_value_says_what_to_write(text: str, says: str) -> None:
    said = refused(text)
    assert says in said
    assert not re.search(
        r"pydantic|instance of|input should|dictionary|dataclass|NoneType|unable to parse", said, re.I
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\tengine: {kind: vllm}", "a tab stands there"),
        ("  engine:\n  \tkind: vllm", "a tab stands there"),
        ("  engine: {{ .Values.engine }}", "template"),
        ("  engine: kind: vllm", "a text with a colon needs quotes"),
    ],
)
def test_broken_yaml_says_what_people_did(text: str, says: str) -> None:
    said = refused(text)
    assert says in said
    assert re.search(r"f\.yaml:\d+:\d+: ", said)
    assert "Mend" not in said
