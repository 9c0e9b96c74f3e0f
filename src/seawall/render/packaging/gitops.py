"""Argo CD and Flux: the plain objects under `manifests/`, and the object that syncs them from a repository."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from seawall.render.inputs import Object, Rendering
from seawall.render.lifecycle import progress_deadline_s
from seawall.render.packaging.files import plain_files
from seawall.render.replica.workload import kind_of, scaled
from seawall.render.yaml import dump, dump_all

WAVES = {
    "Namespace": -5,
    "ServiceAccount": -4,
    "Role": -4,
    "RoleBinding": -4,
    "ConfigMap": -4,
    "NetworkPolicy": -3,
    "Service": -3,
    # One wave: a claim that waits for its first consumer would hold up a wave before it for ever.
    "PersistentVolumeClaim": -2,
    "Job": -2,
    "ScaledObject": 1,
    "HorizontalPodAutoscaler": 1,
    "HTTPRoute": 2,
    "VirtualService": 2,
    "DestinationRule": 2,
    "InferencePool": 2,
    "Ingress": 2,
}
WAVE = "argocd.argoproj.io/sync-wave"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where a GitOps controller finds the objects. An `oci://` URL is an OCI artifact (Flux only)."""

    url: str
    revision: str = "main"
    path: str = ""
    """Default: `<gateway>/manifests`."""


def _path(rendering: Rendering, repository: Repository) -> str:
    return (repository.path or f"{rendering.group.gateway}/manifests").strip("/")


def scaled_workloads(rendering: Rendering) -> list[tuple[str, str, str]]:
    """(group, kind, name) of everything whose replicas belong to a scaler."""
    out = [("apps", "Deployment", rendering.group.gateway)]
    for wanted in rendering.group.members:
        half = scaled(wanted)
        if half:
            api, kind = kind_of(wanted)
            out.append((api.partition("/")[0], kind, half.name))
    return out


def argocd_files(rendering: Rendering, repository: Repository) -> dict[str, str]:
    waved = []
    for obj in rendering.objects:
        obj = copy.deepcopy(obj)
        wave = WAVES.get(obj["kind"], 0)
        obj["metadata"].setdefault("annotations", {})[WAVE] = str(wave)
        waved.append(obj)
    out = {"application.yaml": dump(application(rendering, repository))}
    return out | {f"manifests/{name}": text for name, text in plain_files(waved).items()}


def application(rendering: Rendering, repository: Repository) -> Object:
    group = rendering.group
    ignore = [
        {"group": api, "kind": kind, "name": name, "jsonPointers": ["/spec/replicas"]}
        for api, kind, name in scaled_workloads(rendering)
    ]
    spec: Object = {
        "project": "default",
        "source": {
            "repoURL": repository.url,
            "targetRevision": repository.revision,
            "path": _path(rendering, repository),
        },
        "destination": {"server": "https://kubernetes.default.svc", "namespace": group.namespace},
        "syncPolicy": {
            "automated": {"prune": True, "selfHeal": True},
            "syncOptions": [
                "ServerSideApply=true",
                # Without it a sync still writes what the diff was told to ignore.
                "RespectIgnoreDifferences=true",
                "PruneLast=true",
            ],
            "retry": {"limit": 5, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "5m"}},
        },
        "ignoreDifferences": ignore,
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": group.gateway,
            "namespace": "argocd",
            "finalizers": ["resources-finalizer.argocd.argoproj.io"],
        },
        "spec": spec,
    }


def flux_files(rendering: Rendering, repository: Repository) -> dict[str, str]:
    out = {"flux.yaml": dump_all(flux_objects(rendering, repository))}
    return out | {f"manifests/{name}": text for name, text in plain_files(rendering.objects).items()}


def flux_objects(rendering: Rendering, repository: Repository) -> list[Object]:
    """A source and a Kustomization that waits until the rollout has happened. Flux applies server-side and
    leaves fields alone that are not in the manifests, `replicas` among them."""
    group = rendering.group
    metadata = {"name": group.gateway, "namespace": "flux-system"}
    source: Object
    if repository.url.startswith("oci://"):
        source = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "OCIRepository",
            "metadata": dict(metadata),
            "spec": {"interval": "5m", "url": repository.url, "ref": {"tag": repository.revision}},
        }
    else:
        source = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": dict(metadata),
            "spec": {"interval": "5m", "url": repository.url, "ref": {"branch": repository.revision}},
        }
    checks = [
        {
            "apiVersion": o["apiVersion"],
            "kind": "Deployment",
            "name": o["metadata"]["name"],
            "namespace": group.namespace,
        }
        for o in rendering.objects
        if o["kind"] == "Deployment"
    ]
    longest = max(progress_deadline_s(w.plan) for w in group.members)
    kustomization: Object = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": dict(metadata),
        "spec": {
            "interval": "10m",
            "retryInterval": "2m",
            "timeout": f"{-(-longest // 60) + 5}m",
            "prune": True,
            "sourceRef": {"kind": source["kind"], "name": group.gateway},
            "path": f"./{_path(rendering, repository)}",
            "healthChecks": checks,
        },
    }
    return [source, kustomization]
