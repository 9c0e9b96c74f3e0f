"""The API double against a real client that is not ours: kubectl, and what both of us do to one object."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from seawall.cli.group import seawall
from seawall.drivers.kube import connect
from seawall.errors import ClusterError
from seawall.operator.apply import apply, changes, insist
from seawall.operator.crd import fleet_crd
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import SERVED, KubeApi
from seawall.testing.kube_strict import establish

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


async def test_kubectl_explains_every_field_of_a_fleet(api: KubeApi, kubectl: Kubectl) -> None:
    """From the definition that we install, by OpenAPI v3, as a person reads it who has no page of ours at hand."""
    definition = fleet_crd()
    api.put(definition)
    establish(api, definition)
    whole = kubectl("explain", "fleets", "--recursive")
    assert whole.returncode == 0, whole.stderr
    listed = [line.split("\t")[0].strip() for line in whole.stdout.splitlines() if "\t<" in line]
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def names(part: dict[str, Any]) -> Iterator[str]:
        for name, inner in part.get("properties", {}).items():
            yield name
            yield from names(inner)
            yield from names(inner.get("items", {}))
            yield from names(inner.get("additionalProperties", {}))

    assert set(names(schema)) <= set(listed) and len(listed) > 150
    for field in ("spec.gateway.tenants.name", "spec.scaling", "status", "status.pool", "status.conditions"):
        one = kubectl("explain", f"fleets.{field}")
        assert one.returncode == 0 and "DESCRIPTION:" in one.stdout
        assert "<empty>" not in one.stdout and "<no description>" not in one.stdout, field


async def test_kubectl_validates_a_fleet_before_it_is_taken(api: KubeApi, kubectl: Kubectl) -> None:
    """A field that is typed wrongly is an error for kubectl's default, a warning or nothing for who asks for that."""
    definition = fleet_crd()
    api.put(definition)
    establish(api, definition)
    spec = {"model": {"source": "hf://a/b"}, "hardwear": {}}
    meta = {"name": "one", "namespace": "llm"}
    fleet = {"apiVersion": "seawall.dev/v1alpha1", "kind": "Fleet", "metadata": meta, "spec": spec}
    told = kubectl("create", "-f", "-", given=fleet)
    assert told.returncode != 0 and 'unknown field "spec.hardwear"' in told.stderr
    told = kubectl("apply", "--server-side", "-f", "-", given=fleet)
    assert told.returncode != 0 and ".spec.hardwear: field not declared in schema" in told.stderr
    told = kubectl("create", "--validate=warn", "-f", "-", given=fleet)
    assert told.returncode == 0 and 'Warning: unknown field "spec.hardwear"' in told.stderr
    assert "hardwear" not in api.objects("seawall.dev/v1alpha1", "fleets")["llm", "one"]["spec"], "and pruned"


async def test_kubectl_sees_a_group_that_is_lost_or_stale_as_a_real_server_shows_it(
    api: KubeApi, kubectl: Kubectl, tmp_path: Path
) -> None:
    api.served["keda.sh/v1alpha1"] = "scaledobjects"
    assert "scaledobjects" in kubectl("api-resources", "--cached=false").stdout
    api.faults.unlisted = {"keda.sh/v1alpha1"}
    assert "scaledobjects" not in kubectl("api-resources", "--cached=false").stdout
    api.faults.unlisted, api.faults.stale = set(), {"keda.sh/v1alpha1"}
    told = kubectl("api-resources", "--cached=false").stdout
    assert "deployments" in told and "scaledobjects" not in told
    (group,) = [
        i for i in json.loads(kubectl("get", "--raw", "/apis").stdout)["groups"] if i["name"] == "keda.sh"
    ]
    assert group["versions"][0]["groupVersion"] == "keda.sh/v1alpha1", "the plain list still names it"
    async with connect(kubeconfig=api.kubeconfig(tmp_path, "llm")) as kube:
        kube.clock = JumpClock()
        with pytest.raises(ClusterError, match="503"):
            await kube.kinds("keda.sh/v1alpha1")


