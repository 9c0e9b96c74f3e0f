"""Schemas to hold objects against, and fleets to render: what the tests of this folder share."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from referencing import Registry, Resource

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
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
_SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"

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
def _definitions(version: str) -> Registry[Any]:
    path = _SCHEMAS / f"v{version}.0-local-strict" / "_definitions.json"
    resource = Resource.from_contents(json.loads(path.read_text()))
    return resource @ Registry()


@functools.cache
def _core_validator(version: str, api: str, kind: str) -> Any:
    group, _, tail = api.rpartition("/")
    stem = f"{group.split('.')[0]}-{tail}" if group else tail
    path = _SCHEMAS / f"v{version}.0-local-strict" / f"{kind.lower()}-{stem}.json"
    schema = json.loads(path.read_text())
    return jsonschema.Draft202012Validator(schema, registry=_definitions(version))


@functools.cache
def _crds() -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) -> strict JSON Schema of the custom resource."""
    folder = Path(os.environ.get("SEAWALL_CRDS", ROOT.parent / "shared" / "data" / "crds"))
    assert folder.is_dir(), (
        f"{folder}: no CRDs to validate against; set SEAWALL_CRDS to a folder that has them"
    )
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    out: dict[tuple[str, str], Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        for doc in yaml.load_all(path.read_text(), Loader=loader):
            if doc and doc.get("kind") == "CustomResourceDefinition":
                for version in doc["spec"]["versions"]:
                    key = f"{doc['spec']['group']}/{version['name']}", doc["spec"]["names"]["kind"]
                    out[key] = version["schema"]["openAPIV3Schema"]
    return out


def _strict(schema: Any, top: bool = False) -> Any:
    """An OpenAPI v3 structural schema as JSON Schema that refuses unknown fields."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {k: v for k, v in schema.items() if not k.startswith("x-") and k not in ("description", "format")}
    for key in ("properties",):
        if key in out:
            out[key] = {name: _strict(part) for name, part in out[key].items()}
            if not schema.get("x-kubernetes-preserve-unknown-fields"):
                out.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties", "not"):
        if key in out:
            out[key] = _strict(out[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in out:
            # The parts restrict values; the fields themselves are declared outside.
            out[key] = [_open(part) for part in out[key]]
    if top:
        text = {"type": "string"}
        out["properties"].update(metadata={"type": "object"}, apiVersion=text, kind=text)
    return out


def _open(schema: Any) -> Any:
    return {k: v for k, v in schema.items() if not k.startswith("x-")} if isinstance(schema, dict) else schema


@functools.cache
def _custom_validator(api: str, kind: str) -> Any:
    crds = _crds()
    assert (api, kind) in crds, f"{api} {kind} is neither a Kubernetes kind nor one of the CRDs"
    return jsonschema.Draft202012Validator(_strict(crds[api, kind], top=True))


def is_core(api: str) -> bool:
    return "." not in api.partition("/")[0] or (
        api.partition("/")[0].endswith(".k8s.io")
        and (
            api.partition("/")[0]
            in (
                "rbac.authorization.k8s.io",
                "networking.k8s.io",
                "discovery.k8s.io",
                "scheduling.k8s.io",
                "storage.k8s.io",
            )
        )
    )


def check(obj: Object, versions: tuple[str, ...] = VERSIONS) -> None:
    """AssertionError with the path when `obj` is not what the API server's schema asks for."""
    api, kind = obj["apiVersion"], obj["kind"]
    validators = (
        [(v, _core_validator(v, api, kind)) for v in versions]
        if is_core(api)
        else [("crd", _custom_validator(api, kind))]
    )
    _no_nulls(obj, f"{kind}/{obj['metadata']['name']}")
    for version, validator in validators:
        for error in validator.iter_errors(obj):
            where = ".".join(map(str, error.absolute_path))
            raise AssertionError(
                f"{version} {kind}/{obj['metadata']['name']}: {where}: {error.message[:300]}"
            )


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
    return _crds()


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
