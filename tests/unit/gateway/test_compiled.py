"""The compiled form of the gateway's hot path: that it is what the tests run, and that plain Python does the same."""

from __future__ import annotations

import ast
import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from seawall.gateway import compiled

ROOT = Path(__file__).resolve().parents[3]
STORIES = ("test_protocol.py", "test_failure.py", "test_cycles.py")
"""What is run again on the plain form, or the compiled one: the wire, breaks, and what is left in memory."""


def files(name: str) -> str:
    return str(importlib.import_module(name).__file__)


def test_every_hot_module_runs_in_the_form_that_was_made() -> None:
    lacking = runpy.run_path(str(ROOT / "scripts" / "compile_gateway.py"))["missing"]()
    if lacking or os.environ.get("SEAWALL_COMPILED") == "0":
        assert not compiled.active()
        pytest.skip(f"plain: {lacking or 'SEAWALL_COMPILED=0'}")
    assert compiled.active(), "the sources have changed since: scripts/compile_gateway.py makes the form anew"
    assert {Path(files(m)).suffix for m in compiled.MODULES} == {".so"}


def test_a_changed_source_is_plain_python_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in compiled.READ:
        shutil.copytree(compiled.ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    before = compiled.folder()
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    assert compiled.folder() == before
    with (tmp_path / "seawall/domain/units.py").open("a") as source:
        source.write("\n")
    assert compiled.folder() != before


@pytest.mark.parametrize("module", compiled.MODULES)
def test_no_bound_of_a_slice_does_anything(module: str) -> None:
    """mypyc 2.4 evaluates the bounds of a slice of something that is no list, str or bytes twice."""
    source = (compiled.ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
    slices = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Slice)]
    calls = [n for s in slices for n in ast.walk(s) if isinstance(n, ast.Call | ast.NamedExpr | ast.Await)]
    harmless = {"len", "max", "min", "end", "find"}
    names = {
        getattr(c.func, "id", getattr(c.func, "attr", "")) if isinstance(c, ast.Call) else "" for c in calls
    }
    assert names <= harmless, f"{module}: give the bound a name first"


def told_to_be_none(function: ast.FunctionDef) -> set[str]:
    """Attributes of `self` that are read behind `if self.x is not None ...: return`, and were not set between."""
    none: set[str] = set()
    again: set[str] = set()
    for statement in function.body:
        leaves = isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Return)
        for node in [] if leaves else ast.walk(statement):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self":
                if isinstance(node.ctx, ast.Store):
                    none.discard(node.attr)
                elif node.attr in none:
                    again.add(node.attr)
        if leaves and isinstance(statement, ast.If):
            test = statement.test
            tests = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) else [test]
            for one in tests:
                if ast.unparse(one).endswith(" is not None") and isinstance(one, ast.Compare):
                    none.add(ast.unparse(one.left).removeprefix("self."))
    return again


@pytest.mark.parametrize("module", compiled.MODULES)
def test_what_was_none_is_not_taken_to_be_so_behind_a_call(module: str) -> None:
    """mypy believes that an attribute that was None still is, whatever was called since; compiled, that is an error."""
    source = (compiled.ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    found = {f.name: again for f in functions if (again := told_to_be_none(f))}
    assert not found, f"{module}: look again in a function of its own"


@pytest.mark.slow
def test_plain_python_passes_the_same_stories() -> None:
    env: dict[str, Any] = {**os.environ, "SEAWALL_COMPILED": "0"}
    here = Path(__file__).parent
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *(str(here / s) for s in STORIES),
    ]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_what_an_extra_brings_is_not_needed_to_compile() -> None:
    """The compiler follows imports; an environment without the extra must not fail for types that it lacks."""
    with (ROOT / "pyproject.toml").open("rb") as f:
        project = tomllib.load(f)
    overrides = [m for o in project["tool"]["mypy"]["overrides"] for m in o["module"]]
    of_extras = {
        re.split(r"[\[<>=; ]", line)[0].lower()
        for name, lines in project["project"]["optional-dependencies"].items()
        if name != "dev"
        for line in lines
    }
    brought = {
        package
        for package, dists in packages_distributions().items()
        if {d.lower() for d in dists} & of_extras
    }
    assert "opentelemetry" in brought
    for path in (compiled.ROOT / "seawall/gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in names} & brought:
                assert f"{top}.*" in overrides, f"{path}: pyproject.toml has no override for {top}"
