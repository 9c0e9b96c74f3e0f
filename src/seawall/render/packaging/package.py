"""The five packagings: which files a rendering becomes. The objects are the same in all of them."""

from __future__ import annotations

from typing import Literal, assert_never

from seawall.render.inputs import Rendering
from seawall.render.packaging.files import plain_files
from seawall.render.packaging.gitops import Repository, argocd_files, flux_files
from seawall.render.packaging.helm import chart_files
from seawall.render.packaging.kustomize import kustomize_files
from seawall.render.yaml import dump_all

Packaging = Literal["plain", "kustomize", "helm", "argocd", "flux"]


def package(rendering: Rendering, packaging: Packaging, repository: Repository) -> dict[str, str]:
    """File name -> text, in the order in which a person should read them."""
    match packaging:
        case "plain":
            return plain_files(rendering.objects)
        case "kustomize":
            return kustomize_files(rendering, plain_files(rendering.objects))
        case "helm":
            return chart_files(rendering)
        case "argocd":
            return argocd_files(rendering, repository)
        case "flux":
            return flux_files(rendering, repository)
        case _:
            assert_never(packaging)


def stream(rendering: Rendering) -> str:
    """All plain objects as one text, for a pipe into kubectl: in the order of application."""
    return dump_all(rendering.objects)
