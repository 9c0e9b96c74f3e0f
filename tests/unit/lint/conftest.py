"""What the linter's stories share: the two manifests and a way to ask which rules speak."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

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
