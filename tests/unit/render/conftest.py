"""Schemas to hold objects against, and fleets to render: what the tests of this folder share."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.unit.render import custom_resources
from tests.unit.render.custom_resources import VERSIONS, core_definitions, core_folder

from seawall.cli.fleets import group_of as group_of_files
from seawall.config.load import dump_fleet, parse_fleets
from seawall.decide.plan.bounds import bounded
from seawall.domain.action import Plan, StartupBudget
from seawall.domain.spec import Fleet
from seawall.render.everything import render
from seawall.render.inputs import Group, Object, Rendering, Wanted
from seawall.render.packaging.gitops import Repository
from seawall.render.packaging.package import Packaging, package

ROOT = Path(__file__).resolve().parents[3]

LLAMA = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: llama-70b, namespace: llm}
spec:
  model: {source: "hf://meta-llama/Llama-3.1-70B-Instruct", revision: abc123}
  hardware: {gpu: H100-80GB, cloud: gke}
  scaling: {min: 2, max: 6}
"""


@functools.cache
def _core_validator(version: str, api: str, kind: str) -> Any:
    group, _, tail = api.rpartition("/")
    stem = f"{group.split('.')[0]}-{tail}" if group else tail
    schema = json.loads((core_folder(version) / f"{kind.lower()}-{stem}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=core_definitions(version))


CORE_GROUPS = ("rbac.authorization", "networking", "discovery", "scheduling", "storage")


def is_core(api: str) -> bool:
    group = api.partition("/")[0]
    return "." not in group or group in [f"{name}.k8s.io" for name in CORE_GROUPS]


def check(obj: Object, versions: tuple[str, ...] = VERSIONS) -> None:
    """AssertionError with the path when `obj` is not what the API server's schema asks for."""
    api, kind = obj["apiVersion"], obj["kind"]
    name = f"{kind}/{obj['metadata']['name']}"
    _no_nulls(obj, name)
    if not is_core(api):
        for line in custom_resources.faults(obj):
            raise AssertionError(f"{name}: {line}")
        return
    for version in versions:
        for error in _core_validator(version, api, kind).iter_errors(obj):
            where = ".".join(map(str, error.absolute_path))
            raise AssertionError(f"{version} {name}: {where}: {error.message[:300]}")


def _no_nulls(value: Any, path: str) -> None:
    assert value is not None, f"{path} is null"
    if isinstance(value, dict):
        for key, item in value.items():
            _no_nulls(item, f"{path}.{key}")
    if isinstance(value, list):
        for n, item in enumerate(value):
            _no_nulls(item, f"{path}[{n}]")


def plan_for(fleet: Fleet, **changes: Any) -> Plan:
    """A plan made by hand, as the planner would fill it for a mid-sized model."""
    hardware = fleet.spec.hardware
    gpus = 0 if hardware.gpu == "cpu" else hardware.gpus_per_replica or hardware.tensor_parallel or 4
    values: dict[str, Any] = {
        "fleet": fleet.name,
        "model": fleet.spec.model.source,
        "fits": True,
        "reason": "fits",
        "gpu": "H100-80GB" if hardware.gpu == "auto" else hardware.gpu,
        "gpus_per_replica": gpus,
        "tensor_parallel": hardware.tensor_parallel or max(1, gpus),
        "weights_bytes": 141 * 10**9,
        "max_model_len": 16384,
        "scaling_target": 90.0,
        "saturating_concurrency": 128,
        "engine_queue_bound": 190,
        "gateway_queue_bound": 400,
        "startup": StartupBudget(image_s=80, weights_s=175, load_s=90, total_s=400),
        "host_memory_bytes": 24 * 2**30,
        "volume_bytes": 170 * 10**9,
    }
    return Plan(**{**values, **changes})


def group_of(text: str, lock: str | None = None, **changes: Any) -> Group:
    fleets = parse_fleets(text)
    plans = {f.name: plan_for(f, **changes) for f in fleets}
    return Group(
        members=tuple(
            Wanted(fleet=f, plan=plans[f.name], document=dump_fleet(bounded(f, plans[f.name])), lock=lock)
            for f in fleets
        )
    )


@pytest.fixture(scope="session")
def valid() -> Callable[..., None]:
    return check


@pytest.fixture(scope="session")
def group() -> Callable[..., Group]:
    return group_of


@pytest.fixture(scope="session")
def llama() -> str:
    return LLAMA


@pytest.fixture(scope="session")
def planned() -> Callable[..., Plan]:
    return plan_for


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def tool(name: str) -> str:
    """Path of helm, kubectl or promtool; AssertionError says how to get it."""
    own = ROOT / ".cache" / "tools" / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    assert found, f"{name} is missing: run scripts/test_tools.sh"
    return found


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    """Runs one of the tools and gives its stdout; AssertionError with its stderr when it fails."""

    def call(name: str, *args: str) -> str:
        done = subprocess.run(
            [tool(name), *args],
            capture_output=True,
            text=True,
            timeout=100,
            env={"HOME": "/tmp", "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, f"{name} {' '.join(args)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    return call


EXAMPLES = sorted(p.stem for p in (ROOT / "examples").glob("*.yaml"))


@functools.cache
def example(name: str) -> Rendering:
    """An example, planned by the real planner and rendered."""
    return render(group_of_files([str(ROOT / "examples" / f"{name}.yaml")]))


@pytest.fixture(params=EXAMPLES)
def rendering(request: pytest.FixtureRequest) -> Rendering:
    """Every example in turn."""
    return example(request.param)


@pytest.fixture(scope="session")
def crds() -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) -> OpenAPI schema of every custom resource that we know, rules and defaults in it."""
    return custom_resources.definitions()


@functools.cache
def _forms(name: str) -> dict[str, list[Object]]:
    """Every packaging of an example as the objects that reach a cluster; kustomize's overlays are built."""
    rendering, where = example(name), Repository(url="https://git.example.com/llm/deploy")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    out = {"plain and helm": list(rendering.objects)}
    packagings: tuple[Packaging, ...] = ("argocd", "flux")
    for packaging in packagings:
        text = "\n---\n".join(package(rendering, packaging, where).values())
        out[packaging] = [d for d in yaml.load_all(text, Loader=loader) if d and "metadata" in d]
    with tempfile.TemporaryDirectory() as folder:
        for path, text in package(rendering, "kustomize", where).items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text)
        for overlay in sorted((Path(folder) / "overlays").iterdir()):
            done = subprocess.run(
                [tool("kubectl"), "kustomize", str(overlay)], capture_output=True, text=True, check=True
            )
            out[f"kustomize {overlay.name}"] = [d for d in yaml.load_all(done.stdout, Loader=loader) if d]
    return out


@pytest.fixture(params=EXAMPLES)
def forms(request: pytest.FixtureRequest) -> dict[str, list[Object]]:
    """Every example in turn: packaging -> its objects. (Helm's are the plain ones: test_packagings.py.)"""
    return _forms(request.param)
