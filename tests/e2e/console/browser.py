"""Headless Chromium for tests and for the docs' pictures: Debian's, driven by Playwright, talking to loopback alone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
MISSING = "no Chromium is installed here; scripts/test_tools.sh installs Debian's package chromium (as root)"


def found() -> str | None:
    """The path of a Chromium on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def needed() -> None:
    """Ends a test that has no browser: skipped on a person's machine, failed in CI, which has one."""
    if found() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, ended at the end."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found(), args=list(ARGS))
        try:
            yield browser
        finally:
            browser.close()
