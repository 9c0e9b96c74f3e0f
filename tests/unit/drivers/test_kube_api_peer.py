"""The API double against a real client that is not ours: kubectl, and what both of us do to one object."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.drivers.kube import connect
from seawall.errors import ClusterError
from seawall.operator.apply import apply, changes, insist
from seawall.testing.kube_api import KubeApi

ROOT = Path(__file__).parents[3]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm"}})
        yield double


@pytest.fixture
def kubectl(api: KubeApi, tmp_path: Path) -> Kubectl:
    own = ROOT / ".cache" / "tools" / "bin" / "kubectl"
    program = str(own) if own.exists() else shutil.which("kubectl")
    assert program, "kubectl: run scripts/test_tools.sh"
    config = api.kubeconfig(tmp_path, "llm")

    def run(*args: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        argv = [program, f"--cache-dir={tmp_path}/cache", "--kubeconfig", config, *args]
        text = json.dumps(given) if given else ""
        return subprocess.run(argv, capture_output=True, text=True, input=text, timeout=60)

    return run


def service(port: int) -> dict[str, Any]:
    meta = {"name": "s", "namespace": "llm"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"ports": [{"port": port}], "sessionAffinity": "None"},
    }


async def test_kubectl_and_we_share_one_object(api: KubeApi, kubectl: Kubectl, tmp_path: Path) -> None:
    told = kubectl("apply", "--server-side", "--validate=false", "-f", "-", given=service(80))
    assert told.returncode == 0, told.stderr
    seen = json.loads(kubectl("get", "service", "s", "-o", "json").stdout)
    assert seen["spec"]["type"] == "ClusterIP", "defaults as a server fills them in"
    wanted = service(80)
    wanted["spec"]["sessionAffinity"] = "ClientIP"
    async with connect(kubeconfig=api.kubeconfig(tmp_path, "llm")) as kube:
        with pytest.raises(ClusterError, match="kubectl"):
            insist(await changes(kube, [wanted], "gw", "llm"))
        await apply(kube, [wanted], "gw", "llm", force=True)
    told = kubectl("apply", "--server-side", "--validate=false", "-f", "-", given=service(80))
    assert told.returncode != 0
    assert '"seawall"' in told.stderr or "managed by seawall" in told.stderr
    assert "s" in kubectl("get", "services").stdout
    assert "services" in kubectl("api-resources").stdout
    assert kubectl("delete", "service", "s", "--wait=false").returncode == 0
    assert kubectl("get", "service", "s").returncode != 0
