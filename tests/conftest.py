"""What all tests share: hypothesis without deadlines (a loaded machine is no failure), and in CI the same examples
every time, so that a red run is about the change and not about luck; besides those, examples that failed before
(.ci/run keeps them). Locally every run explores anew.

Of the two workers of `make test` one runs what starts fleets, on real vLLM or simulated engines, one test after
another, so that no two of them compete for this machine; the other runs the rest, a file's tests together."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from xdist.scheduler import LoadScopeScheduling

from seawall.gateway import compiled

# What users run is tested, if it has been made; tests/unit/gateway/test_compiled.py runs the plain form as well.
compiled.use()
# Whoever runs tests may ignore Ctrl-C (a CI runner, a script's background job), and what they start would inherit that:
# a child that a test interrupts would never hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
FLEETS = ("tests/contract/", "tests/e2e/", "tests/unit/decide/resume/test_real_engine.py")
# Where CI is set, hypothesis loads a profile of its own that forgets what failed.
FOUND = Path(os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")) / "examples"
settings.register_profile(
    "seawall",
    deadline=None,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(FOUND),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("seawall")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI"):
        for item in items:
            if is_hypothesis_test(test := getattr(item, "obj", None)):
                # What `hypothesis.seed` sets; that, --hypothesis-seed and `derandomize` would forget what failed.
                getattr(
                    test, "__func__", test
                )._hypothesis_internal_use_seed = 0  # of a method: its function's


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "fleets" if file.startswith(FLEETS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)
