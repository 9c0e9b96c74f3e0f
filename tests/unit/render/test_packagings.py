"""All examples in all packagings: the real tools accept them, and every object in them is valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.operator.manifests import operator_manifests
from seawall.render.inputs import Rendering
from seawall.render.packaging.gitops import WAVE, Repository
from seawall.render.packaging.package import Packaging, package, stream

REPOSITORY = Repository(url="https://git.example.com/llm/deploy")
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(text: str) -> list[Any]:
    return [d for d in yaml.load_all(text, Loader=Loader) if d]


def write(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def keyed(objects: Any) -> dict[tuple[str, str], Any]:
    out = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    assert len(out) == len(list(objects)), "two objects have one kind and name"
    return out


def pack(rendering: Rendering, packaging: Packaging) -> dict[str, str]:
    return package(rendering, packaging, REPOSITORY)


def test_plain_files_hold_every_object_and_are_valid(
    rendering: Rendering, valid: Callable[..., None]
) -> None:
    objects = documents("".join(pack(rendering, "plain").values()))
    assert keyed(objects) == keyed(rendering.objects)
    assert documents(stream(rendering)) == list(rendering.objects)
    for obj in objects:
        valid(obj)


def test_kustomize_builds_base_and_overlays(
    rendering: Rendering, tmp_path: Path, run: Callable[..., str], valid: Callable[..., None]
) -> None:
    folder = write(pack(rendering, "kustomize"), tmp_path)
    base = documents(run("kubectl", "kustomize", str(folder / "base")))
    assert keyed(base) == keyed(rendering.objects)
    for overlay in sorted((folder / "overlays").iterdir()):
        built = keyed(documents(run("kubectl", "kustomize", str(overlay))))
        for obj in built.values():
            valid(obj, ("1.37",))
        if overlay.name == "dev":
            assert not any(kind == "PrometheusRule" for kind, _ in built)
        if overlay.name == "prod":
            pods = [o["spec"]["template"]["spec"] for (kind, _), o in built.items() if kind == "Deployment"]
            assert all("priorityClassName" in pod for pod in pods)
    assert {"dev", "prod"} <= {p.name for p in (folder / "overlays").iterdir()}


def said_next(rendering: Rendering) -> str:
    from seawall.cli.render import next_command

    return next_command("helm", Path("deploy"), rendering.group)


def test_helm_chart_with_defaults_equals_the_plain_objects(
    rendering: Rendering, tmp_path: Path, run: Callable[..., str]
) -> None:
    folder = write(pack(rendering, "helm"), tmp_path)
    run("helm", "lint", "--strict", str(folder))
    assert "--create-namespace" in said_next(rendering), "the chart makes none, and its objects need theirs"
    ours = ["--set", "createNamespace=true"]
    assert keyed(documents(run("helm", "template", "x", str(folder), *ours))) == keyed(rendering.objects)
    made = keyed(documents(run("helm", "template", "x", str(folder))))
    assert made == {k: o for k, o in keyed(rendering.objects).items() if o["kind"] != "Namespace"}


HOLDS_MORE = ("Namespace", "PersistentVolumeClaim", "CustomResourceDefinition")
"""The namespace may hold the user's Secrets, the claim holds weights that were downloaded for hours, and with a
definition go all objects of its kind."""


def _stays(obj: dict[str, Any]) -> None:
    notes = obj["metadata"].get("annotations") or {}
    assert notes.get("helm.sh/resource-policy") == "keep", obj["kind"]
    assert notes.get("argocd.argoproj.io/sync-options") == "Prune=false,Delete=false"
    assert notes.get("kustomize.toolkit.fluxcd.io/prune") == "disabled"


def test_no_packaging_takes_away_what_is_not_only_ours(forms: dict[str, list[dict[str, Any]]]) -> None:
    for form, objects in forms.items():
        for obj in objects:
            assert obj["kind"] != "Secret", f"{form}: a Secret is its owner's to make, and to keep"
            if obj["kind"] in HOLDS_MORE:
                _stays(obj)


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_operators_objects_do_not_either(everywhere: bool) -> None:
    """Whatever installs them, a chart of the user's own or a GitOps controller, and is taken away again."""
    kept = [o for o in operator_manifests("seawall", everywhere=everywhere) if o["kind"] in HOLDS_MORE]
    assert len(kept) == 1 + everywhere
    for obj in kept:
        _stays(obj)


def test_kustomize_has_a_folder_of_what_may_be_deleted(
    rendering: Rendering, tmp_path: Path, run: Callable[..., str]
) -> None:
    folder = write(pack(rendering, "kustomize"), tmp_path)
    prod = keyed(documents(run("kubectl", "kustomize", str(folder / "overlays" / "prod"))))
    going = keyed(documents(run("kubectl", "kustomize", str(folder / "delete"))))
    assert going == {k: o for k, o in prod.items() if k[0] not in HOLDS_MORE}
    assert len(going) < len(prod)


