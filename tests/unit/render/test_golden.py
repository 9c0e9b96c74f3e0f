"""Golden files: a change of any rendered byte is seen in review. SEAWALL_UPDATE_GOLDEN=1 rewrites them.

Plans are made by hand here, so that the planner may improve without touching these files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.render.everything import render
from seawall.render.inputs import Group
from seawall.render.yaml import dump_all

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted(p.stem for p in (ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_renders_to_its_golden_file(name: str, group: Callable[..., Group]) -> None:
    text = (ROOT / "examples" / f"{name}.yaml").read_text()
    nodes = {"nodes_per_replica": 2, "gpus_per_replica": 16, "tensor_parallel": 8, "pipeline_parallel": 2}
    changes = nodes if "multi-node" in name else {}
    objects = render(group(text, **changes)).objects
    for obj in objects:
        if "probe.py" in obj.get("data", {}):
            obj["data"] = {"probe.py": "(engine_probe.py)", "evidence.py": "(evidence.py)"}
    got = dump_all(objects)
    golden = ROOT / "tests" / "golden" / f"{name}.yaml"
    if os.environ.get("SEAWALL_UPDATE_GOLDEN"):
        golden.write_text(got)
    assert golden.exists(), f"{golden.name} is missing; SEAWALL_UPDATE_GOLDEN=1 writes it"
    assert got == golden.read_text(), f"{golden.name} differs; SEAWALL_UPDATE_GOLDEN=1 rewrites it"
