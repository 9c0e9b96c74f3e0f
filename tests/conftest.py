"""What all tests share: hypothesis without deadlines (a loaded machine is no failure), and in CI the same examples
every time, so that a red run is about the change and not about luck. Locally every run explores anew.

With two workers (`make test WORKERS=2`), one runs what starts fleets, on real vLLM or simulated engines, one test after
another, so that no two of them compete for this machine; the other runs the rest, a file's tests together."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from seawall.gateway import compiled

# What users run is tested, if it has been made; tests/unit/gateway/test_compiled.py runs the plain form as well.
compiled.use()
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fleets = item.get_closest_marker("engine") or "e2e" in item.path.parts
        group = "fleets" if fleets else f"{item.path.parent.name}/{item.path.name}"
        item.add_marker(pytest.mark.xdist_group(group))