def test_rendered_files_that_are_taken_away_leave_the_namespace_and_the_weights(
    kubectl: Kubectl, api: KubeApi, tmp_path: Path
) -> None:
    """By the very commands that `seawall render -o DIR` prints."""
    api.served = dict(SERVED)
    told = CliRunner().invoke(
        seawall, ["render", str(ROOT / "examples" / "llama-70b-4xh100.yaml"), "-o", str(tmp_path / "deploy")]
    )
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    away = next(line for line in lines if line.startswith("Away again: "))
    assert shlex.split(lines[-1])[:2] == ["Next:", "kubectl"]
    put = kubectl(*shlex.split(lines[-1])[2:], "--validate=false")
    assert put.returncode == 0, put.stderr
    gone = kubectl(*shlex.split(away.partition(" (")[0])[3:], "--wait=false")
    assert gone.returncode == 0, gone.stderr
    left = {
        (plural, name)
        for version, entries in SERVED.items()
        for plural in (e.partition(":")[0] for e in entries.split())
        for _, name in api.objects(version, plural)
    }
    claims = {name for _, name in api.objects("v1", "persistentvolumeclaims")}
    assert claims and left == {("namespaces", "llm"), *(("persistentvolumeclaims", c) for c in claims)}


def test_helm_uninstall_leaves_the_namespace_the_weights_and_the_users_secrets(
    api: KubeApi, tmp_path: Path
) -> None:
    """By helm itself, of what the chart makes where it is told to make the namespace, too. The release is written here
    as helm stores one: helm writes it in a form (protobuf) that the double does not read."""
    api.served = dict(SERVED)
    chart = tmp_path / "chart"
    example = str(ROOT / "examples" / "llama-70b-4xh100.yaml")
    told = CliRunner().invoke(seawall, ["render", example, "--format", "helm", "-o", str(chart)])
    assert told.exit_code == 0, told.output
    away = next(line for line in told.output.splitlines() if line.startswith("Away again: "))
    words = shlex.split(away.removeprefix("Away again: ").partition(" (")[0])
    assert words[:2] == ["helm", "uninstall"]
    helm = [str(ROOT / ".cache" / "tools" / "bin" / "helm"), "--kubeconfig", api.kubeconfig(tmp_path, "llm")]

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*helm, *args], capture_output=True, text=True, timeout=60)

    manifest = run("template", words[2], str(chart), "-n", "llm", "--set", "createNamespace=true").stdout
    made = [o for o in yaml.safe_load_all(manifest) if o]
    for obj in made:
        meta = obj["metadata"]
        meta["labels"]["app.kubernetes.io/managed-by"] = "Helm"  # as helm marks what a release has made
        notes = {"meta.helm.sh/release-name": words[2], "meta.helm.sh/release-namespace": "llm"}
        api.put({**obj, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), **notes}}})
    user_s = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub", "namespace": "llm"}}
    api.put(user_s)
    release = {"name": words[2], "namespace": "llm", "version": 1, "manifest": manifest}
    release |= {"info": {"status": "deployed"}, "chart": {"metadata": {"name": words[2], "version": "0.1.0"}}}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    labels = {"owner": "helm", "name": words[2], "status": "deployed", "version": "1"}
    meta = {"name": f"sh.helm.release.v1.{words[2]}.v1", "namespace": "llm", "labels": labels}
    api.put({**user_s, "metadata": meta, "type": "helm.sh/release.v1", "data": {"release": packed}})
    assert len(made) > 10
    said = run(*words[1:]).stderr
    assert said.rstrip().endswith(
        "Failed to purge the release: the body of the request was in an unknown format"
    ), said
    api.remove("v1", "secrets", meta["name"], "llm")  # which helm asks for in that form, too
    left = {
        (plural, name)
        for version, entries in SERVED.items()
        for plural in (e.partition(":")[0] for e in entries.split())
        for _, name in api.objects(version, plural)
    }
    claims = {o["metadata"]["name"] for o in made if o["kind"] == "PersistentVolumeClaim"}
    kept = {("namespaces", "llm"), ("secrets", "hub"), *(("persistentvolumeclaims", c) for c in claims)}
    assert claims and left == kept
