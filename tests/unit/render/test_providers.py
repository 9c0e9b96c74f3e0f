"""What brings each kind that we render, and that whoever lacks it is told a command which does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from seawall.domain.catalog.providers import PROVIDERS, cure_of, provider_of
from seawall.operator.kinds import optional
from seawall.render.notes import needed_first
from seawall.render.packaging.prereqs import commands

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.yaml"))
ROUTES = {
    "gateway.networking.k8s.io/v1": "HTTPRoute",
    "inference.networking.k8s.io/v1": "InferencePool",
    "networking.istio.io/v1": "VirtualService",
    "leaderworkerset.x-k8s.io/v1": "LeaderWorkerSet",
}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_every_optional_kind_that_is_rendered_has_a_provider(path: Path) -> None:
    objects = [o for o in yaml.safe_load_all(path.read_text()) if o]
    assert all(provider_of(version) for version, _ in optional(objects))


@pytest.mark.parametrize(("version", "kind"), ROUTES.items())
def test_what_no_chart_installs_is_installed_by_a_command_that_is_told_everywhere(
    version: str, kind: str
) -> None:
    told = PROVIDERS[version.partition("/")[0]].by_hand
    assert told in needed_first([{"apiVersion": version, "kind": kind}])
    assert "install.sh" not in needed_first([{"apiVersion": version, "kind": kind}]), (
        "its script leaves it out"
    )
    assert told in cure_of(version)
    assert f"# {told}" in commands()


def test_the_cure_of_a_missing_fleet_definition_is_our_own_command() -> None:
    assert "seawall operator manifests --crd-only" in cure_of("seawall.dev/v1alpha1")
