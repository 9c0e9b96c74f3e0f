"""`seawall render` as a person runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seawall.render.packaging.prereqs import CHARTS, prerequisites

ROOT = Path(__file__).resolve().parents[3]
SPEC = str(ROOT / "examples" / "llama-70b-4xh100.yaml")


def seawall(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seawall", "render", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


def test_objects_go_to_stdout_and_notes_to_stderr() -> None:
    done = seawall(SPEC)
    assert done.returncode == 0
    assert len(list(yaml.safe_load_all(done.stdout))) > 15
    assert (
        "you provide: Secret llm/hub: kubectl -n llm create secret generic hub --from-literal=token="
        in done.stderr
    )
    assert "docker build -f Containerfile -t REGISTRY/seawall:" in done.stderr
    assert done.stdout == seawall(SPEC).stdout


def test_a_folder_gets_files_and_the_next_command(tmp_path: Path) -> None:
    done = seawall(SPEC, "--format", "kustomize", "-o", str(tmp_path / "d"))
    assert done.returncode == 0
    assert (tmp_path / "d" / "overlays" / "prod" / "kustomization.yaml").exists()
    assert "without KEDA and the Prometheus operator" in done.stdout
    assert "seawall render cluster-prereqs -o prereqs && sh prereqs/install.sh" in done.stdout
    assert done.stdout.rstrip().endswith(f"kubectl apply --server-side -k {tmp_path}/d/overlays/prod")


def test_a_refusal_is_two_with_path_and_cure(tmp_path: Path) -> None:
    spec = tmp_path / "f.yaml"
    spec.write_text(Path(SPEC).read_text().replace("storageClass: cephfs", "accessMode: ReadOnlyMany"))
    done = seawall(str(spec))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "spec.cache.accessMode" in done.stderr and "dataSource" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = seawall(SPEC, "-o", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "Name a folder" in done.stderr


def test_a_lockfile_beside_the_spec_is_found_and_checked(tmp_path: Path) -> None:
    spec = tmp_path / "f.yaml"
    spec.write_text(Path(SPEC).read_text())
    lock = tmp_path / "llama-70b.lock"
    files = [{"path": "config.json", "size": 2, "sha256": "0" * 64}]
    lock.write_text(json.dumps({"version": 1, "source": "hf://a/b", "revision": "c", "files": files}))
    done = seawall(str(spec))
    maps = [o for o in yaml.safe_load_all(done.stdout) if o["metadata"]["name"] == "llama-70b-lock"]
    assert maps and "config.json" in maps[0]["data"]["seawall.lock"]
    lock.write_text("{half")
    done = seawall(str(spec))
    assert done.returncode == 2
    assert "not a lockfile" in done.stderr


def test_prerequisites_are_pinned_and_their_script_is_a_script(tmp_path: Path) -> None:
    done = seawall("cluster-prereqs", "-o", str(tmp_path))
    assert done.returncode == 0
    subprocess.run(["sh", "-n", str(tmp_path / "install.sh")], check=True)
    script = (tmp_path / "install.sh").read_text()
    for chart in CHARTS:
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", chart.version)
        assert f"--version {chart.version}" in script
        assert yaml.safe_load((tmp_path / "values" / f"{chart.release}.yaml").read_text()) == chart.values
    assert set(prerequisites()) == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("packaging", ["plain", "kustomize", "helm", "argocd", "flux"])
def test_no_packaging_names_a_machine_or_a_secret(packaging: str, tmp_path: Path) -> None:
    assert seawall(SPEC, "--format", packaging, "-o", str(tmp_path)).returncode == 0
    text = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert str(ROOT) not in text
    assert "kind: Secret\n" not in text
