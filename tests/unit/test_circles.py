"""No file imports a file that imports it, however long the way: `TYPE_CHECKING` hides such a circle and ends none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

STILL: frozenset[str] = frozenset()
"""Modules that are still in a circle. This list only gets shorter."""


def imports(root: Path, package: str) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports at its top level, below `if TYPE_CHECKING` too."""
    files = {
        ".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p
        for p in (root / package).rglob("*.py")
    }
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in _top(ast.parse(path.read_text("utf-8")).body):
            if isinstance(node, ast.Import):
                graph[name] |= {a.name for a in node.names} & files.keys()
            elif node.module in files:
                inner = {f"{node.module}.{a.name}" for a in node.names}
                graph[name] |= (inner & files.keys()) or {node.module}
        graph[name].discard(name)
    return graph


def _top(body: list[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    found: list[ast.Import | ast.ImportFrom] = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            found += _top([*node.body, *getattr(node, "orelse", [])])
    return found


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The modules that can be reached from themselves."""
    reach = {name: set(to) for name, to in graph.items()}
    grown = True
    while grown:
        grown = False
        for seen in reach.values():
            further = set().union(*(reach[n] for n in seen)) if seen else set()
            if not further <= seen:
                seen |= further
                grown = True
    return {name for name, seen in reach.items() if name in seen}


def test_no_module_imports_itself_by_a_way_round() -> None:
    now = circles(imports(SRC, "seawall"))
    assert now <= STILL, f"new in a circle: {sorted(now - STILL)}"
    assert now >= STILL, f"in no circle any more, take them off the list: {sorted(STILL - now)}"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a": "import p.b", "b": ""}, set()),
        ({"a": "import p.b", "b": "from p import a"}, {"p.a", "p.b"}),
        (
            {"a": "from p.b import x", "b": "from p.c import y", "c": "from p.a import z"},
            {"p.a", "p.b", "p.c"},
        ),
        ({"a": "import p.b", "b": "if TYPE_CHECKING:\n    from p.a import T"}, {"p.a", "p.b"}),
        ({"a": "import p.b", "b": "def f():\n    from p import a"}, set()),
    ],
)
def test_what_a_circle_is(files: dict[str, str], found: set[str], tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "__init__.py").touch()
    for name, text in files.items():
        (tmp_path / "p" / f"{name}.py").write_text(text)
    assert circles(imports(tmp_path, "p")) == found
