"""`seawall lint` of nothing is no approval, and our own Fleet is judged as one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FLEET = """apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: mine}}
spec:
  model: {{source: "hf://a/b"}}
  {more}
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"


def lint(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "seawall", "lint", *args]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True)


@pytest.mark.parametrize(
    "stdin", ["", "\n\n", "# nothing here\n", "---\n---\n", "null\n", "a: 1\n", "- 1\n", "text\n"]
)
@pytest.mark.parametrize("with_a_file", [False, True])
def test_a_pipe_without_an_object_is_an_error(tmp_path: Path, stdin: str, with_a_file: bool) -> None:
    """`helm template` failed: in CI that must not be green."""
    file = tmp_path / "a.yaml"
    file.write_text(SERVICE)
    done = lint("-", *([str(file)] if with_a_file else []), stdin=stdin)
    assert done.returncode == 2
    assert "standard input" in done.stderr


def test_a_file_or_folder_without_an_object_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("image: {tag: v1}\n")
    for path in (tmp_path, tmp_path / "values.yaml"):
        done = lint(str(path))
        assert done.returncode == 2
        assert "no Kubernetes object" in done.stderr
    assert lint("-", stdin=SERVICE).returncode == 0


def test_a_fleet_is_validated_as_a_fleet(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.format(more="replicas: 3") + "---\n" + SERVICE)
    done = lint("--json", str(file))
    assert done.returncode == 1
    found = json.loads(done.stdout)["findings"]
    assert [(f["rule"], f["line"], f["object"]) for f in found] == [("fleet/invalid", 6, "Fleet/mine")]
    assert "spec.scaling.min" in found[0]["message"]
    file.write_text(FLEET.format(more="scaling: {max: 3}"))
    assert lint(str(file)).returncode == 0
    file.write_text("apiVersion: fleet.cattle.io/v1alpha1\nkind: Fleet\nmetadata: {name: other}\n")
    assert lint(str(file)).returncode == 0, "another product's Fleet is none of ours"
