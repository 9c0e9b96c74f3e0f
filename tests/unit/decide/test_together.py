"""Fleets that one gateway could not tell apart are refused alike by all who load them together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seawall.cli.fleets import group_of
from seawall.config.load import load_fleets
from seawall.decide.together import clashes
from seawall.errors import InputError
from seawall.gateway.process.settings import read_specs
from seawall.local.session import load

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: NAME}
spec:
  model: {source: "hf://Qwen/Qwen2.5-7B-Instruct", revision: abc, servedNames: [SERVED], adapters: ADAPTERS}
  hardware: {gpu: L4, cloud: gke}
  gateway: {aliases: ALIASES}
"""


def fleet(name: str, served: str = "", adapters: str = "[]", aliases: str = "{}") -> str:
    text = FLEET.replace("NAME", name).replace("SERVED", served or f"{name}-model")
    return text.replace("ADAPTERS", adapters).replace("ALIASES", aliases)


APART = [fleet("a"), fleet("b", adapters='[{name: poet, source: "hf://a/poet"}]', aliases="{gpt: b-model}")]
CASES: dict[str, tuple[list[str], str]] = {
    "one name": ([fleet("a"), fleet("a", served="x")], "two fleets are named a"),
    "one model": (
        [fleet("a", served="m"), fleet("b", served="m")],
        "the model name 'm' belongs to a and to b",
    ),
    "a model and an adapter": (
        [*APART, fleet("c", served="poet")],
        "the model name 'poet' belongs to b and to c",
    ),
    "a model and an alias": (
        [*APART, fleet("c", served="gpt")],
        "the model name 'gpt' belongs to b and to c",
    ),
}


@pytest.mark.parametrize(("texts", "said"), CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    "door",
    [read_specs, lambda paths: load(tuple(paths)), lambda paths: group_of([str(p) for p in paths])],
    ids=["gateway", "up", "render"],
)
def test_everyone_refuses_the_same_in_the_same_words(
    texts: list[str], said: str, door: Callable[[list[Path]], Any], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{i}.yaml" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    with pytest.raises(InputError) as e:
        door(paths)
    assert e.value.message == f"{said}."
    assert e.value.cure


def test_who_is_apart_is_let_in_and_each_clash_is_told_once(tmp_path: Path) -> None:
    for text, found in ((APART, 0), (["a", "a", "a"], 1)):
        files = [tmp_path / f"{i}.yaml" for i in range(len(text))]
        for path, one in zip(files, text, strict=True):
            path.write_text(one if len(one) > 1 else fleet(one))
        assert len(list(clashes(f for p in files for f in load_fleets(p)))) == found
