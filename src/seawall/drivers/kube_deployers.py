"""The tool that deploys an object by a description of its own, told by the signs that it leaves on it.

Argo CD, Flux and Helm make of an object what their own source says, again and again, and delete what leaves it: whoever
writes beside them is undone, and whoever lists their objects as his own deletes them one day. Nothing is asked of the
cluster here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
_NOTES = {
    "meta.helm.sh/release-name": "Helm (release {})",
    "argocd.argoproj.io/instance": "Argo CD (application {})",
    "kustomize.toolkit.fluxcd.io/name": "Flux (Kustomization {})",
    "helm.toolkit.fluxcd.io/name": "Flux (HelmRelease {})",
}
"""Label or annotation -> the tool, with what it holds."""
TRACKING = "argocd.argoproj.io/tracking-id"
_MANAGERS = {
    "argocd-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
}
"""Field manager -> the tool."""


def deployer_of(obj: Object | None) -> str:
    """`Argo CD (application llm)`; empty where the object has no such sign."""
    meta = (obj or {}).get("metadata") or {}
    notes = {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
    application = _tracked(obj or {}, notes)
    if application:
        return f"Argo CD (application {application})"
    # Flux installs charts by Helm's own code: the HelmRelease is what has to be changed.
    found = [text.format(notes[key]) for key, text in _NOTES.items() if notes.get(key)]
    if found:
        return found[-1]
    return next((tool for m in meta.get("managedFields") or [] if (tool := _managing(m))), "")


def _tracked(obj: Object, notes: Mapping[str, Any]) -> str:
    """The application of a tracking id, where it is this very object's: a copy of the object carries it, too."""
    parts = str(notes.get(TRACKING) or "").split(":")
    kind, name = str(obj.get("kind")), str((obj.get("metadata") or {}).get("name"))
    if len(parts) < 3 or parts[-1].rpartition("/")[2] != name or parts[-2].rpartition("/")[2] != kind:
        return ""
    return parts[0]


def _managing(entry: Mapping[str, Any]) -> str:
    return "" if entry.get("subresource") else _MANAGERS.get(str(entry.get("manager")), "")
