"""A thousand replicas in the page: fifty of them at a time, found and turned over by the server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.e2e.console.browser import chromium, needed

SPEC = """apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  model: {source: "file:///none"}
"""
WAIT_MS = 30_000


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[str]:
    """The admin address of a gateway that was told of a thousand replicas; nobody asks them for anything."""
    needed()
    replicas = [
        {"name": f"m-{i:04}", "fleet": "m", "url": f"http://127.0.0.1:{20000 + i}", "ready": i % 100 != 7}
        for i in range(1000)
    ]
    (tmp_path / "replicas.json").write_text(json.dumps({"version": 1, "replicas": replicas}))
    (tmp_path / "fleet.yaml").write_text(SPEC)
    argv = [
        sys.executable,
        "-m",
        "seawall",
        "gateway",
        str(tmp_path / "fleet.yaml"),
        "--listen",
        "127.0.0.1:0",
    ]
    argv += ["--admin", "127.0.0.1:0", "--discovery", f"file:{tmp_path / 'replicas.json'}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().split()[-1]
        finally:
            child.terminate()


def test_pages_filters_and_trouble_first(admin: str) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{admin}/console")
        rows = page.locator("[data-replica]")
        expect(page.locator("#page-of")).to_have_text("page 1 of 20", timeout=WAIT_MS)
        expect(rows).to_have_count(50)
        assert [rows.nth(i).get_attribute("data-replica") for i in (0, 9, 10)] == [
            "m-0007",
            "m-0907",
            "m-0000",
        ]
        expect(page.locator("#replicas-body caption")).to_contain_text("990 ready, 10 draining")
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#page-of")).to_have_text("page 2 of 20", timeout=WAIT_MS)
        expect(page.locator('[data-replica="m-0041"]')).to_be_visible()
        page.locator("#phase").select_option("trouble")
        expect(rows).to_have_count(10, timeout=WAIT_MS)
        expect(page.locator("#pager")).to_be_hidden()
        page.locator("#phase").select_option("")
        page.locator("#find").fill("m-0999")
        expect(rows).to_have_count(1, timeout=WAIT_MS)
        assert page.evaluate("document.querySelectorAll('*').length") < 1500, "the page holds what it shows"
