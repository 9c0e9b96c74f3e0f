"""A name means one thing: no class or type of ours is called like another one that is something else.

Two aliases of one meaning (`Object = dict[str, Any]`) are no clash; they are compared by what they stand for.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "seawall"


def meanings(root: Path) -> dict[str, set[str]]:
    """Name -> the files that define it, where their definitions differ. A class differs from every other one."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, {}).setdefault(f"class in {file}", set()).add(file)
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if re.match("[A-Z][a-z]", name):
                    found.setdefault(name, {}).setdefault(ast.unparse(value), set()).add(file)
    return {name: set.union(*by.values()) for name, by in found.items() if len(by) > 1}


def test_a_name_means_one_thing() -> None:
    now = meanings(SRC)
    assert not now, f"already the name of something else; find a more exact one: {now}"


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        ("class Ask: ...", "class Ask: ...", True),
        ("class Ask: ...", "Ask = dict[str, int]", True),
        ("Ask = dict[str, int]", "Ask = dict[str, int]", False),
        ("Ask = dict[str, int]", "Ask = tuple[int]", True),
        ("ASK = 1", "ASK = 2", False),
        ("class Ask: ...", "class Question: ...", False),
        ("def f():\n    class Ask: ...", "class Ask: ...", True),
    ],
)
def test_what_counts_as_a_clash(one: str, two: str, clash: bool, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(one)
    (tmp_path / "two.py").write_text(two)
    assert bool(meanings(tmp_path)) == clash
