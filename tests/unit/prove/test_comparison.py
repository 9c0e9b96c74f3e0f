"""The page of the comparison: drawn from what is kept, without running anything."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/comparison.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("comparison", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_cell(target: str, scenario: str, **more: Any) -> dict[str, Any]:
    how = {"day": "2026-11-30", "jobs": 4, "streams": 12, "load": [1.0, 9.5], "minutes": 3.0}
    counts = {"started": 40, "finished": 31, "rejected": 0, "lost": 9, "wrong_tokens": 0, "doubled_tokens": 0}
    rest = {"worst_stall_s": 0.4, "losses": {"eof": 9}, "broken": ["9 streams lost"], "why": ""}
    own = {"target": target, "scenario": scenario, "state": "broken", "how": how}
    return {**counts, **rest, **own, "cut_though_healthy": 0, "wasted_engine_tokens": 1234, **more}


def a_store() -> dict[str, Any]:
    cells = [
        a_cell("nginx", "kill"),
        a_cell("seawall", "kill", state="kept", lost=0, finished=40, broken=[], losses={}),
        a_cell("seawall", "hung", lost=0, broken=["a stall of 44.0 s, more than 40 s"], losses={}),
        {
            "target": "direct",
            "scenario": "gateway-kill",
            "state": "not applicable",
            "why": "a | b",
            "how": a_cell("", "")["how"],
        },
        {
            "target": "smg",
            "scenario": "",
            "state": "failed",
            "why": "no registry here",
            "how": a_cell("", "")["how"],
        },
        a_cell("direct", "reattach", lost=0, doubled_tokens=7, wrong_tokens=9),
    ]
    facts = {
        "title": "nginx", "version": "1.22", "source": "Debian nginx", "command": ["nginx", "-c", "DIR/nginx.conf"],
        "files": {"nginx.conf": "daemon off;"}, "settings": ["least_conn"],
    }  # fmt: skip
    store = {
        "cells": {f"{c['target']}/{c['scenario']}": c for c in cells},
        "targets": {"nginx": facts},
        "machine": "2 cores",
    }
    return json.loads(json.dumps(store))  # type: ignore[no-any-return]


def test_the_page_says_what_was_run_when_and_where_and_shows_our_own_red_cells(script: ModuleType) -> None:
    text = "\n".join(script.page(a_store()))
    assert "| scenario | direct | seawall | nginx |" in text
    assert "**9 of 40 lost**" in text and "| ok |" in text
    assert "**a stall of 44.0 s, more than 40 s**" in text, "ours is red like any other"
    assert "**7 tokens doubled**" in text and "| n/a |" in text and "not run" in text
    assert "2026-11-30" in text and "2 cores" in text and "1.0 to 9.5" in text and "12 clients" in text
    assert "3 minutes in 1 run." in text
    assert "daemon off;" in text and "nginx -c DIR/nginx.conf" in text and "- least_conn" in text
    assert "1,234" in text and "9 eof" in text
    assert "a / b" in text, "a bar would end the cell"
    assert "production-stack" in text, "what cannot be had is said"
    assert "- `smg`: no registry here" in text
    assert all(line.count("|") == 12 for line in text.splitlines() if line.startswith("| nginx |"))


def test_every_row_of_a_table_is_as_wide_as_its_head(script: ModuleType) -> None:
    width = 0
    for line in "\n".join(script.page(a_store())).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line
