"""Every reader of YAML: what a short text may cost, and what a long one."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.config.load import parse_fleets
from seawall.config.yaml import documents
from seawall.drivers.bounded_yaml import BoundedLoader
from seawall.drivers.kube_config import find_access
from seawall.errors import InputError
from seawall.lint.node import Malformed, parse
from seawall.prove import settings
from seawall.sim.sweep import parse_settings

SRC = Path(__file__).parents[3] / "src"


def chain(rung: str, rungs: int) -> str:
    """Anchors, each of which is made of the one before."""
    return "a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i} {rung.replace('*', f'*a{i - 1}')}\n" for i in range(1, rungs)
    )


DEAR = {
    "brackets": "[" * 20_000 + "]" * 20_000,
    "brackets that nobody closes": "a: " + "[" * 200_000,
    "braces": "{a: " * 20_000 + "}" * 20_000,
    "indentation": "\n".join(" " * i + "a:" for i in range(1_500)),
    "dashes in dashes": "- " * 20_000,
    "keys that are lists": "? " * 20_000,
    "dashes": "- \n" * 1_000_000,
    "laughs": chain("[*, *, *, *, *, *, *, *, *]", 12),
    "merged twice": chain("{<<: [*, *]}", 40),
    "merged in keys": chain("{<<: *, b: {<<: [*, *]}}", 40),
    "a long way down": chain("[[[[[[[[[[*]]]]]]]]]]", 60),
    "itself": "a: &a [1, *a]",
    "itself, further down": "a: &a {b: [{c: *a}]}",
    "itself, merged": "a: &a {<<: *a}",
}


@pytest.mark.parametrize("text", DEAR.values(), ids=DEAR)
def test_a_dear_text_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError) as refused:
        documents(text, "f.yaml")
    assert time.process_time() - began < 2.5, "seconds of this process alone"
    assert re.match(r"f\.yaml:\d+:\d+: (more than|nested deeper|an alias stands)", refused.value.message)


READERS: dict[str, Callable[[Path], Any]] = {
    "a spec": lambda path: parse_fleets(path.read_text(), str(path)),
    "a proof": settings.read,
    "a kubeconfig": lambda path: find_access(str(path), None, {}),
    "a sweep": lambda path: parse_settings([f"scaling.target={path.read_text()}"]),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["brackets", "itself"])
def test_every_reader_refuses_it(reader: Callable[[Path], Any], kind: str, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(DEAR[kind])
    began = time.process_time()
    with pytest.raises(InputError):
        reader(file)
    assert time.process_time() - began < 2.5


@pytest.mark.parametrize("text", [t for t in DEAR.values() if len(t) < 1_000_000])
def test_lint_has_bounds_of_its_own(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(Malformed):
        list(parse(text, "f.yaml"))
    assert time.process_time() - began < 2.5


def test_nobody_reads_yaml_without_bounds() -> None:
    loose = re.compile(r"yaml\.(safe_load|full_load|unsafe_load|compose|load)(_all)?\((?!.*BoundedLoader)")
    found = [str(p.relative_to(SRC)) for p in SRC.rglob("*.py") if loose.search(p.read_text())]
    assert found == []


def test_what_people_write_is_read() -> None:
    text = "base: &b {x: 1, y: [1, 2]}\nall:\n" + "".join(f"- {{<<: *b, n: {i}}}\n" for i in range(1_000))
    found = yaml.load(text, BoundedLoader)
    assert found["all"][999] == {"x": 1, "y": [1, 2], "n": 999}
    deep = "[" * 90 + "]" * 90
    assert len(str(yaml.load(deep, BoundedLoader))) == 180