def test_helm_knobs_turn_and_the_schema_refuses_wrong_ones(
    llama: str, group: Callable[..., Any], tmp_path: Path, run: Callable[..., str]
) -> None:
    from seawall.render.everything import render

    folder = write(pack(render(group(llama)), "helm"), tmp_path)
    off = "fleets.llama-70b.autoscaling.enabled=false,fleets.llama-70b.replicas=5,monitoring.enabled=false"
    image = "fleets.llama-70b.image=mirror/vllm:v0.32.0"
    objects = keyed(documents(run("helm", "template", "x", str(folder), "--set", off, "--set", image)))
    engine = objects["Deployment", "llama-70b"]["spec"]
    assert engine["replicas"] == 5
    assert engine["template"]["spec"]["containers"][0]["image"] == "mirror/vllm:v0.32.0"
    kinds = {kind for kind, _ in objects}
    assert not kinds & {"ScaledObject", "PrometheusRule", "PodMonitor"}
    with pytest.raises(AssertionError, match="additional properties"):
        run("helm", "template", "x", str(folder), "--set", "fleets.llama-70b.imgae=x")
    with pytest.raises(AssertionError, match=r"got string, want integer|Invalid type"):
        run("helm", "template", "x", str(folder), "--set", "gateway.min=many")
    for wrong in (
        "gateway.image=mirror/seawall:latest",
        "fleets.llama-70b.image=mirror/vllm",
        "fleets.llama-70b.autoscaling.min=0",
        "fleets.llama-70b.resources.memory=lots",
    ):
        with pytest.raises(AssertionError, match=r"does not match pattern|minimum|not. failed"):
            run("helm", "template", "x", str(folder), "--set", wrong)


def test_a_mirrored_gateway_image_reaches_the_loader_as_another_job(
    llama: str, group: Callable[..., Any], tmp_path: Path, run: Callable[..., str]
) -> None:
    """A Job cannot be changed, so `helm upgrade` with another image has to make another."""
    from seawall.render.everything import render

    rendering = render(group(llama))
    folder = write(pack(rendering, "helm"), tmp_path)
    image = "mirror.example.com:5000/seawall:1"
    objects = documents(run("helm", "template", "x", str(folder), "--set", f"gateway.image={image}"))
    (job,) = [o for o in objects if o["kind"] == "Job"]
    assert {c["image"] for c in job["spec"]["template"]["spec"]["containers"]} == {image}
    (before,) = [o for o in rendering.objects if o["kind"] == "Job"]
    assert job["metadata"]["name"].startswith(before["metadata"]["name"] + "-")
    assert len(job["metadata"]["name"]) <= 63


def test_the_on_demand_floor_is_no_knob(llama: str, group: Callable[..., Any], tmp_path: Path) -> None:
    """The scaler's query takes the floor's replicas off the demand: both come from the Fleet."""
    from seawall.render.everything import render

    text = llama.replace("cloud: gke", "cloud: gke, spot: {onDemandFloor: 1}")
    values = pack(render(group(text)), "helm")["values.yaml"]
    assert "floor" not in values


def test_argocd_syncs_in_waves_and_leaves_replicas_alone(
    rendering: Rendering, valid: Callable[..., None]
) -> None:
    files = pack(rendering, "argocd")
    (application,) = documents(files["application.yaml"])
    valid(application)
    wave: dict[str, int] = {}
    for name, text in files.items():
        for obj in documents(text) if name.startswith("manifests/") else []:
            valid(obj, ("1.37",))
            wave[obj["kind"]] = int(obj["metadata"]["annotations"][WAVE])
    assert wave.get("Namespace", -5) < wave["ConfigMap"] < wave["Deployment"]
    assert wave.get("Job", -2) == wave.get("PersistentVolumeClaim", -2) < wave["Deployment"]
    ignored = {(i["kind"], i["name"]) for i in application["spec"]["ignoreDifferences"]}
    for obj in rendering.objects:
        if obj["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            ref = obj["spec"]["scaleTargetRef"]
            assert (ref["kind"], ref["name"]) in ignored


def test_flux_waits_for_the_rollout(rendering: Rendering, valid: Callable[..., None]) -> None:
    files = pack(rendering, "flux")
    source, kustomization = documents(files["flux.yaml"])
    valid(source)
    valid(kustomization)
    assert kustomization["spec"]["sourceRef"] == {"kind": source["kind"], "name": source["metadata"]["name"]}
    deployments = {o["metadata"]["name"] for o in rendering.objects if o["kind"] == "Deployment"}
    assert {c["name"] for c in kustomization["spec"]["healthChecks"]} == deployments


def test_flux_reads_oci_artifacts(llama: str, group: Callable[..., Any], valid: Callable[..., None]) -> None:
    from seawall.render.everything import render

    repository = Repository(url="oci://registry.example.com/deploy", revision="v1")
    source, _ = documents(package(render(group(llama)), "flux", repository)["flux.yaml"])
    valid(source)
    assert source["kind"] == "OCIRepository"


def test_values_say_no_more_than_the_schema_allows(rendering: Rendering) -> None:
    files = pack(rendering, "helm")
    import jsonschema

    jsonschema.validate(yaml.safe_load(files["values.yaml"]), json.loads(files["values.schema.json"]))
