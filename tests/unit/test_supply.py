"""What we depend on: advisories out of a copy, and the bill of what an image holds."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
RECORD = """
id: PYSEC-2026-1
modified: "2026-11-20T00:00:00Z"
affected:
- package: {name: H_2, ecosystem: PyPI}
  ranges:
  - type: GIT
    events: [{introduced: "0"}, {fixed: 4f2c0e1}]
  - type: ECOSYSTEM
    events: [{introduced: "0"}, {fixed: 4.0.1}, {introduced: "4.3"}, {fixed: 4.4.2}]
"""


@pytest.fixture(scope="module")
def advisories() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "advisories.py"))


@pytest.mark.parametrize(
    ("version", "wrong"),
    [("3.9", True), ("4.0.1", False), ("4.2", False), ("4.3", True), ("4.4.1", True), ("4.4.2", False)],
)
def test_a_version_is_within_a_record_s_ranges(
    version: str, wrong: bool, advisories: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "vulns" / "h2"
    folder.mkdir(parents=True)
    (folder / "PYSEC-2026-1.yaml").write_text(RECORD)
    (folder / "PYSEC-2026-2.yaml").write_text(RECORD.replace("-1\n", "-2\nwithdrawn: 2026-11-21\n"))
    of_npm = {"package": {"name": "h2", "ecosystem": "npm"}, "versions": [version]}
    (folder / "GHSA-x.json").write_text(
        json.dumps({"id": "GHSA-x", "modified": "2026-11-30", "affected": [of_npm]})
    )
    found, newest = advisories["in_copy"](tmp_path, {"h-2": {version}, "other": {version}})
    assert newest == "2026-11-30"
    assert [str(f) for f in found] == (
        [f"h-2 {version}: PYSEC-2026-1, mended in 4.0.1, 4.4.2"] if wrong else []
    )


def test_a_copy_of_nothing_says_so(
    advisories: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("[1, 2")
    (tmp_path / "b.json").write_text("{}")
    assert advisories["in_copy"](tmp_path, {"h2": {"1"}}) == ([], "")
    assert capsys.readouterr().out.count("is no record") == 2


def image(root: Path) -> list[str]:
    """A root as an image has it -> the arguments that describe it."""
    (root / "etc").mkdir()
    (root / "etc" / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    status = root / "var" / "lib" / "dpkg" / "status"
    status.parent.mkdir(parents=True)
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u7\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1:1\n"
    )
    info = root / "lib" / "Seawall_Thing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: Seawall_Thing\nVersion: 1.0\nLicense-Expression: MIT\n"
    )
    base = "python:3.12@sha256:" + "a" * 64
    return ["--root", str(root), "--packages", str(root / "lib"), "--base", base]


def test_an_image_s_bill_names_debian_s_packages_python_s_and_the_base(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    described = image(root)
    bills = []
    for name in ("one", "two"):
        out = tmp_path / name
        argv = [sys.executable, "-I", str(SCRIPTS / "image_bill.py"), *described, "--out", str(out)]
        subprocess.run(argv, check=True)
        bills.append(out.read_bytes())
    assert bills[0] == bills[1], "the same root gives the same bytes"
    bill = json.loads(bills[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert [c.get("purl") for c in bill["components"] if c["type"] == "library"] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u7?arch=amd64&distro=debian-12",
        "pkg:pypi/seawall-thing@1.0",
    ]
    (base,) = [c for c in bill["components"] if c["bom-ref"] == "base"]
    assert base["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert bill["components"][-1]["licenses"] == [{"expression": "MIT"}]
    refs = [c["bom-ref"] for c in bill["components"]]
    assert len(set(refs)) == len(refs)
