"""What the linter's stories share: the two manifests and a way to ask which rules speak."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.cli.lint import _model
from seawall.lint.run import Options, Report, lint_text
from seawall.lint.source import Sources, add_text

DATA = Path(__file__).parent / "data"
OPTIONS = Options(models=_model)

Lint = Callable[[str], Report]


@pytest.fixture
def good() -> str:
    return (DATA / "good.yaml").read_text("utf-8")


@pytest.fixture
def popular() -> str:
    return (DATA / "popular.yaml").read_text("utf-8")


@functools.cache
def _linted(text: str) -> Report:
    return lint_text(text, options=OPTIONS)


@pytest.fixture
def lint() -> Lint:
    return _linted


@pytest.fixture
def options() -> Options:
    return OPTIONS


@pytest.fixture
def sources() -> Callable[[str], Sources]:
    def made(text: str) -> Sources:
        out = Sources()
        add_text(out, "manifest.yaml", text)
        return out

    return made


GONE = object()
"""In a change: the field is left out."""
_SHORT = {
    "c": ("Deployment", ("spec", "template", "spec", "containers", 0)),
    "pod": ("Deployment", ("spec", "template", "spec")),
    "labels": ("Deployment", ("spec", "template", "metadata", "labels")),
    "spec": ("Deployment", ("spec",)),
}
Changes = dict[str, Any]


def changed(text: str, changes: Changes) -> str:
    """The objects of `text` with fields changed. A key is `c/livenessProbe/periodSeconds` (c, pod and spec are those of
    the Deployment; else a kind) or, with `+` behind it, a list that its value is added to; `+` alone adds objects."""
    docs = list(yaml.load_all(text, _NoAliases))
    for path, value in changes.items():
        if path == "+":
            docs += list(yaml.safe_load_all(value))
            continue
        first, *rest = path.rstrip("+").split("/")
        kind, start = _SHORT.get(first, (first, ()))
        steps = [*start, *(int(k) if re.fullmatch(r"\d+", k) else k.replace("~", "/") for k in rest)]
        node: Any = next(d for d in docs if d["kind"] == kind)
        for step in steps[:-1]:
            node = node[step]
        if path.endswith("+"):
            node.setdefault(steps[-1], []).extend(value if isinstance(value, list) else [value])
        elif value is GONE:
            del node[steps[-1]]
        else:
            node[steps[-1]] = value
    return yaml.dump_all(docs, Dumper=_Plain, sort_keys=False)


class _NoAliases(yaml.SafeLoader):
    """Reads each alias as a copy, so that a change has one place."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        found = super().compose_node(parent, index)
        return copy.deepcopy(found)


class _Plain(yaml.SafeDumper):
    """Writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.fixture
def said(good: str) -> Callable[[Changes], dict[str, str]]:
    """Rule -> severity of what is said of the careful person's manifest with some fields changed."""

    def of(changes: Changes) -> dict[str, str]:
        return {f.rule: f.severity for f in _linted(changed(good, changes)).findings}

    return of
